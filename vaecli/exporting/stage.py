"""`vaecli.export`: a run's weights as encoder.onnx and decoder.onnx, and a prior fitted to its latents as prior.onnx.

Nothing is written before all of it agrees with PyTorch.

PyTorch is imported once everything that can be refused without it has been checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from vaecli.config import RUN, TrainedPrior
from vaecli.errors import UsageError, VaeError, check_choice
from vaecli.events import Note, OnEvent, ignore
from vaecli.extras import require_runtime, require_training
from vaecli.model_format import LARGEST_FITTED, OPSET, PriorSummary
from vaecli.run_folder import RunFolder, RunRecord

if TYPE_CHECKING:
    from vaecli.exporting.held_out import HeldOutCheck
    from vaecli.exporting.posteriors import TrainingPictures

WeightsChoice: TypeAlias = Literal["best", "last"]
PriorFit: TypeAlias = Literal["auto", "mixture", "normal"]

# The difference from PyTorch's value v that is allowed: ABSOLUTE + RELATIVE · |v|, in float32.
ABSOLUTE, RELATIVE = 1e-5, 1e-4


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, and the largest difference between ONNX Runtime and PyTorch for each output."""

    encoder: Path
    decoder: Path
    prior: Path | None  # None: N(0, I)
    prior_summary: PriorSummary | None
    trained_prior: TrainedPrior
    max_abs_difference: dict[str, float]
    opset: int
    epoch: int  # of the weights
    providers: tuple[str, ...] = ("CPUExecutionProvider",)  # of ONNX Runtime, where the differences were looked for
    held_out: HeldOutCheck | None = None  # None: the pictures of the training are not on this machine
    reference: int = 0  # held-out pictures whose statistics are in the files, for `vae score`; 0: none


def export(
    run: str | Path = RUN,
    *,
    weights: WeightsChoice = "best",
    prior: PriorFit = "auto",
    data: str | None = None,
    data_dir: str | None = None,
    atol: float = ABSOLUTE,
    rtol: float = RELATIVE,
    on_event: OnEvent = ignore,
) -> ExportResult:
    """Export the training in the folder `run` to ONNX, and check its graphs against PyTorch.

    `weights` are those of the best epoch or of the last one. `prior` mixture fits a mixture of Gaussians to the latents
    of the training pictures; normal leaves the prior at N(0, I); auto fits where the pictures are on this machine.
    Where no mixture is better, the prior stays N(0, I). `data` is where the pictures of the training are now, if
    they have moved, and `data_dir` the folder of a named data set.

    Statistics of held-out pictures are measured, too, where they are on this machine: `vae score` compares with them.

    Raises:
        ParityError: a graph differs by more than `atol` + `rtol` · |PyTorch's value|, or the loss of held-out pictures
            from PyTorch's or from the recorded one by more than `exporting.held_out` allows; the old files stay.
        VaeError: there is no training, or it still runs; a package is missing; a file is damaged or cannot be written;
            the pictures for a `prior` mixture are not there.
    """
    check_choice("weights", weights, WeightsChoice)
    check_choice("prior", prior, PriorFit)
    folder = RunFolder(run)
    record = _with_data(folder.read_record(), data, data_dir)
    require_training("vae export")
    require_runtime("vae export")
    from vaecli.exporting.convert import export_pair
    from vaecli.exporting.parity import Tolerance
    from vaecli.training.checkpoint import load_weights

    with folder.locked():
        chosen = load_weights(folder.best if weights == "best" else folder.checkpoint)
        pictures = _training_pictures(record, prior, on_event)
        checked = export_pair(chosen, record, folder, Tolerance(atol, rtol), pictures, on_event)
    fitted = checked.prior
    if pictures is not None and fitted is None:
        better = "no mixture is better than N(0, I) on latents of pictures that it was not fitted to"
        on_event(Note(f"{better}: no prior.onnx is written"))
    return ExportResult(
        encoder=folder.encoder,
        decoder=folder.decoder,
        prior=folder.prior if fitted is not None else None,
        prior_summary=fitted,
        trained_prior=record.config.model.prior,
        max_abs_difference=checked.differences,
        opset=OPSET,
        epoch=chosen.epoch,
        providers=checked.providers,
        held_out=checked.held_out,
        reference=len(checked.reference) if checked.reference else 0,
    )


def _with_data(record: RunRecord, source: str | None, data_dir: str | None) -> RunRecord:
    """The training's record, with the place where its pictures are now."""
    from vaecli.datasets import located

    data = record.config.data
    if source is not None:
        data = msgspec.structs.replace(data, source=located(source))
    if data_dir is not None:
        data = msgspec.structs.replace(data, dir=data_dir)
    return msgspec.structs.replace(record, config=msgspec.structs.replace(record.config, data=data))


def _training_pictures(record: RunRecord, prior: PriorFit, on_event: OnEvent) -> TrainingPictures | None:
    """The pictures to fit a prior to; None where none is wanted, or `auto` does not find them and says so."""
    vamp = record.config.model.prior == "vamp"
    if prior == "normal" and vamp:
        raise UsageError("`prior` normal: the model was trained with a VampPrior, not with N(0, I)", "leave it out")
    if prior == "normal":
        return None
    from vaecli import datasets
    from vaecli.datasets.catalogue import NAMED
    from vaecli.exporting.posteriors import TrainingPictures
    from vaecli.training.network import latent_dim

    data = record.config.data
    try:
        if latent_dim(record.config.model, record.data.image_shape) > LARGEST_FITTED:
            raise VaeError(f"no mixture for more than {LARGEST_FITTED} latent dimensions", "use `prior` normal")
        if not datasets.is_here(data):
            named = data.source in NAMED
            remedy = "the folder of data sets with `data_dir`" if named else "the place where they are now with `data`"
            raise VaeError(f"{data.source} is not on this machine", f"name {remedy}")
        found = datasets.load(data)
        if found.hash != record.data.hash:
            raise VaeError(f"{data.source} has other pictures than at the training", "train anew, or bring them back")
    except VaeError as error:
        if prior == "mixture":
            raise VaeError(f"`prior` mixture: {error.message}", error.hint) from error
        if vamp:
            problem = f"the prior of this model is fitted to the latents of its training pictures: {error.message}"
            raise VaeError(problem, error.hint) from error
        on_event(Note(f"the prior stays N(0, I), for no mixture was fitted: {error.message}", warning=True))
        return None
    return TrainingPictures(found.train, found.held_out, data.binarize, record.config.training.seed or 0)

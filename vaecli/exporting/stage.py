"""`vaecli.export`: a run's weights as encoder.onnx and decoder.onnx, and priors fitted to its latents beside them.

Nothing is written before it agrees with PyTorch. A flow takes minutes, so the other files are written before it.

PyTorch is imported once everything that can be refused without it has been checked.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from vaecli.config import RUN, check_prior
from vaecli.errors import UsageError, VaeError, check_choice, check_count
from vaecli.events import Note, OnEvent, warn
from vaecli.exporting.result import ExportResult
from vaecli.extras import require_runtime, require_training
from vaecli.model_format import LARGEST_FITTED
from vaecli.run_folder import RunFolder, RunRecord

if TYPE_CHECKING:
    from vaecli.datasets import Dataset

WeightsChoice: TypeAlias = Literal["best", "last"]
PriorFit: TypeAlias = Literal["auto", "mixture", "flow", "normal"]

FLOW_STEPS, MOST_FLOW_STEPS = 4500, 10**7
MANY_NUMBERS = 256  # of a latent that is a map: `auto` fits a flow, as samples of a mixture would show few things

# The difference from PyTorch's value v that is allowed: ABSOLUTE + RELATIVE · |v|, in float32.
ABSOLUTE, RELATIVE = 1e-5, 1e-4


def export(
    run: str | Path = RUN,
    *,
    weights: WeightsChoice = "best",
    prior: PriorFit = "auto",
    flow_steps: int | None = None,
    data: str | Path | None = None,
    held_out: str | Path | None = None,
    data_dir: str | Path | None = None,
    atol: float = ABSOLUTE,
    rtol: float = RELATIVE,
    on_event: OnEvent = warn,
) -> ExportResult:
    """Export the training in the folder `run` to ONNX, and check its graphs against PyTorch.

    `weights` are those of the best epoch or of the last one. `prior` mixture fits a mixture of Gaussians to the latents
    of the training pictures; normal leaves the prior at N(0, I). Where no mixture is better, the prior stays N(0, I).
    `prior` flow also trains a flow-matching model on the latents, in at most `flow_steps` steps (FLOW_STEPS): it draws
    the samples; bounds have the mixture. `prior` auto fits a mixture where the pictures are on this machine, and a
    flow, too, if the latent is a map of MANY_NUMBERS or more. It keeps an earlier flow of the same weights. Else an
    earlier flow is removed.

    `data` and `held_out` are where the pictures of the training are now, if they have moved, and `data_dir` is the
    folder of a named data set.

    Statistics of held-out pictures are measured, too, where they are on this machine: `vae score` compares with them.

    Raises:
        ParityError: a graph differs by more than `atol` + `rtol` · |PyTorch's value|, or the loss of held-out pictures
            from PyTorch's or from the recorded one by more than `exporting.held_out` allows; the old files stay.
        Interrupted: Ctrl-C during the fit of a flow; the model is exported without it.
        VaeError: there is no training, or it still runs; a package is missing; a file is damaged or cannot be written;
            the pictures for a `prior` mixture or flow are not there.
    """
    check_choice("weights", weights, WeightsChoice)
    check_choice("prior", prior, PriorFit)
    if flow_steps is not None and prior != "flow":
        raise UsageError(f"`flow_steps` {flow_steps}: only for `prior` flow", "add `prior` flow")
    flow_steps = FLOW_STEPS if flow_steps is None else flow_steps
    check_count("flow_steps", flow_steps, 1, "more take longer and draw better")
    if flow_steps > MOST_FLOW_STEPS:
        raise UsageError(f"`flow_steps` {flow_steps}: more than {MOST_FLOW_STEPS:,}", "some thousand are enough")
    folder = RunFolder(run)
    record = _with_data(folder.read_record(), data, held_out, data_dir)
    check_prior(prior, record.config.model.prior)
    require_training("vae export")
    require_runtime("vae export")
    from vaecli.exporting.convert import export_pair
    from vaecli.exporting.parity import Tolerance
    from vaecli.training.checkpoint import load_weights
    from vaecli.training.network import latent_shape

    with folder.locked():
        if not folder.has_weights:
            raise folder.no_epoch
        chosen = load_weights(folder.best if weights == "best" else folder.checkpoint)
        dataset, why_missing = None, None
        try:
            dataset = _dataset(record, on_event)
        except VaeError as error:
            if data is not None or held_out is not None:  # they are named: a model without them is not what is wanted
                raise
            why_missing = error
        if prior == "auto" and why_missing is not None and folder.prior.exists():
            problem = f"{folder.prior} would be removed: no prior can be fitted now, as {why_missing.message}"
            raise VaeError(problem, f"{why_missing.hint}; `prior` normal exports without one")
        fits = prior != "normal" and _can_fit(record, prior, why_missing, on_event)
        shape = latent_shape(record.config.model, record.data.image_shape)
        large_map = len(shape) > 1 and math.prod(shape) >= MANY_NUMBERS
        fits_flow = prior == "flow" or (prior == "auto" and large_map and dataset is not None)
        result = export_pair(
            chosen,
            record,
            folder,
            Tolerance(atol, rtol),
            dataset,
            fits_prior=fits,
            flow_steps=flow_steps if fits_flow else 0,
            keeps_flow=prior == "auto",
            on_event=on_event,
        )
    if fits and result.prior is None:
        better = "no mixture is better than N(0, I) on latents of pictures that it was not fitted to"
        on_event(Note(f"{better}: no prior.onnx is written"))
    if why_missing is not None:
        on_event(Note(f"no statistics of held-out pictures for vae score: {why_missing.message}"))
    return result


def _with_data(
    record: RunRecord, source: str | Path | None, held_out: str | Path | None, data_dir: str | Path | None
) -> RunRecord:
    """The training's record, with the place where its pictures are now.

    Raises UsageError for `held_out` where the training had none.
    """
    from vaecli.datasets import located

    data = record.config.data
    if source is not None:
        data = msgspec.structs.replace(data, source=located(str(source)))
    if held_out is not None:
        if data.held_out is None:
            raise UsageError(f"`held_out` {held_out}: the training was not given such pictures", "leave it out")
        data = msgspec.structs.replace(data, held_out=located(str(held_out)))
    if data_dir is not None:
        data = msgspec.structs.replace(data, dir=str(data_dir))
    return msgspec.structs.replace(record, config=msgspec.structs.replace(record.config, data=data))


def _dataset(record: RunRecord, on_event: OnEvent) -> Dataset:
    """The pictures of the training. Raises VaeError where they are not on this machine, or are others now.

    Where a folder has changed since, its pictures are those that the training prepared, if they are still kept.
    """
    from vaecli import datasets
    from vaecli.datasets.catalogue import NAMED

    data = record.config.data
    missing = datasets.missing_source(data)
    if missing is not None:
        flag = "`data`" if missing == data.source else "`held_out`"
        remedy = "the folder of data sets with `data_dir`" if missing in NAMED else f"their place now with {flag}"
        raise VaeError(f"{missing} is not on this machine", f"name {remedy}")
    found = datasets.load(data, on_event)
    if what := record.data.difference(found, conditional=record.config.model.conditional):
        changed = data.source if data.held_out is None else f"{data.source} or {data.held_out}"
        alone = what == "pictures" and data.held_out is None
        earlier = datasets.prepared_earlier(data, record.data.hash) if alone else None
        if earlier is not None and not record.data.difference(earlier, conditional=record.config.model.conditional):
            on_event(Note(f"{changed} has other {what} than at the training: those that were prepared for it are used"))
            return earlier
        raise VaeError(f"{changed} has other {what} than at the training", "train anew, or bring them back")
    return found


def _can_fit(record: RunRecord, prior: PriorFit, why_missing: VaeError | None, on_event: OnEvent) -> bool:
    """Whether a mixture can be fitted. Raises VaeError where what is asked for cannot; else says so and goes on."""
    from vaecli.training.network import latent_dim

    if prior == "flow" and why_missing is not None:
        raise VaeError(f"`prior` flow: {why_missing.message}", why_missing.hint) from why_missing
    problem = why_missing
    if latent_dim(record.config.model, record.data.image_shape) > LARGEST_FITTED:
        problem = VaeError(
            f"no mixture for more than {LARGEST_FITTED} latent dimensions", "use `prior` flow, or normal"
        )
    if problem is None:
        return True
    if prior == "mixture":
        raise VaeError(f"`prior` mixture: {problem.message}", problem.hint) from problem
    if record.config.model.prior == "vamp":
        needed = f"the prior of this model is fitted to the latents of its training pictures: {problem.message}"
        raise VaeError(needed, problem.hint) from problem
    on_event(Note(f"the prior stays N(0, I), because no mixture was fitted: {problem.message}", warning=True))
    return False

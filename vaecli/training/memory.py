"""Whether a training fits into memory: Linux ends a process that takes too much without saying why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from vaecli.config import Arithmetic, ModelConfig
from vaecli.errors import VaeError
from vaecli.model_format import MAX_PIXEL, ImageShape
from vaecli.processors import control_group_limits
from vaecli.training.device import give_back_freed_memory
from vaecli.training.learner import Learner
from vaecli.training.model import VAE
from vaecli.training.network import ARCHITECTURES

MEMORY = Path("/proc/meminfo")
REMEDY = (
    "use a smaller `batch_size` or `image_size`; with convolutions, a larger `patch` or a smaller `width`; with dense "
    "layers, a smaller `hidden`"
)
# In messages of the CPU's allocator, of CUDA (pinned memory, new contexts) and of cuBLAS.
OUT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED")
WITH_A_VAMP_PRIOR = "; with a VampPrior, fewer `pseudo_inputs`"


def check_weights(model: VAE, device: torch.device, precision: Arithmetic, *, averaged: bool) -> None:
    """Raise VaeError where what a training keeps for each weight surely takes more memory than there is.

    `averaged`: a moving average, too. A model that was just made takes no memory yet: its weights are not set.
    """
    give_back_freed_memory(device)  # an earlier training in this process may have kept some
    free = free_memory(device)
    if free is None:
        return
    count = sum(weight.numel() for weight in model.parameters())
    kept = 5 if averaged else 4  # the weight, its gradient, Adam's two means, the moving average
    needed = kept * count * (8 if precision == "float64" else 4)
    if needed > free:
        problem = f"the network has {_in_words(count)} weights, which take at least {needed / 1e9:,.1f} GB of memory"
        raise VaeError(f"{problem}, and {free / 1e9:,.1f} GB are free", _smaller(model.config, model.image_shape))


def _in_words(count: int) -> str:
    return f"{count / 1e9:,.1f} billion" if count >= 1e9 else f"{count / 1e6:,.1f} million"


def _smaller(model: ModelConfig, image_shape: ImageShape) -> str:
    """What makes a network for these pictures smaller."""
    fewer = WITH_A_VAMP_PRIOR if model.prior == "vamp" else ""
    if model.architecture == "conv":
        return "use a smaller `width`, `depth`, `map_size` or `latent_dim`" + fewer
    low, high = ARCHITECTURES["conv"].sides
    if max(image_shape[1:]) > high:
        return f"use a smaller `image_size`: up to {high} pixels a side, `architecture` conv takes the pictures" + fewer
    if min(image_shape[1:]) < low:
        return "use a smaller `image_size` or `hidden`" + fewer
    return "use `architecture` conv, or a smaller `image_size` or `hidden`" + fewer


def check_memory(learner: Learner, image: Tensor, label: Tensor | None, batch_size: int) -> None:
    """Raise VaeError where a step surely takes more memory than there is.

    `image` is a picture, uint8 (1, c, h, w), and `label` its class (1,). It counts what autograd keeps between the
    forward and the backward pass: for the pictures of a batch, for their latents, and for the learned pictures of a
    VampPrior. A step takes more than that.
    """
    free = free_memory(learner.device)
    if free is None:
        return
    model, training = learner.model, learner.config.training
    learned = 0 if model.pseudo_inputs is None else len(model.pseudo_inputs.logits)
    encoder, decoder = _kept(learner, image, label)
    needed = (batch_size + learned) * encoder + batch_size * training.importance_samples * decoder
    if needed > free:
        problem = f"a step takes at least {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free"
        raise VaeError(f"`batch_size` {batch_size}: {problem}", REMEDY + (WITH_A_VAMP_PRIOR if learned else ""))


def free_memory(device: torch.device) -> int | None:
    """Bytes that a process may still take, at most; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        facts = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        free = 1024 * sum(int(facts[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        return None
    return min([free, *(most for (most,) in control_group_limits("memory.max", 1))])


@contextmanager
def convert_out_of_memory(
    problem: str = "this training takes more memory than there is", remedy: str = REMEDY
) -> Iterator[None]:
    """Raise VaeError within the block where PyTorch cannot have the memory that it asks for."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(text in str(error) for text in OUT_OF_MEMORY):
            raise
        raise VaeError(problem, remedy) from error


def _kept(learner: Learner, image: Tensor, label: Tensor | None) -> tuple[int, int]:
    """Bytes that autograd keeps of one more picture in the encoder, and of one more latent after it."""
    model, noise, found = learner.model, learner.noise, []
    state, noise.part = noise.state(), None
    for count in (1, 2):
        x = image.to(learner.device, learner.dtype).repeat(count, 1, 1, 1) / MAX_PIXEL
        labels = None if label is None else label.to(learner.device).repeat(count)
        with torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.mixed):
            with _counted() as encoder:
                mean, _ = model.encode(x, noise, labels)
            latent = mean.detach().requires_grad_()
            with _counted() as decoder:
                model.reconstruction(model.decode(latent, noise, labels), x)
        found.append((sum(encoder.values()), sum(decoder.values())))
    noise.restore(state, learner.steps)
    return max(0, found[1][0] - found[0][0]), max(0, found[1][1] - found[0][1])


@contextmanager
def _counted() -> Iterator[dict[int, int]]:
    """The bytes that autograd keeps within the block, by their address: views share their memory."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        kept[memory.data_ptr()] = memory.nbytes()
        return tensor.detach()  # the tensor itself would keep its own graph, and both would never be freed

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept

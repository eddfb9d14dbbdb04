"""The fast path: the tutorial's kind of model, its forward and backward pass written out.

For dense layers, Bernoulli pixels and the ELBO. Autograd is not used. What is won on a CPU, in order: oneDNN's
products in place of MKL's, dropout masks from raw random bits, no bookkeeping and no cast of each tensor (parameters,
gradients and bfloat16 copies are views of flat vectors), Adam on one vector, one pass over the logits for loss and
gradient. On a GPU, where each operation costs a launch, there are fewer of them. Weights, moments, loss and
sums are float32 whatever the products are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli.config import Config
from vaecli.errors import first_line
from vaecli.metrics import LOG_FLOOR
from vaecli.training.flat import FlatParameters
from vaecli.training.learner import Learner
from vaecli.training.model import SMALLEST_STD, VAE
from vaecli.training.network import MLP, MLPDecoder, MLPEncoder

# --- products ----------------------------------------------------------------------------------------------------


class Products(Protocol):
    """The matrix products of a dense layer, by the library that is fast where they run."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
        """The activation, where one is named, of x @ weight.T + bias."""

    def input_gradient(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """Of the layer's input: gradient @ weight."""

    def weight_gradient_(self, out: Tensor, gradient: Tensor, x: Tensor) -> None:
        """Write gradient.T @ x, (outputs, inputs), into `out`."""


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation or "none", [], ""))


class OneDNN:
    """On a CPU: MKL's float32 product takes twice as long on AMD processors."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
        """See Products."""
        return _onednn(x, weight, bias, activation)

    def input_gradient(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """See Products."""
        return _onednn(gradient, weight.t())

    def weight_gradient_(self, out: Tensor, gradient: Tensor, x: Tensor) -> None:
        """See Products."""
        if x.dtype is torch.float32:
            out.copy_(_onednn(gradient.t(), x.t()))  # torch.mm would take MKL
        else:
            torch.mm(gradient.t(), x, out=out)


class CuBLAS:
    """On a GPU, by PyTorch's own choice of library."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor, activation: str | None) -> Tensor:
        """See Products."""
        y = torch.addmm(bias, x, weight.t())
        return y if activation is None else FUSED[activation](y)

    def input_gradient(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """See Products."""
        return gradient @ weight

    def weight_gradient_(self, out: Tensor, gradient: Tensor, x: Tensor) -> None:
        """See Products."""
        torch.mm(gradient.t(), x, out=out)


FUSED: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.ops.aten.tanh_, "relu": torch.ops.aten.relu_}


# --- a chain of dense layers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation:
    """An activation, `fused` with the product or applied in place, and its gradient from its output y."""

    fused: str | None
    apply_: Callable[[Tensor], Tensor] | None
    gradient: Callable[[Tensor, Tensor], Tensor]


def _elu_gradient(gradient: Tensor, y: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, y))


def _tanh_gradient(gradient: Tensor, y: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.aten.tanh_backward(gradient, y))


def _relu_gradient(gradient: Tensor, y: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.aten.threshold_backward(gradient, y, 0))


ACTIVATIONS: dict[Callable[[Tensor], Tensor], Activation] = {
    F.elu: Activation(None, torch.ops.aten.elu_, _elu_gradient),
    torch.tanh: Activation("tanh", None, _tanh_gradient),
    F.relu: Activation("relu", None, _relu_gradient),
}


@dataclass
class Layer:
    """One dense layer: its weights and where their gradients go, and what a forward pass leaves for the backward."""

    weight: Tensor  # (outputs, inputs)
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    activation: Activation | None = None
    x: Tensor | None = None
    y: Tensor | None = None  # after the activation, before dropout
    mask: Tensor | None = None


class DenseStack:
    """The forward and backward pass of an MLP. `scale` is what a kept unit is multiplied by."""

    def __init__(self, network: MLP, parameters: FlatParameters, products: Products) -> None:
        self.products = products
        self.widths: list[int] = []  # of the hidden layers, where dropout is
        self.layers: list[Layer] = []
        for index, module in enumerate(network.layers):
            assert isinstance(module, nn.Linear)
            layer = Layer(
                parameters.value(module.weight),
                parameters.value(module.bias),
                parameters.gradient(module.weight),
                parameters.gradient(module.bias),
            )
            if index < len(network.activations):
                layer.activation = ACTIVATIONS[network.activations[index]]
                self.widths.append(module.out_features)
            self.layers.append(layer)
        self._zero = self.layers[0].weight.new_zeros(())

    def _masked(self, mask: Tensor, x: Tensor, scale: float) -> Tensor:
        # One pass, and the scale stays float32: a mask of 1/0.9 in bfloat16 would be off by 0.16 %.
        return torch.addcmul(self._zero.expand_as(x), x, mask, value=scale)

    def forward(self, x: Tensor, masks: Sequence[Tensor] = (), scale: float = 1.0) -> Tensor:
        """(batch, inputs) -> (batch, outputs); `masks` of the hidden layers in order, none for no dropout."""
        for index, layer in enumerate(self.layers):
            activation = layer.activation
            y = self.products.linear(x, layer.weight, layer.bias, activation.fused if activation else None)
            if activation and activation.apply_:
                activation.apply_(y)
            layer.x, layer.y, layer.mask = x, y, masks[index] if index < len(masks) else None
            x = y if layer.mask is None else self._masked(layer.mask, y, scale)
        return x

    def backward(self, gradient: Tensor, scale: float, *, to_input: bool) -> Tensor:
        """Write the gradients of the last forward pass; return the input's, or, unasked, an unfinished one."""
        for index, layer in reversed(list(enumerate(self.layers))):
            assert layer.x is not None
            assert layer.y is not None
            if layer.mask is not None:
                gradient = self._masked(layer.mask, gradient, scale)
            if layer.activation:
                gradient = layer.activation.gradient(gradient, layer.y)
            self.products.weight_gradient_(layer.weight_gradient, gradient, layer.x)
            torch.sum(gradient, 0, out=layer.bias_gradient)
            if index or to_input:
                gradient = self.products.input_gradient(gradient, layer.weight)
        return gradient


# --- the loss ----------------------------------------------------------------------------------------------------


def bernoulli(logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of (samples · batch, p) and (batch, p), summed nats, and its gradient by the logits: float32."""
    logits = logits.float()
    reconstruction = F.softplus(logits).sum() - torch.mv(logits.view(-1, x.numel()), x.view(-1)).sum()
    gradient = torch.sigmoid(logits)
    gradient.view(-1, *x.shape).sub_(x)
    return reconstruction, gradient


class Posterior:
    """latent = mean + std * noise and the KL of q(z|x) from N(0, I), with their gradients, in float32."""

    def __init__(self, encoded: Tensor, noise: Tensor) -> None:
        self.mean, self._raw = encoded.float().chunk(2, 1)  # (batch, d) each
        self.std = F.softplus(self._raw).add_(SMALLEST_STD)
        self._noise = noise  # (samples, batch, d)
        self._variance = self.std.square()
        self.latent = torch.addcmul(self.mean, self.std, noise).flatten(0, 1)  # (samples · batch, d)

    def kl(self) -> Tensor:
        """½ Σ (mean² + std² - log(1e-8 + std²) - 1) in nats, summed over the batch."""
        terms = self.mean.square().add_(self._variance).sub_((self._variance + LOG_FLOOR).log_())
        return 0.5 * (terms.sum() - terms.numel())

    def backward(self, latent_gradient: Tensor, kl_weight: float | Tensor) -> Tensor:
        """The gradient by the encoder's output, (batch, 2·d), of the loss and kl_weight · the summed KL."""
        latent_gradient = latent_gradient.view(self._noise.shape)
        mean_gradient = (self.mean * kl_weight).add_(latent_gradient.sum(0))
        kl_gradient = (self.std - self.std / (self._variance + LOG_FLOOR)).mul_(kl_weight)
        std_gradient = kl_gradient.add_((latent_gradient * self._noise).sum(0))
        return torch.cat([mean_gradient, std_gradient.mul_(torch.sigmoid(self._raw))], 1)


# --- the learner -------------------------------------------------------------------------------------------------


class DenseLearner(Learner):
    """Learner.step with the gradients written out; everything else is Learner's."""

    path = "dense kernels"

    @staticmethod
    def serves(config: Config, device: torch.device, precision: str) -> bool:
        """Whether this path computes what the config asks for, on this machine."""
        model, training = config.model, config.training
        return (
            (device.type == "cuda" or _has_onednn())
            and precision in ("float32", "bfloat16")
            and (model.architecture, model.likelihood) == ("mlp", "bernoulli")
            and training.objective == "elbo"
            and not training.free_bits
        )

    def _flatten(self, model: VAE) -> FlatParameters:
        self.product_dtype = torch.bfloat16 if self.mixed else torch.float32
        parameters = FlatParameters(model, self.product_dtype)
        assert isinstance(model.encoder, MLPEncoder)
        assert isinstance(model.decoder, MLPDecoder)
        products = CuBLAS() if self.device.type == "cuda" else OneDNN()
        self.encoder = DenseStack(model.encoder.stack, parameters, products)
        self.decoder = DenseStack(model.decoder.stack, parameters, products)
        return parameters

    @torch.no_grad()
    def trial(self) -> str | None:
        """Compute one black image, changing nothing that lasts: why it fails, or None where it does not.

        The operators called here are PyTorch's own but not its public ones, and may be gone in another version.
        """
        try:
            pixels = self.encoder.layers[0].weight.shape[1]
            image, noise = (torch.zeros(1, size, device=self.device) for size in (pixels, self.model.latent_dim))
            self.gradients(image, (), 1.0, noise.unsqueeze(0))
            self.parameters.collect()
        except (RuntimeError, TypeError, AttributeError) as error:
            return first_line(error)
        return None

    @torch.no_grad()
    def backward(self, x: Tensor) -> Tensor:
        """Put the gradients of a batch (batch, c, h, w) in place; give its summed losses and terms, (3,)."""
        batch, samples = len(x), self.config.training.importance_samples
        widths = self.encoder.widths + [samples * width for width in self.decoder.widths]
        masks, scale = self.noise.masks(batch, widths, self.dropout, self.product_dtype)
        noise = self.noise.opposites(samples, torch.Size((batch, self.model.latent_dim)), torch.float32)
        losses = self.gradients(x.flatten(1), masks, scale, noise)
        self.parameters.collect()
        return losses

    def gradients(self, x: Tensor, masks: Sequence[Tensor], scale: float, noise: Tensor) -> Tensor:
        """The same for given masks of all hidden layers, of 0 and 1, and noise (samples, batch, d).

        A mask is of (batch, width) in the encoder and of (batch, samples · width) in the decoder, or a view of that.
        """
        split, rows, beta = len(self.encoder.widths), noise.shape[0] * noise.shape[1], self.dials.beta
        encoded = self.encoder.forward(x.to(self.product_dtype), masks[:split], scale)
        posterior = Posterior(encoded, noise)
        decoder_masks = [mask.view(rows, -1) for mask in masks[split:]]
        logits = self.decoder.forward(posterior.latent.to(self.product_dtype), decoder_masks, scale)
        reconstruction, gradient = bernoulli(logits, x)
        reconstruction = reconstruction / noise.shape[0]
        gradient = self.decoder.backward(gradient.div_(rows).to(self.product_dtype), scale, to_input=True)
        gradient = posterior.backward(gradient.float(), beta / len(x))
        self.encoder.backward(gradient.to(self.product_dtype), scale, to_input=False)
        kl = posterior.kl()
        return torch.stack((reconstruction + beta * kl, reconstruction, kl))

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.encoder.forward(x.flatten(1).to(self.product_dtype)).float().chunk(2, 1)
        return mean, SMALLEST_STD + F.softplus(raw)

    def _decode(self, latent: Tensor) -> Tensor:
        raw = self.decoder.forward(latent.to(self.product_dtype)).float()
        return raw.view(-1, *self.model.image_shape)

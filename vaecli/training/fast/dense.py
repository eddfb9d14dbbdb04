"""A step of the tutorial's kind of model, with forward and backward pass written out instead of autograd.

For dense layers, Bernoulli pixels and the ELBO. What makes it faster on a CPU, in order: the library of the matrix
products, dropout masks from raw random bits, no bookkeeping of autograd and no cast of each tensor (parameters,
gradients and bfloat16 copies are views of flat vectors), fewer passes over the logits. On a GPU it launches fewer
kernels. Weights, moments, loss and sums are float32, whatever the products are. `python -m tests.benchmarks.training`
times it beside autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaecli.config import Config
from vaecli.errors import first_line
from vaecli.model_format import KL_FLOOR
from vaecli.training.fast.products import Products, choose_products, has_onednn
from vaecli.training.flat import FlatParameters
from vaecli.training.functions import cross_entropy, elu, elu_, elu_gradient
from vaecli.training.learner import Learner
from vaecli.training.model import SMALLEST_POSTERIOR_STD, VAE
from vaecli.training.network import MLP, MLPDecoder, MLPEncoder, identity
from vaecli.training.objective import kl_divergence

# How far the kernels' gradients may be from float32 autograd's, as a share of their norm. bfloat16 has 8 bits.
FLOAT32_TOLERANCE, BFLOAT16_TOLERANCE = 1e-3, 0.05


PATH = "dense kernels, "  # and the library of the products


class KernelError(Exception):
    """Why the kernels do not run on this machine."""


# --- a chain of dense layers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActivationKernels:
    """An activation, `fused` with the product or applied in place, and its gradient computed from its output y."""

    fused: str | None
    apply_: Callable[[Tensor], Tensor] | None
    gradient: Callable[[Tensor, Tensor], Tensor]


def _tanh_gradient(gradient: Tensor, y: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.aten.tanh_backward(gradient, y))


def _relu_gradient(gradient: Tensor, y: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.aten.threshold_backward(gradient, y, 0))


KERNELS: dict[Callable[[Tensor], Tensor], ActivationKernels] = {
    elu: ActivationKernels(None, elu_, elu_gradient),
    torch.tanh: ActivationKernels("tanh", None, _tanh_gradient),
    F.relu: ActivationKernels("relu", None, _relu_gradient),
    identity: ActivationKernels(None, None, lambda gradient, y: gradient),
}


@dataclass
class Layer:
    """One dense layer: weights, their gradients, and what the backward pass needs of the forward pass."""

    weight: Tensor  # (outputs, inputs)
    bias: Tensor  # (outputs,)
    weight_gradient: Tensor  # (outputs, inputs)
    bias_gradient: Tensor  # (outputs,)
    activation: ActivationKernels | None = None
    x: Tensor | None = None  # (batch, inputs)
    y: Tensor | None = None  # (batch, outputs), after the activation, before dropout
    mask: Tensor | None = None  # (batch, outputs), of 0 and 1


class DenseStack:
    """The forward and backward pass of an MLP. Dropout multiplies kept units by `scale`."""

    def __init__(self, network: MLP, parameters: FlatParameters, products: Products) -> None:
        self.products = products
        self.widths: list[int] = []  # of the hidden layers, which have dropout
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
                layer.activation = KERNELS[network.activations[index]]
                self.widths.append(module.out_features)
            self.layers.append(layer)
        self._zero = self.layers[0].weight.new_zeros(())

    def _masked(self, mask: Tensor, x: Tensor, scale: float) -> Tensor:
        # One pass, with a float32 scale: 1/0.9 rounded to bfloat16 is wrong by 0.16 %.
        return torch.addcmul(self._zero.expand_as(x), x, mask, value=scale)

    def forward(self, x: Tensor, masks: Sequence[Tensor] = (), scale: float = 1.0) -> Tensor:
        """(batch, inputs) -> (batch, outputs). `masks` of the hidden layers in order; none without dropout."""
        for index, layer in enumerate(self.layers):
            activation = layer.activation
            y = self.products.linear(x, layer.weight, layer.bias, activation.fused if activation else None)
            if activation and activation.apply_:
                activation.apply_(y)
            layer.x, layer.y, layer.mask = x, y, masks[index] if index < len(masks) else None
            x = y if layer.mask is None else self._masked(layer.mask, y, scale)
        return x

    def backward(self, gradient: Tensor, scale: float, *, to_input: bool) -> Tensor:
        """Write the gradients of weights and biases, given that of the output, (batch, outputs).

        Returns the gradient of the input, (batch, inputs), with `to_input`; otherwise it is not computed.
        """
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
    """Cross-entropy of logits (samples · batch, p) and x (batch, p): summed nats (), and its gradient; float32."""
    nats, gradient = cross_entropy(logits.float().view(-1, *x.shape), x)
    return nats.sum(), gradient.sub_(x).view(logits.shape)


class Posterior:
    """latent = mean + std · noise and the KL of q(z|x) from N(0, I), with their gradients, in float32.

    `encoded` is the encoder's output (batch, 2·d), `noise` (samples, batch, d).
    """

    def __init__(self, encoded: Tensor, noise: Tensor) -> None:
        self.mean, self._raw = encoded.float().chunk(2, 1)  # (batch, d) each
        self.std = F.softplus(self._raw).add_(SMALLEST_POSTERIOR_STD)
        self._noise = noise  # (samples, batch, d)
        self._variance = self.std.square()
        self.latent = torch.addcmul(self.mean, self.std, noise).flatten(0, 1)  # (samples · batch, d)

    def kl(self) -> Tensor:
        """In nats, summed over the batch: ()."""
        return kl_divergence(self.mean, self.std).sum()

    def backward(self, latent_gradient: Tensor, kl_weight: float | Tensor) -> Tensor:
        """The gradient of the encoder's output, (batch, 2·d), given that of the latents (samples · batch, d)."""
        latent_gradient = latent_gradient.view(self._noise.shape)
        mean_gradient = (self.mean * kl_weight).add_(latent_gradient.sum(0))
        kl_gradient = (self.std - self.std / (self._variance + KL_FLOOR)).mul_(kl_weight)
        std_gradient = kl_gradient.add_((latent_gradient * self._noise).sum(0))
        return torch.cat([mean_gradient, std_gradient.mul_(torch.sigmoid(self._raw))], 1)


# --- the learner -------------------------------------------------------------------------------------------------


class DenseLearner(Learner):
    """A Learner whose `backward` is written out."""

    @staticmethod
    def serves(config: Config, device: torch.device, precision: str) -> bool:
        """Whether these kernels can compute what the config asks for."""
        model, training = config.model, config.training
        return (
            (precision == "float32" or (precision == "bfloat16" and (device.type == "cuda" or has_onednn())))
            and (model.architecture, model.likelihood, model.prior) == ("mlp", "bernoulli", "normal")
            and not model.conditional
            and training.objective == "elbo"
            and not training.free_bits
        )

    def _flatten(self, model: VAE) -> FlatParameters:
        self.product_dtype = torch.bfloat16 if self.mixed else torch.float32
        parameters = FlatParameters(model, self.product_dtype)
        assert isinstance(model.encoder, MLPEncoder)
        assert isinstance(model.decoder, MLPDecoder)
        choose = partial(choose_products, self.device, self.product_dtype)
        products = choose(self.processes.share(lambda: choose(self.setup.recorded.removeprefix(PATH)).name))
        self.path = PATH + products.name
        self.encoder = DenseStack(model.encoder.stack, parameters, products)
        self.decoder = DenseStack(model.decoder.stack, parameters, products)
        return parameters

    def check_kernels(self) -> None:
        """Compare the gradients of random images with autograd's. Raises KernelError where they differ.

        Some operators are not part of PyTorch's public interface, and may change in another version.
        """
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(8, self.encoder.layers[0].weight.shape[1], generator=generator).to(self.device)
        noise = torch.randn(1, 8, self.model.latent_dim, generator=generator).to(self.device)
        try:
            with torch.no_grad():
                self.gradients(x, (), 1.0, noise, beta=1.0)
                self.parameters.collect()
        except (RuntimeError, TypeError, AttributeError) as error:
            raise KernelError(first_line(error)) from error
        found = self.parameters.gradients.clone()
        self.parameters.gradients.zero_()
        image = x.view(-1, *self.model.image_shape)
        mean, std = self.model.encode(image)
        reconstruction = self.model.reconstruction(self.model.decode(mean + std * noise[0]), image)
        (reconstruction + kl_divergence(mean, std).sum(1)).mean().backward()
        difference = (found - self.parameters.gradients).norm() / self.parameters.gradients.norm()
        self.parameters.gradients.zero_()
        if not difference < (BFLOAT16_TOLERANCE if self.mixed else FLOAT32_TOLERANCE):
            raise KernelError(f"their gradients differ from autograd's by {float(difference):.2g} of the norm")

    @torch.no_grad()
    def backward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """See Learner.backward."""
        batch, samples = len(x), self.config.training.importance_samples
        layers = [(1, width) for width in self.encoder.widths] + [(samples, width) for width in self.decoder.widths]
        masks, scale = self.noise.masks(batch, layers, self.config.model.dropout, self.product_dtype)
        noise = self.noise.antithetic(samples, torch.Size((batch, self.model.latent_dim)), torch.float32)
        losses = self.gradients(x.flatten(1), masks, scale, noise, self.beta)
        self.parameters.collect()
        return losses

    def gradients(self, x: Tensor, masks: Sequence[Tensor], scale: float, noise: Tensor, beta: float) -> Tensor:
        """`backward` of x (batch, p) with given masks of all hidden layers and noise (samples, batch, d).

        A mask is (batch, width) in the encoder and (samples · batch, width) in the decoder.
        """
        split, rows = len(self.encoder.widths), noise.shape[0] * noise.shape[1]
        encoded = self.encoder.forward(x.to(self.product_dtype), masks[:split], scale)
        posterior = Posterior(encoded, noise)
        logits = self.decoder.forward(posterior.latent.to(self.product_dtype), masks[split:], scale)
        reconstruction, gradient = bernoulli(logits, x)
        reconstruction = reconstruction / noise.shape[0]
        gradient = self.decoder.backward(gradient.div_(rows).to(self.product_dtype), scale, to_input=True)
        gradient = posterior.backward(gradient.float(), beta / len(x))
        self.encoder.backward(gradient.to(self.product_dtype), scale, to_input=False)
        kl = posterior.kl()
        return torch.stack((reconstruction + beta * kl, reconstruction, kl))

    def _encode(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, raw = self.encoder.forward(x.flatten(1).to(self.product_dtype)).float().chunk(2, 1)
        return mean, SMALLEST_POSTERIOR_STD + F.softplus(raw)

    def _decode(self, latent: Tensor, label: Tensor | None) -> Tensor:
        raw = self.decoder.forward(latent.to(self.product_dtype)).float()
        return raw.view(-1, *self.model.image_shape)

"""One training step: the model, its optimiser and its noise, and the sums that an epoch reports."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaecli.metrics import Losses
from vaecli.training.device import DTYPES
from vaecli.training.network import VAE
from vaecli.training.noise import Noise
from vaecli.training.objective import bernoulli_reconstruction, kl_divergence


class Learner:
    """The plain path: PyTorch's autograd, any device, any precision."""

    path = "eager"

    def __init__(
        self, model: VAE, noise: Noise, *, learning_rate: float, beta: float, precision: str
    ) -> None:
        self.model = model
        self.noise = noise
        self.beta = beta
        self.device = noise.device
        self.mixed = precision == "bfloat16"
        self.dtype = torch.float32 if self.mixed else DTYPES[precision]  # of weights, sums and noise
        model.to(self.device, self.dtype)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # reconstruction, kl
        self._images = 0

    def step(self, image: Tensor) -> None:
        """Learn from one batch, uint8 (batch, c, h, w). Nothing is read back: the losses stay on the device."""
        reconstruction, kl = self._losses(image, self.noise, dropout=True)
        loss = (reconstruction + self.beta * kl).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizer.step()
        self._sums += torch.stack((reconstruction.detach().sum(), kl.detach().sum()))
        self._images += len(image)

    def take_losses(self) -> Losses:
        """The mean losses since the last call, as trained. Waits for the device."""
        reconstruction, kl = (self._sums / max(1, self._images)).tolist()
        self._sums.zero_()
        self._images = 0
        return Losses(loss=reconstruction + self.beta * kl, reconstruction=reconstruction, kl=kl)

    @torch.no_grad()
    def measure(self, image: Tensor, noise: Noise) -> Tensor:
        """The sums of reconstruction and KL over a batch, dropout off: uint8 (batch, c, h, w) -> (2,) float64."""
        reconstruction, kl = self._losses(image, noise, dropout=False)
        return torch.stack((reconstruction.double().sum(), kl.double().sum()))

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> Tensor:
        """The mean of p(x|z) at the mean of q(z|x): uint8 (batch, c, h, w) -> the same, float in [0, 1]."""
        with self._arithmetic():
            mean, _ = self.model.encode(self._floats(image))
            return torch.sigmoid(self.model.decode(mean).to(self.dtype))

    def _losses(self, image: Tensor, noise: Noise, *, dropout: bool) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL of each image, in nats: uint8 (batch, c, h, w) -> (batch,) twice."""
        masks = noise if dropout else None
        x = self._floats(image)
        with self._arithmetic():
            mean, std = self.model.encode(x, masks)
            mean, std = mean.to(self.dtype), std.to(self.dtype)
            latent = mean + std * noise.normal(std.shape, self.dtype)
            logits = self.model.decode(latent, masks)
        return bernoulli_reconstruction(logits.to(self.dtype), x), kl_divergence(mean, std)

    def _floats(self, image: Tensor) -> Tensor:
        return image.to(self.device, self.dtype) / 255

    def _arithmetic(self) -> Any:  # noqa: ANN401 - torch.autocast has no useful type
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    def state(self) -> dict[str, Any]:
        """The optimiser's state."""
        return self.optimizer.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Set the optimiser back."""
        self.optimizer.load_state_dict(state)

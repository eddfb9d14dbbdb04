"""The bounds against torch.distributions, Monte Carlo, and a model whose likelihood is known in closed form."""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor, distributions

from vaecli.config import ModelConfig
from vaecli.training.model import VAE
from vaecli.training.noise import Noise
from vaecli.training.objective import elbo, importance_weighted, kl_divergence

CPU = torch.device("cpu")


class LinearGaussian(VAE):
    """p(x) = N(0, s² + w²) for a one-pixel picture: z ~ N(0, 1), x = w z + noise; q is whatever mean and std say."""

    w, s = 0.7, 0.5

    def __init__(self, mean: float, std: float) -> None:
        super().__init__(ModelConfig(latent_dim=1, hidden=1, likelihood="gaussian", scale=self.s), (1, 1, 1))
        self.mean = torch.nn.Parameter(torch.tensor(mean))
        self.raw_std = torch.nn.Parameter(torch.tensor(std))

    def encode(self, image: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.mean.expand(len(image), 1), self.raw_std.expand(len(image), 1)

    def decode(self, latent: Tensor, noise: Noise | None = None, label: Tensor | None = None) -> Tensor:
        return (self.w * latent).reshape(-1, 1, 1, 1)

    def log_evidence(self, x: float) -> float:
        return float(distributions.Normal(0.0, math.hypot(self.s, self.w)).log_prob(torch.tensor(x)))

    @classmethod
    def posterior(cls, x: float) -> tuple[float, float]:
        variance = 1 / (1 + cls.w**2 / cls.s**2)
        return variance * cls.w * x / cls.s**2, math.sqrt(variance)


def test_kl_agrees_with_torch_distributions() -> None:
    mean, std = torch.randn(5, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64) + 0.05
    expected = distributions.kl_divergence(distributions.Normal(mean, std), distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, std), expected, atol=1e-5, rtol=1e-5)  # the 1e-8 in the log


def test_the_elbo_of_the_true_posterior_is_the_evidence() -> None:
    x = 0.8
    model = LinearGaussian(*LinearGaussian.posterior(x))
    terms = elbo(model, torch.full((20000, 1, 1, 1), x), Noise(0, CPU), beta=1, free_bits=0)
    total = (terms.reconstruction + terms.kl).detach()
    error = float(total.std()) / math.sqrt(len(total))
    assert abs(float(total.mean()) + model.log_evidence(x)) < 5 * error


def test_more_samples_estimate_the_same_elbo_with_a_less_noisy_gradient() -> None:
    """Beside the ELBO and its slope by the mean in closed form, of a Gaussian that is not the posterior."""
    x, mean, std = 0.8, 0.2, 1.3
    w, s = LinearGaussian.w, LinearGaussian.s
    reconstruction = 0.5 * ((x - w * mean) ** 2 + (w * std) ** 2) / s**2 + math.log(s) + 0.5 * math.log(2 * math.pi)
    expected = reconstruction + 0.5 * (mean**2 + std**2 - 2 * math.log(std) - 1)
    slope = -w * (x - w * mean) / s**2 + mean
    spreads = []
    for samples in (1, 2, 3, 4):
        losses, slopes = [], []
        for seed in range(200):
            model = LinearGaussian(mean, std)
            terms = elbo(
                model,
                torch.full((8, 1, 1, 1), x),
                Noise(seed, CPU),
                samples=samples,
                beta=1,
                free_bits=0,
            )
            terms.loss.backward()
            losses.append(float(terms.loss.detach()))
            slopes.append(float(model.mean.grad))  # type: ignore[arg-type]  # there is one
        for found, value in ((losses, expected), (slopes, slope)):
            assert abs(statistics.mean(found) - value) < 5 * statistics.stdev(found) / math.sqrt(len(found)) + 1e-6
        spreads.append(statistics.stdev(slopes))
    assert spreads[1] < 1e-5 < spreads[0], "a pair is exact where the gradient is linear in the noise"
    assert spreads[3] < 1e-5
    assert spreads[2] < 0.5 * spreads[0]


def test_the_weighted_bound_is_exact_for_the_true_posterior_and_tightens_for_others() -> None:
    x = 0.8
    image = torch.full((2000, 1, 1, 1), x)
    exact = importance_weighted(
        LinearGaussian(*LinearGaussian.posterior(x)), image, Noise(0, CPU), samples=3, kind="iwae"
    )
    evidence = LinearGaussian(0.0, 1.0).log_evidence(x)
    assert abs(float(exact.loss.detach()) + evidence) < 1e-4
    bounds = [
        float(
            importance_weighted(
                LinearGaussian(0.2, 1.3), image, Noise(0, CPU), samples=samples, kind="iwae"
            ).loss.detach()
        )
        for samples in (1, 10, 400)
    ]
    assert bounds[0] > bounds[1] > bounds[2] > -evidence - 0.01
    assert bounds[2] + evidence < 0.01


def test_one_sample_is_the_elbo() -> None:
    image = torch.full((50000, 1, 1, 1), 0.3)
    model = LinearGaussian(0.1, 0.9)
    weighted = importance_weighted(model, image, Noise(1, CPU), samples=1, kind="iwae")
    terms = elbo(model, image, Noise(1, CPU), beta=1, free_bits=0)
    assert abs(float((weighted.loss - (terms.reconstruction + terms.kl).mean()).detach())) < 0.02


def _gradient(kind: str, x: float, draws: int) -> tuple[Tensor, Tensor]:
    """Mean and standard error of the gradient by (mean, std) over `draws` images at once."""
    gradients = []
    for seed in range(40):
        model = LinearGaussian(0.2, 1.3)
        image = torch.full((draws, 1, 1, 1), x)
        loss = importance_weighted(model, image, Noise(seed, CPU), samples=4, kind=kind).loss  # type: ignore[arg-type]  # one of two literals
        loss.backward()
        assert model.mean.grad is not None
        assert model.raw_std.grad is not None
        gradients.append(torch.stack((model.mean.grad, model.raw_std.grad)))
    stacked = torch.stack(gradients)
    return stacked.mean(0), stacked.std(0) / math.sqrt(len(gradients))


def test_dreg_has_the_gradient_of_iwae_with_less_noise() -> None:
    plain, plain_error = _gradient("iwae", 0.8, 500)
    doubly, doubly_error = _gradient("dreg", 0.8, 500)
    assert bool(((plain - doubly).abs() < 5 * (plain_error + doubly_error)).all())
    assert float(doubly_error.sum()) < float(plain_error.sum())


def test_dreg_has_the_value_of_iwae_and_its_gradient_of_the_decoder() -> None:
    image = torch.rand(6, 1, 4, 4)
    results = []
    for kind in ("iwae", "dreg"):
        model = VAE(ModelConfig(latent_dim=2, hidden=8, dropout=0), (1, 4, 4))
        model.initialise(torch.Generator().manual_seed(3))
        terms = importance_weighted(model, image, Noise(5, CPU), samples=7, kind=kind)
        terms.loss.backward()
        results.append((terms.loss.detach(), model.decoder.last_layer.weight.grad))
    torch.testing.assert_close(results[0], results[1])


def test_the_kl_of_a_dimension_is_not_penalised_below_free_bits() -> None:
    model = VAE(ModelConfig(latent_dim=2, hidden=8, dropout=0), (1, 4, 4))
    model.initialise(torch.Generator().manual_seed(3))
    image = torch.rand(6, 1, 4, 4)
    terms = elbo(model, image, Noise(0, CPU), beta=1, free_bits=1000)
    assert float(terms.loss.detach()) == float((terms.reconstruction.mean() + 2 * 1000).detach())


def test_beta_weighs_the_kl() -> None:
    model = VAE(ModelConfig(latent_dim=2, hidden=8, dropout=0), (1, 4, 4))
    model.initialise(torch.Generator().manual_seed(3))
    image = torch.rand(6, 1, 4, 4)
    terms = elbo(model, image, Noise(0, CPU), beta=4, free_bits=0)
    torch.testing.assert_close(terms.loss, terms.reconstruction.mean() + 4 * terms.kl.mean())

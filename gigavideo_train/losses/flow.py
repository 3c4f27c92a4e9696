"""Rectified flow (paper Eq. 1) in the convention of diffusers, and its randomness as a function of names.

The paper runs time t from noise (0) to clean (1) and predicts u ~ clean - noise. Diffusers' flow models count the other
way: sigma = 1 - t, and they predict velocity ~ noise - clean, so u = -velocity. Here it is all sigma and velocity.

    noisy = (1 - sigma) clean + sigma noise        target = noise - clean
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Density = Literal["logit_normal", "uniform"]


@dataclass(frozen=True)
class Schedule:
    """How training draws sigma.

    Attributes:
        density: of the draw before the shift: sigmoid of a normal, or uniform in (0, 1).
        mean: of the normal.
        std: of the normal.
        shift: sigma' = shift sigma / (1 + (shift - 1) sigma); above 1 it moves draws towards noise.
    """

    density: Density
    mean: float
    std: float
    shift: float

    def sigma(self, draw: float) -> float:
        """Sigma in (0, 1) of a standard normal draw."""
        if self.density == "logit_normal":
            sigma = 1 / (1 + math.exp(-(self.mean + self.std * draw)))
        else:
            sigma = (1 + math.erf(draw / math.sqrt(2))) / 2
        return self.shift * sigma / (1 + (self.shift - 1) * sigma)


def draws(
    names: Sequence[str], shape: Sequence[int], seed: int, epoch: int, schedule: Schedule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sigma (B,) and noise (B, *shape), float32, each a function of (seed, epoch, name) and of nothing else.

    Neither the rank nor the neighbours in a batch change what a sample sees, so a run may be resumed or spread over
    another number of processes.
    """
    sigmas, noises = [], []
    for name in names:
        digest = hashlib.sha256(f"{seed}/{epoch}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        sigmas.append(schedule.sigma(float(torch.randn((), generator=generator))))
        noises.append(torch.randn(tuple(shape), generator=generator))
    return torch.tensor(sigmas, dtype=torch.float32), torch.stack(noises)


def interpolate(clean_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
    """The point at sigma on the straight line from the clean latent to the noise (paper z_t)."""
    sigma_B1111 = sigma_B.view(-1, 1, 1, 1, 1)
    return (1 - sigma_B1111) * clean_BCFHW + sigma_B1111 * noise_BCFHW


def target(clean_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor) -> torch.Tensor:
    """What the model should predict everywhere on the line: noise - clean (the paper's v, negated)."""
    return noise_BCFHW - clean_BCFHW


def endpoint(velocity_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor) -> torch.Tensor:
    """Clean latent that the velocity points to from the true noise (the paper's u + z_0)."""
    return noise_BCFHW - velocity_BCFHW


def tweedie(velocity_BCFHW: torch.Tensor, noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
    """Clean latent that the velocity points to from the noisy one (z_t + (1 - t) u)."""
    return noisy_BCFHW - sigma_B.view(-1, 1, 1, 1, 1) * velocity_BCFHW

"""Rectified flow (paper Eq. 1) in the convention of diffusers, with randomness that depends on names only.

The paper's time t runs from noise (0) to clean (1), and its model predicts u ~ clean - noise. Flow models of diffusers
use sigma = 1 - t and predict velocity ~ noise - clean, so u = -velocity. This package uses sigma and velocity.

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
    """The distribution from which training draws sigma.

    Attributes:
        density: before the shift: `logit_normal` is the sigmoid of a normal, `uniform` is uniform in (0, 1).
        mean: of the normal.
        std: of the normal.
        shift: sigma' = shift sigma / (1 + (shift - 1) sigma); above 1 it moves sigma towards noise.
    """

    density: Density
    mean: float
    std: float
    shift: float

    def sigma(self, draw: float) -> float:
        """Map a standard normal draw to sigma in (0, 1)."""
        if self.density == "logit_normal":
            sigma = 1 / (1 + math.exp(-(self.mean + self.std * draw)))
        else:
            sigma = (1 + math.erf(draw / math.sqrt(2))) / 2
        return self.shift * sigma / (1 + (self.shift - 1) * sigma)


def draws(
    names: Sequence[str], shape: Sequence[int], seed: int, epoch: int, schedule: Schedule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sigma (B,) and noise (B, *shape), float32, each a function of (seed, epoch, name) only.

    They do not depend on the rank or on the other samples of a batch, so a run may be resumed with any number of
    processes.
    """
    sigmas, noises = [], []
    for name in names:
        digest = hashlib.sha256(f"{seed}/{epoch}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        sigmas.append(schedule.sigma(float(torch.randn((), generator=generator))))
        noises.append(torch.randn(tuple(shape), generator=generator))
    return torch.tensor(sigmas, dtype=torch.float32), torch.stack(noises)


def interpolate(clean_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
    """(1 - sigma) clean + sigma noise, (B, C, F, H, W): the paper's z_t."""
    sigma_B1111 = sigma_B.view(-1, 1, 1, 1, 1)
    return (1 - sigma_B1111) * clean_BCFHW + sigma_B1111 * noise_BCFHW


def target(clean_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor) -> torch.Tensor:
    """The velocity that the model should predict at every sigma: noise - clean (the paper's v, negated)."""
    return noise_BCFHW - clean_BCFHW


def drops_prompt(name: str, seed: int, epoch: int, share: float) -> bool:
    """Whether a sample is trained without its prompt in an epoch: a function of (seed, epoch, name) only."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{name}/prompt".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def guided_target(target_BCFHW: torch.Tensor, unconditional_BCFHW: torch.Tensor, guidance: float) -> torch.Tensor:
    """The target of the velocity v for which u + w (v - u), the velocity of a guided sampler, is the target.

    It is u + (target - u) / w, and the squared distance of v to it is that of the guided prediction to the target,
    divided by w^2.

    Args:
        target_BCFHW: noise - clean.
        unconditional_BCFHW: u, without gradients.
        guidance: w, at least 1.
    """
    return unconditional_BCFHW + (target_BCFHW - unconditional_BCFHW) / guidance


def endpoint(velocity_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor) -> torch.Tensor:
    """Estimate of the clean latent from the velocity and the true noise (the paper's u + z_0)."""
    return noise_BCFHW - velocity_BCFHW


def tweedie(velocity_BCFHW: torch.Tensor, noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
    """Estimate of the clean latent from the velocity and the noisy latent (z_t + (1 - t) u)."""
    return noisy_BCFHW - sigma_B.view(-1, 1, 1, 1, 1) * velocity_BCFHW

"""Loss terms (paper Eq. 2 to 5) as pure functions with one value per sample, (B,); the caller weights and sums.

All latents are float32 (B, C, F, H, W), normalised as the transformer sees them.
"""

from __future__ import annotations

import torch
from torch.nn import functional

VARIANCE_FLOOR = 1e-4
MOMENT_MAX_SIGMA = 0.3  # above it the variance of the optimal estimate is far below that of the data
ONLINE_MAX_SIGMA = 0.5  # above it an estimate is too blurred for a judge


def matching(velocity_BCFHW: torch.Tensor, target_BCFHW: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the velocity, (B,): the inner term of Eq. 2 and 3."""
    return (velocity_BCFHW.float() - target_BCFHW).square().mean((1, 2, 3, 4))


def kl_gaussian(estimate_BCFHW: torch.Tensor, real_BCFHW: torch.Tensor) -> torch.Tensor:
    """KL of two unit-variance Gaussians around estimate and real latent: half the mean squared distance, (B,).

    With the endpoint estimate it is half of flow matching on the real clip.
    """
    return (estimate_BCFHW.float() - real_BCFHW).square().mean((1, 2, 3, 4)) / 2


def kl_moment(estimate_BCFHW: torch.Tensor, real_BCFHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
    """KL of Gaussians with each channel's mean and variance, estimate against real, mean over channels, (B,).

    It ignores positions, so estimate and real clip may be different videos of different lengths. It is biased: the
    optimal estimate at sigma > 0 has less variance than the data. Above `MOMENT_MAX_SIGMA` it is 0.
    """
    mean_BC, variance_BC = _moments(estimate_BCFHW.float())
    real_mean_BC, real_variance_BC = _moments(real_BCFHW)
    ratio_BC = variance_BC / real_variance_BC
    kl_BC = (ratio_BC - ratio_BC.log() - 1 + (mean_BC - real_mean_BC).square() / real_variance_BC) / 2
    return kl_BC.mean(1) * (sigma_B <= MOMENT_MAX_SIGMA)


def kl_softmax(estimate_BCFHW: torch.Tensor, real_BCFHW: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(estimate || real) of each channel's latents, as logits over positions, mean over channels, (B,)."""
    log_p_BCN = functional.log_softmax(estimate_BCFHW.float().flatten(2) / temperature, -1)
    log_q_BCN = functional.log_softmax(real_BCFHW.flatten(2) / temperature, -1)
    return (log_p_BCN.exp() * (log_p_BCN - log_q_BCN)).sum(-1).mean(1)


def preference(
    winner_B: torch.Tensor,
    loser_B: torch.Tensor,
    winner_reference_B: torch.Tensor,
    loser_reference_B: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """DPO for flows, (B,), from the `matching` errors of model and frozen reference; log 2 where both are equal."""
    margin_B = (winner_B - winner_reference_B) - (loser_B - loser_reference_B)
    return -functional.logsigmoid(-beta / 2 * margin_B)


def reweighted(match_B: torch.Tensor, reward_B: torch.Tensor) -> torch.Tensor:
    """Eq. 3 with the reward of the model's own estimate as weight, (B,); the weight is detached."""
    return reward_B.detach() * match_B


def backprop(match_B: torch.Tensor, reward_B: torch.Tensor, eta: float) -> torch.Tensor:
    """Matching minus eta times the reward of the model's own estimate, (B,), with the gradient of both."""
    return match_B - eta * reward_B


def _moments(latents_BCFHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values_BCN = latents_BCFHW.flatten(2)
    return values_BCN.mean(-1), values_BCN.var(-1, correction=0).clamp(min=VARIANCE_FLOOR)

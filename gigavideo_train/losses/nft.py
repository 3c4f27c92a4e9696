"""Negative-aware fine-tuning (DiffusionNFT, arXiv 2509.16117) from stored clips: the loss as pure functions, (B,).

All velocities are (B, C, F, H, W), as in `flow`. With v the target, v_old the velocity of the model that made the
clips, d = v_theta - v_old, e = v - v_old, an advantage a in [-1, 1] and beta > 0:

    loss = beta |d|^2 - 2 a <d, e>        means over elements, float32; it may be negative

Up to a constant this is beta |v_theta - (v_old + a e / beta)|^2, so it is convex for every sign of a, with the same
gradient but without a target that 1 / beta enlarges. At beta = 1, a = 1 is fine-tuning on the clip, a = -1 on its
mirror image 2 v_old - v, and a = 0 distils v_old.
"""

from __future__ import annotations

import torch

ELEMENTS = (1, 2, 3, 4)


def loss(
    velocity_BCFHW: torch.Tensor,
    old_BCFHW: torch.Tensor,
    target_BCFHW: torch.Tensor,
    advantage_B: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """The loss of each sample, (B,) float32.

    Args:
        velocity_BCFHW: v_theta.
        old_BCFHW: v_old, without gradients.
        target_BCFHW: v.
        advantage_B: in [-1, 1].
        beta: inverse step size, above 0.
    """
    change_BCFHW = velocity_BCFHW.float() - old_BCFHW.float()
    error_BCFHW = target_BCFHW - old_BCFHW.float()
    inner_B = (change_BCFHW * error_BCFHW).mean(ELEMENTS)
    return beta * change_BCFHW.square().mean(ELEMENTS) - 2 * advantage_B * inner_B


def anchor(velocity_BCFHW: torch.Tensor, first_BCFHW: torch.Tensor, kappa: float) -> torch.Tensor:
    """Kappa |v_theta - v_first|^2, (B,) float32: keeps the model near the first one over rounds of training."""
    return kappa * (velocity_BCFHW.float() - first_BCFHW.float()).square().mean(ELEMENTS)


def relative_change(velocity_BCFHW: torch.Tensor, old_BCFHW: torch.Tensor, target_BCFHW: torch.Tensor) -> torch.Tensor:
    """|d| / |e|, (B,) float32, norms over elements: how far the model has moved, against the error of v_old."""
    change_BCFHW = velocity_BCFHW.float() - old_BCFHW.float()
    error_BCFHW = target_BCFHW - old_BCFHW.float()
    return change_BCFHW.flatten(1).norm(dim=1) / error_BCFHW.flatten(1).norm(dim=1)

"""What is told of a step: sums that passes and processes add up, and what metrics.jsonl makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from gigavideo_train.losses.inputs import SOURCES, Inputs
from gigavideo_train.losses.losses import Losses

TERMS = ("loss", "match", "kl", "reward", "num_scored", "flops")
SIGMAS = ("0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00")
PARTS = len(SIGMAS) + len(SOURCES)  # of the matching term, each a sum and a number of samples


def nothing(device: torch.device) -> torch.Tensor:
    """The sums of no pass, float64."""
    return torch.zeros(len(TERMS) + 2 * PARTS, dtype=torch.float64, device=device)


def sums(found: Losses, inputs: Inputs, flops: Mapping[torch.Size, int]) -> torch.Tensor:
    """Those of one pass, where its losses are; the host does not wait for them.

    Args:
        found: its losses.
        inputs: on the same device.
        flops: of one sample's forward pass, by the shape of its latents.
    """
    levels = (inputs.clip.sigma_B * len(SIGMAS)).long().clamp(max=len(SIGMAS) - 1)
    at_2B = torch.stack([levels, len(SIGMAS) + inputs.source_B])
    in_PB = (at_2B[None] == torch.arange(PARTS, device=at_2B.device).view(-1, 1, 1)).any(1)
    by_part_P = torch.where(in_PB, found.match_B.double(), 0.0).sum(1)
    work = 3.0 * sum(flops[shape] * number for shape, number in found.forwards.items())  # there, and twice back
    reward_B = torch.where(found.known_B, found.reward_B, 0.0)
    terms_B = (found.loss_B.detach(), found.match_B, found.kl_B, reward_B, found.known_B)
    terms = [term_B.sum().double() for term_B in terms_B] + [by_part_P.new_full((), work)]
    return torch.cat([torch.stack(terms), by_part_P, in_PB.sum(1).double()])


def told(sums: list[float], num_units: int, batch_size: int, seconds: float, *, online: bool) -> dict[str, Any]:
    """As metrics.jsonl has them; a part is None where there was no sample, or no finite term."""
    loss, match, kl, reward, num_scored, flops = sums[: len(TERMS)]
    totals, numbers = sums[len(TERMS) : -PARTS], sums[-PARTS:]
    means = [
        total / number if number and math.isfinite(total) else None
        for total, number in zip(totals, numbers, strict=True)
    ]
    return {
        "loss": loss / batch_size,
        "match": match / num_units,
        "kl": kl / num_units,
        **({"reward": reward / num_scored if num_scored else None} if online else {}),
        "match_by_sigma": dict(zip(SIGMAS, means, strict=False)),
        "match_by_source": dict(zip(SOURCES, means[len(SIGMAS) :], strict=True)),
        "model_tflops": flops / seconds / 1e12,
    }

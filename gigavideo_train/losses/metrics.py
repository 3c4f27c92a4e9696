"""Metrics of a step: sums that add up over passes and processes, and the values that metrics.jsonl shows of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from gigavideo_train.losses.inputs import SOURCES, Inputs
from gigavideo_train.losses.losses import Losses

TERMS = ("loss", "match", "kl", "reward", "num_scored", "change", "distance", "flops")
SIGMA_RANGES = ("0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00")
NUM_PARTS = len(SIGMA_RANGES) + len(SOURCES)  # of the matching term, each with a sum and a number of samples


def zero_sums(device: torch.device) -> torch.Tensor:
    """Sums over no pass, float64."""
    return torch.zeros(len(TERMS) + 2 * NUM_PARTS, dtype=torch.float64, device=device)


def sums_of(losses: Losses, inputs: Inputs, flops: Mapping[torch.Size, int]) -> torch.Tensor:
    """Sums over one pass, float64 on the device of its losses; the host does not wait for them.

    Args:
        losses: of the pass.
        inputs: of the pass, on the same device.
        flops: of the forward pass of one sample, by the shape of its latents.
    """
    ranges_B = (inputs.clip.sigma_B * len(SIGMA_RANGES)).long().clamp(max=len(SIGMA_RANGES) - 1)
    parts_2B = torch.stack([ranges_B, len(SIGMA_RANGES) + inputs.source_B])
    in_part_PB = (parts_2B[None] == torch.arange(NUM_PARTS, device=parts_2B.device).view(-1, 1, 1)).any(1)
    match_P = torch.where(in_part_PB, losses.match_B.double(), 0.0).sum(1)
    work = 3.0 * sum(
        flops[shape] * number for shape, number in losses.forwards.items()
    )  # a backward costs two forwards
    reward_B = torch.where(losses.known_B, losses.reward_B, 0.0)
    changes_B = (losses.change_B, losses.distance_B)
    terms_B = (losses.loss_B.detach(), losses.match_B, losses.kl_B, reward_B, losses.known_B, *changes_B)
    terms = [term_B.sum().double() for term_B in terms_B] + [match_P.new_full((), work)]
    return torch.cat([torch.stack(terms), match_P, in_part_PB.sum(1).double()])


def step_metrics(
    sums: list[float],
    num_samples: int,
    batch_size: int,
    seconds: float,
    *,
    online: bool,
    nft: bool = False,
    first: bool = False,
) -> dict[str, Any]:
    """The values in metrics.jsonl; a part is None where it has no sample or no finite sum.

    Args:
        sums: over all passes and processes of a step.
        num_samples: of the batch.
        batch_size: the loss is divided by it, also for a smaller batch.
        seconds: of the step.
        online: whether rewards were computed.
        nft: whether the change of the model was computed.
        first: whether its distance to the first model was computed.
    """
    loss, match, kl, reward, num_scored, change, distance, flops = sums[: len(TERMS)]
    totals, numbers = sums[len(TERMS) : -NUM_PARTS], sums[-NUM_PARTS:]
    means = [
        total / number if number and math.isfinite(total) else None
        for total, number in zip(totals, numbers, strict=True)
    ]
    return {
        "loss": loss / batch_size,
        "match": match / num_samples,
        "kl": kl / num_samples,
        **({"reward": reward / num_scored if num_scored else None} if online else {}),
        **({"relative_change": change / num_samples} if nft else {}),
        **({"distance_to_first": distance / num_samples} if first else {}),
        "match_by_sigma": dict(zip(SIGMA_RANGES, means, strict=False)),
        "match_by_source": dict(zip(SOURCES, means[len(SIGMA_RANGES) :], strict=True)),
        "model_tflops": flops / seconds / 1e12,
    }

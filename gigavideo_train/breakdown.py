"""The matching term by noise level and by source: sums that processes add up, and the means that they make."""

from __future__ import annotations

import math

import torch

SIGMAS = ("0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00")
SOURCES = ("synthetic", "twin")
NOTHING = [0.0] * 2 * (len(SIGMAS) + len(SOURCES))


def sums(match_B: torch.Tensor, sigma_B: torch.Tensor, sources: list[str]) -> list[float]:
    """Of each noise level and each source: how many samples, and the sum of their terms."""
    levels = (sigma_B * len(SIGMAS)).long().clamp(max=len(SIGMAS) - 1).tolist()
    found = list(NOTHING)
    for match, level, source in zip(match_B.tolist(), levels, sources, strict=True):
        for at in (level, len(SIGMAS) + SOURCES.index(source)):
            found[2 * at] += 1
            found[2 * at + 1] += match
    return found


def means(sums: list[float]) -> dict[str, dict[str, float | None]]:
    """As metrics.jsonl has them; None where there was no sample, or no finite term."""
    pairs = zip(sums[::2], sums[1::2], strict=True)
    found = [total / number if number and math.isfinite(total) else None for number, total in pairs]
    return {
        "match_by_sigma": dict(zip(SIGMAS, found, strict=False)),
        "match_by_source": dict(zip(SOURCES, found[len(SIGMAS) :], strict=True)),
    }

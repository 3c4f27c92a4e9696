"""Realism: how far the clips of two models are from real clips, as KID over pooled features; arithmetic only.

KID (Binkowski et al., 2018) is the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, estimated without
bias: near zero, also below it, for clips of one distribution. Clips of one prompt resemble each other, so a pair of
clips counts only if their prompts differ. The bootstrap resamples prompts, and copies of a prompt in a draw are one
prompt: no pair of a draw holds a clip twice.

Shapes: N clips, D features, P prompts, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from gigavideo_data.scoring.bootstrap import COVERAGE, DRAWS, Estimate

MARGIN = 1.05  # a tuned model may be this many times as far from real clips as its base
LEAST_PROMPTS = 8  # below, no interval: pairs of so few prompts say nothing about others

Verdict = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True)
class Realism:
    """The distances of two models to the same real clips.

    Attributes:
        base, tuned: KID to the real clips.
        excess: KID tuned - MARGIN x KID base, on the same draws.
    """

    base: Estimate
    tuned: Estimate
    excess: Estimate

    @property
    def verdict(self) -> Verdict:
        """Failed if the excess is above zero; else inconclusive if the distance of the base may be zero, or is unknown.

        The margin is a multiple of the base's distance, so it says nothing where that distance may be zero.
        """
        if self.excess.low is None or self.base.low is None or self.base.high is None:
            return "inconclusive"
        if self.excess.low > 0:
            return "failed"
        return "inconclusive" if self.base.low <= 0 <= self.base.high else "passed"

    def facts(self) -> dict[str, Any]:
        """JSON-able, with the verdict."""
        return {**asdict(self), "verdict": self.verdict}


def compare(base_ND: np.ndarray, tuned_ND: np.ndarray, real_ND: np.ndarray, prompts_N: np.ndarray) -> Realism:
    """Compare the clips of two models with real clips.

    Args:
        base_ND: features of the base's clips.
        tuned_ND: features of the tuned model's clips of the same prompts and seeds.
        real_ND: features of as many real clips; each belongs to the prompt of its line, or to none.
        prompts_N: the prompt of each line, any labels.
    """
    order_N = np.argsort(prompts_N, kind="stable")
    _, starts_P = np.unique(prompts_N[order_N], return_index=True)
    base_ND, tuned_ND, real_ND = (
        standardized(features_ND, real_ND)[order_N] for features_ND in (base_ND, tuned_ND, real_ND)
    )
    num_P = np.diff(np.append(starts_P, len(prompts_N))).astype(float)
    pairs_PP = np.outer(num_P, num_P)
    np.fill_diagonal(pairs_PP, 0)
    base_PP, tuned_PP = (_pair_sums(samples_ND, real_ND, starts_P) for samples_ND in (base_ND, tuned_ND))
    counts_BP = _draws(len(num_P))
    totals_B = _quadratic(counts_BP, pairs_PP)
    counts_BP, totals_B = counts_BP[totals_B > 0], totals_B[totals_B > 0]  # a draw of one prompt has no pair
    base_B, tuned_B = (_quadratic(counts_BP, sums_PP) / totals_B for sums_PP in (base_PP, tuned_PP))
    has_interval = len(num_P) >= LEAST_PROMPTS
    return Realism(
        *(_estimate(values_B, has_interval=has_interval) for values_B in (base_B, tuned_B, tuned_B - MARGIN * base_B))
    )


def standardized(features_ND: np.ndarray, reference_ND: np.ndarray) -> np.ndarray:
    """Features less the mean of the reference clips, in units of their standard deviation.

    A feature that hardly differs between the reference clips is not enlarged by more than 1000 times the others.
    """
    std_D = reference_ND.std(0)
    return (features_ND - reference_ND.mean(0)) / np.maximum(std_D, max(std_D.max() * 1e-3, 1e-12))


def _kernel(one_ND: np.ndarray, other_MD: np.ndarray) -> np.ndarray:
    return (one_ND @ other_MD.T / one_ND.shape[1] + 1) ** 3


def _pair_sums(samples_ND: np.ndarray, real_ND: np.ndarray, starts_P: np.ndarray) -> np.ndarray:
    """Sums over the pairs of clips of two prompts of what a pair adds to KID, (P, P); 0 of a prompt with itself."""
    ends_P = np.append(starts_P[1:], len(samples_ND))
    sums_PP = np.empty((len(starts_P), len(starts_P)))
    for at, (start, end) in enumerate(zip(starts_P, ends_P, strict=True)):  # by prompt: memory for N x N is not needed
        mine_ND, real_mine_ND = samples_ND[start:end], real_ND[start:end]
        same_MN = _kernel(mine_ND, samples_ND) + _kernel(real_mine_ND, real_ND)
        cross_MN = _kernel(mine_ND, real_ND) + _kernel(real_mine_ND, samples_ND)
        sums_PP[at] = np.add.reduceat((same_MN - cross_MN).sum(0), starts_P)
    np.fill_diagonal(sums_PP, 0)
    return sums_PP


def _draws(num_prompts: int) -> np.ndarray:
    """How often each prompt is in each draw, (B, P); the first line is the sample itself: every prompt once."""
    counts_BP = np.random.default_rng(0).multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), size=DRAWS)
    return np.concatenate([np.ones((1, num_prompts)), counts_BP.astype(float)])


def _quadratic(counts_BP: np.ndarray, sums_PP: np.ndarray) -> np.ndarray:
    return ((counts_BP @ sums_PP) * counts_BP).sum(1)


def _estimate(values_B: np.ndarray, *, has_interval: bool) -> Estimate:
    """The value of the sample itself, the first, and the interval of the others."""
    value = float(values_B[0]) if len(values_B) else None
    if not has_interval:
        return Estimate(value, None, None)
    low, high = np.quantile(values_B[1:], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Estimate(value, float(low), float(high))

"""What `gv-data eval` measures beside the reward: realism, motion, spread, and what the reward goes with.

A gain is worth little if the videos became less real, stand still, or are all alike. Arithmetic only: the measurements
of each clip are given. Shapes: N clips, D features, P prompts, B bootstrap draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from gigavideo_data.scoring import realism
from gigavideo_data.scoring.bootstrap import COVERAGE, DRAWS

CORRELATES = {"motion": "motion_px", "brightness": "brightness", "length": "length_s"}  # name -> key of a clip's record
LEAST_CLIPS = 3  # of a correlation


@dataclass(frozen=True)
class Pair:
    """One prompt and seed: what was measured of both models' clips, and of a real clip.

    Attributes:
        dimension: of the prompt.
        prompt_id: of the prompt.
        base, tuned: records with `features` (D numbers), `motion_px` (per frame), `brightness` (0 to 255) and
            `length_s`.
        rewards: of base and tuned; None where unscorable.
        real: features of a real clip; None without one.
    """

    dimension: str
    prompt_id: str
    base: Mapping[str, Any]
    tuned: Mapping[str, Any]
    rewards: tuple[float | None, float | None]
    real: Sequence[float] | None = None


def facts(pairs: Sequence[Pair], features: str) -> dict[str, Any]:
    """The measures of two models, as in eval.json (see `commands.evaluation.measures`).

    Args:
        pairs: every prompt and seed of which both models' clips were measured.
        features: what gave the features, for the reader.
    """
    sides = ("base", "tuned")
    with_real = [pair for pair in pairs if pair.real is not None]
    reference = with_real or pairs
    reference_ND = _array([pair.real if pair.real is not None else pair.base["features"] for pair in reference])
    spreads = [_spreads(pairs, side, reference_ND) for side in sides]
    motions = [_motions(pairs, side) for side in sides]
    return {
        "realism": _realism(with_real, features) if with_real else None,
        "motion": ratio(*motions),
        "spread": ratio(*spreads),
        "correlation": {side: _correlations(pairs, number) for number, side in enumerate(sides)},
    }


def ratio(base: Mapping[str, float], tuned: Mapping[str, float]) -> dict[str, float | None]:
    """Means over prompts of both models, and tuned / base with its bootstrap interval over prompts.

    Args:
        base: value of each prompt.
        tuned: the same prompts.

    Returns:
        base, tuned, ratio, low, high; None where it cannot be computed, as with a base of zero.
    """
    if not base:
        return dict.fromkeys(("base", "tuned", "ratio", "low", "high"))
    values_2P = np.array([[values[name] for name in base] for values in (base, tuned)])
    means = values_2P.mean(1)
    found: dict[str, float | None] = {"base": float(means[0]), "tuned": float(means[1])}
    if not means[0] > 0:
        return found | dict.fromkeys(("ratio", "low", "high"))
    found["ratio"] = float(means[1] / means[0])
    num = values_2P.shape[1]
    if num < 2:
        return found | dict.fromkeys(("low", "high"))
    base_B, tuned_B = values_2P[:, np.random.default_rng(0).integers(num, size=(DRAWS, num))].mean(2)
    low, high = np.quantile((tuned_B / base_B)[base_B > 0], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return found | {"low": float(low), "high": float(high)}


def spread(features_ND: np.ndarray) -> float:
    """Mean distance between two different samples of one prompt: root mean square over the features; 0 of copies."""
    return float(np.mean([np.sqrt(np.mean((one - other) ** 2)) for one, other in combinations(features_ND, 2)]))


def correlation(rewards: Sequence[float], values: Sequence[float], groups: Sequence[str]) -> float | None:
    """Pearson correlation within groups: the mean of its group is subtracted from each value first.

    None below LEAST_CLIPS values, and where one side does not vary.
    """
    if len(rewards) < LEAST_CLIPS:
        return None
    one_N, other_N = (_centered(np.array(side, float), np.array(groups)) for side in (rewards, values))
    scale = float(np.sqrt((one_N**2).sum() * (other_N**2).sum()))
    return float((one_N * other_N).sum() / scale) if scale > 1e-9 else None


def _realism(pairs: Sequence[Pair], features: str) -> dict[str, Any]:
    base_ND, tuned_ND = (_array([getattr(pair, side)["features"] for pair in pairs]) for side in ("base", "tuned"))
    real_ND = _array([pair.real or () for pair in pairs])
    prompts_N = np.array([pair.prompt_id for pair in pairs])
    return {
        "features": features,
        "real": len(pairs),
        **realism.compare(base_ND, tuned_ND, real_ND, prompts_N).facts(),
    }


def _spreads(pairs: Sequence[Pair], side: str, reference_ND: np.ndarray) -> dict[str, float]:
    """The spread of every prompt with several samples."""
    by_prompt: dict[str, list[Sequence[float]]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.prompt_id].append(getattr(pair, side)["features"])
    several = {name: features for name, features in by_prompt.items() if len(features) > 1}
    return {name: spread(realism.standardized(_array(mine), reference_ND)) for name, mine in several.items()}


def _motions(pairs: Sequence[Pair], side: str) -> dict[str, float]:
    """The mean motion of every prompt over its seeds."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.prompt_id].append(getattr(pair, side)["motion_px"])
    return {name: sum(values) / len(values) for name, values in by_prompt.items()}


def _correlations(pairs: Sequence[Pair], number: int) -> dict[str, float | None]:
    """Of the reward of one side, base (0) or tuned (1), with each of CORRELATES, within dimensions."""
    scored = [(reward, pair) for pair in pairs if (reward := pair.rewards[number]) is not None]
    rewards, groups = [reward for reward, _ in scored], [pair.dimension for _, pair in scored]
    records = [(pair.base, pair.tuned)[number] for _, pair in scored]
    return {name: correlation(rewards, [record[key] for record in records], groups) for name, key in CORRELATES.items()}


def _centered(values_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    _, at_N = np.unique(groups_N, return_inverse=True)
    return values_N - (np.bincount(at_N, values_N) / np.bincount(at_N))[at_N]


def _array(features: Sequence[Sequence[float]]) -> np.ndarray:
    return np.array(features, dtype=float)

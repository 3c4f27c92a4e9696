"""Groups of samples of one prompt: what their rewards offer to learn from. For builds and for training.

A reward above tau is right, any other one wrong.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from enum import StrEnum

MIN_SPREAD = 0.01  # standard deviation of the rewards of a group that has something to learn from


class Outcome(StrEnum):
    """Whether the rewards of a group differ, and if not, what they all are."""

    DIFFERENT = "different"
    ALWAYS_RIGHT = "always_right"
    ALWAYS_WRONG = "always_wrong"
    UNSCORED = "unscored"  # no sample has a reward


def outcome(rewards: Sequence[float], tau: float) -> Outcome:
    """What a group is, by the rewards of its scored samples. Right and wrong ones differ, however close they are."""
    if not rewards:
        return Outcome.UNSCORED
    if not has_spread(rewards) and always_right(rewards, tau):
        return Outcome.ALWAYS_RIGHT
    if not has_spread(rewards) and always_wrong(rewards, tau):
        return Outcome.ALWAYS_WRONG
    return Outcome.DIFFERENT


def always_right(rewards: Sequence[float], tau: float) -> bool:
    """Whether all rewards of a group are above tau."""
    return min(rewards) > tau


def always_wrong(rewards: Sequence[float], tau: float) -> bool:
    """Whether no reward of a group is above tau."""
    return max(rewards) <= tau


def default_tau(readouts: Collection[str]) -> float:
    """0.5 for soft rewards; 0 for hard ones (all answers have the readout text), which are 0 or 1 already."""
    return 0.0 if set(readouts) == {"text"} else 0.5


def has_spread(rewards: Sequence[float]) -> bool:
    """Whether the rewards of a group differ enough to learn from."""
    return std(rewards) >= MIN_SPREAD


def std(values: Sequence[float]) -> float:
    """The standard deviation of all values, not of a sample of them; there must be a value."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))

"""Advantages of samples within their group, for training that also learns from bad samples. Plain arithmetic.

A group holds the samples of one prompt. The advantage says how much better than its group a sample is, and sums to zero
over each group: what all samples have in common, such as the gradient of guidance, must cancel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gigavideo_data.scoring.groups import always_right, always_wrong, has_spread, std

MIN_STD = 0.05  # divisor of reward differences, at least


@dataclass(frozen=True)
class Scored:
    """A scored sample: its group, its dimension, and its reward in [0, 1]."""

    group: Hashable
    dimension: str
    reward: float


@dataclass(frozen=True)
class Spread:
    """What the groups of one dimension offer to learn from.

    Attributes:
        dimension: of the samples.
        with_spread: number of groups whose rewards differ.
        without_spread: number of the other groups, those with a single sample included.
        samples: number of samples in groups with spread.
        std: standard deviation of the rewards within a group, mean over all groups.
        always_right: share of the groups with all rewards above tau.
        always_wrong: share of the groups with no reward above tau.
    """

    dimension: str
    with_spread: int
    without_spread: int
    samples: int
    std: float
    always_right: float
    always_wrong: float


def advantages(scored: Sequence[Scored]) -> list[float | None]:
    """The advantage of each sample, in [-1, 1]; None in a group without spread.

    Differences to the mean reward of the group are divided by the standard deviation of the dimension over all its
    samples, clipped to [-1, 1] and centred. The standard deviation of a group would amplify groups that hold only
    noise. Clipping leaves a mean, hence the centring after it.
    """
    by_dimension: dict[str, list[float]] = defaultdict(list)
    for sample in scored:
        by_dimension[sample.dimension].append(sample.reward)
    divisors = {dimension: max(std(rewards), MIN_STD) for dimension, rewards in by_dimension.items()}
    result: list[float | None] = [None] * len(scored)
    for members in _groups(scored):
        rewards = [scored[i].reward for i in members]
        if not has_spread(rewards):
            continue
        mean = sum(rewards) / len(rewards)
        clipped = [max(-1.0, min(1.0, (scored[i].reward - mean) / divisors[scored[i].dimension])) for i in members]
        centre = sum(clipped) / len(clipped)
        centred = [a - centre for a in clipped]
        largest = max(1.0, *(abs(a) for a in centred))
        for i, a in zip(members, centred, strict=True):
            result[i] = a / largest
    return result


def spreads(scored: Sequence[Scored], tau: Mapping[str, float]) -> list[Spread]:
    """What each dimension offers to learn from, in the order of their names; its tau separates right from wrong."""
    by_dimension: dict[str, list[list[float]]] = defaultdict(list)
    for members in _groups(scored):
        by_dimension[scored[members[0]].dimension].append([scored[i].reward for i in members])
    return [_spread(dimension, groups, tau[dimension]) for dimension, groups in sorted(by_dimension.items())]


def _spread(dimension: str, groups: list[list[float]], tau: float) -> Spread:
    useful = [rewards for rewards in groups if has_spread(rewards)]
    return Spread(
        dimension,
        len(useful),
        len(groups) - len(useful),
        sum(map(len, useful)),
        sum(map(std, groups)) / len(groups),
        sum(always_right(rewards, tau) for rewards in groups) / len(groups),
        sum(always_wrong(rewards, tau) for rewards in groups) / len(groups),
    )


def _groups(scored: Iterable[Scored]) -> list[list[int]]:
    """Indices of the samples of each group; samples of two dimensions are never one group."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, sample in enumerate(scored):
        groups[sample.dimension, sample.group].append(i)
    return list(groups.values())

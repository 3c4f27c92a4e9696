"""Paired differences between two models on the same prompts and seeds, with bootstrap intervals over prompts.

The bootstrap resamples prompts: the seeds of a prompt are not independent, so they are averaged first. Many dimensions
are compared at once, and an interval over few prompts is too narrow, so `better` and `worse` must also pass a test that
is corrected for the number of dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

DRAWS = 10_000
COVERAGE = 0.95
# Lines of the comparisons that are no dimension: means over all, and over each kind where a dataset has others.
MEAN: Final = "mean"
MEAN_OF_TARGETS: Final = "mean_of_targets"
MEAN_OF_OTHERS: Final = "mean_of_others"
MEANS: Final = (MEAN, MEAN_OF_TARGETS, MEAN_OF_OTHERS)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over prompts; None where it cannot be computed."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scored:
    """One prompt and seed: the reward of both models' videos on the prompt's dimension, None where unscorable."""

    dimension: str
    prompt_id: str
    seed: int
    base: float | None
    tuned: float | None


@dataclass(frozen=True)
class Comparison:
    """One dimension.

    Attributes:
        dimension: its name.
        videos: of each model.
        base, tuned: mean reward of the videos scorable in both, seeds averaged per prompt first; None without any.
        difference: tuned - base.
        low, high: 95 % bootstrap interval of the difference over prompts; None below two prompts.
        p: two-sided p-value of the difference by a paired sign-flip test over prompts; None without an interval.
        tests: dimensions compared at once, which the test is corrected for; 1 for a mean.
        prompts, both: prompts and videos that are scorable in both.
        base_scorable, tuned_scorable: share of the videos that could be scored.
    """

    dimension: str
    videos: int
    base: float | None
    tuned: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    tests: int
    prompts: int
    both: int
    base_scorable: float
    tuned_scorable: float

    @property
    def verdict(self) -> str:
        """better, worse or unclear; "perhaps better" or "perhaps worse" if only the interval excludes zero."""
        if self.low is None or self.high is None or self.p is None:
            return "too few"
        result = "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"
        passes = self.p <= (1 - COVERAGE) / self.tests
        return result if passes or result == "unclear" else f"perhaps {result}"


def compare(scored: Iterable[Scored], others: Collection[str] = ()) -> list[Comparison]:
    """One comparison per dimension, in order of appearance, followed by means over several dimensions.

    Args:
        scored: rewards of both models.
        others: dimensions that are not to be improved. If some but not all of the compared dimensions are among them,
            `mean_of_targets` and `mean_of_others` follow instead of `mean`: a mean over both would hide a loss.
    """
    by_dimension: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        by_dimension[one.dimension].append(one)
    comparisons = [_comparison(dimension, [mine], len(by_dimension)) for dimension, mine in by_dimension.items()]
    kinds = {
        MEAN_OF_TARGETS: [mine for dimension, mine in by_dimension.items() if dimension not in others],
        MEAN_OF_OTHERS: [mine for dimension, mine in by_dimension.items() if dimension in others],
    }
    if not all(kinds.values()):
        kinds = {MEAN: list(by_dimension.values())}
    return comparisons + [_comparison(name, groups, 1) for name, groups in kinds.items() if len(groups) > 1]


def headline(lines: Sequence[dict[str, Any]], others: Collection[str]) -> dict[str, dict[str, Any]]:
    """The lines that sum up a comparison, by the words that name them: the targets, and the others if there are any.

    Args:
        lines: as `facts` returns them.
        others: dimensions that are not to be improved.
    """
    by_name = {line["dimension"]: line for line in lines}
    dimensions = [name for name in by_name if name not in MEANS]
    kinds = {
        "targets": (MEAN_OF_TARGETS, [name for name in dimensions if name not in others]),
        "others": (MEAN_OF_OTHERS, [name for name in dimensions if name in others]),
    }
    found = {}
    for kind, (mean, names) in kinds.items():
        lines_of_kind = [mean]
        if len(names) == 1:  # it is its own mean
            lines_of_kind += names
        if len(names) == len(dimensions):  # the mean over all is that of the kind
            lines_of_kind.append(MEAN)
        if name := next((name for name in lines_of_kind if name in by_name), None):
            found[kind] = by_name[name]
    return found


def mean_draws(scored: list[Scored]) -> np.ndarray | None:
    """Bootstrap draws (DRAWS,) over prompts of the mean difference of one dimension; None below two prompts."""
    base, tuned = _per_prompt(scored)
    return _draws(tuned - base, np.random.default_rng(0)) if len(base) > 1 else None


def facts(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """JSON-able, with verdicts."""
    return [{**asdict(each), "verdict": each.verdict} for each in comparisons]


def correction_note(lines: list[dict[str, Any]]) -> str:
    """Explain how the verdicts of `facts` are corrected for the number of dimensions."""
    num = sum(line["dimension"] not in MEANS for line in lines)
    share = 1 - COVERAGE**num
    chance = f", which it does by chance for some dimension in {share:.0%} of comparisons" if num > 1 else ""
    return (
        "Better and worse: also shown by a paired sign-flip test over prompts, corrected for the number of dimensions "
        f"({num}). Perhaps: only the {COVERAGE:.0%} interval excludes zero{chance}."
    )


def _comparison(dimension: str, groups: list[list[Scored]], tests: int) -> Comparison:
    """One dimension; or the plain mean over several that could be compared, with prompts resampled within each."""
    pairs = [pair for scored in groups if len((pair := _per_prompt(scored))[0])]
    differences = [tuned - base for base, tuned in pairs]
    low, high = _interval(differences)
    flat = [one for scored in groups for one in scored]
    return Comparison(
        dimension=dimension,
        videos=len(flat),
        base=_average([base for base, _ in pairs]),
        tuned=_average([tuned for _, tuned in pairs]),
        difference=_average(differences),
        low=low,
        high=high,
        p=_p_value(differences),
        tests=tests,
        prompts=sum(map(len, differences)),
        both=sum(one.base is not None and one.tuned is not None for one in flat),
        base_scorable=sum(one.base is not None for one in flat) / len(flat),
        tuned_scorable=sum(one.tuned is not None for one in flat) / len(flat),
    )


def _per_prompt(scored: list[Scored]) -> tuple[np.ndarray, np.ndarray]:
    """Means over seeds (prompts,) of both models, over the videos scorable in both."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in scored:
        if one.base is not None and one.tuned is not None:
            pairs[one.prompt_id].append((one.base, one.tuned))
    means = np.array([np.mean(mine, axis=0) for mine in pairs.values()]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def _interval(differences: list[np.ndarray]) -> tuple[float | None, float | None]:
    """Percentile bootstrap of the mean over groups of each group's mean."""
    if not differences or min(map(len, differences)) < 2:
        return None, None
    rng = np.random.default_rng(0)
    means = [_draws(values, rng) for values in differences]
    low, high = np.quantile(np.mean(means, axis=0), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _draws(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means (DRAWS,) of samples of the values, drawn with replacement."""
    means: np.ndarray = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(1)
    return means


def _p_value(differences: list[np.ndarray]) -> float | None:
    """Two-sided sign-flip test of the mean over groups of each group's mean: exact where the prompts are few."""
    if not differences or min(map(len, differences)) < 2:
        return None
    parts = np.concatenate([values / (len(values) * len(differences)) for values in differences])
    num = len(parts)
    is_exact = 2**num <= DRAWS
    if is_exact:
        flips = (np.arange(2**num)[:, None] >> np.arange(num)) & 1
    else:
        flips = np.random.default_rng(0).integers(2, size=(DRAWS, num), dtype=np.int8)
    sums = np.abs((1 - 2 * flips) @ parts)
    as_large = int((sums >= abs(parts.sum()) - 1e-12).sum())
    return as_large / len(sums) if is_exact else (as_large + 1) / (len(sums) + 1)


def _average(groups: list[np.ndarray]) -> float | None:
    """The mean over groups of each group's mean."""
    return float(np.mean([values.mean() for values in groups])) if groups else None

"""How far the scores of a judge agree with people: arithmetic only.

People give either a choice between two videos, or a rating of each video. Ratings become pairs: every two videos of one
prompt; where no prompts are known, each video is in one pair. Intervals are 95 % bootstrap intervals over prompts,
because the pairs of a prompt are not independent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from gigavideo_data.scoring.bootstrap import COVERAGE, DRAWS, Estimate

Choice = Literal["a", "b", "same"]

JUDGE_TIE = 0.02  # two scores that differ by less are reported as a tie of the judge
USABLE = 0.6  # the lower bound of the agreement must be above it
RANK_DRAWS = 1000  # bootstrap draws of what must be ranked anew in each
BINS = 5  # of the reliability curve


@dataclass(frozen=True)
class Pair:
    """Two videos: their scores by the judge, and which one people prefer; an empty prompt is not known."""

    prompt: str
    a: float
    b: float
    choice: Choice


@dataclass(frozen=True)
class Rating:
    """One video: its score by the judge, and the rating of people on any scale, higher is better.

    An empty prompt is not known.
    """

    prompt: str
    judge: float
    human: float


@dataclass(frozen=True)
class Agreement:
    """A judge against people, on pairs.

    Attributes:
        pairs: all pairs.
        prompts: that they are of.
        human_ties: pairs in which people see no difference; they do not count for `agreement`.
        judge_ties: pairs whose scores differ by less than `JUDGE_TIE`.
        agreement: share of the other pairs in which the judge prefers the same video; equal scores count half.
        with_ties: share of all pairs that the judge gets right if scores that differ by at most `tie` mean "same"; the
            best such threshold, chosen on these pairs (Deutsch et al., 2023).
        tie: that threshold.
    """

    pairs: int
    prompts: int
    human_ties: int
    judge_ties: int
    agreement: Estimate
    with_ties: float | None
    tie: float | None

    @property
    def verdict(self) -> str:
        """Usable if the lower bound of the agreement is above `USABLE`."""
        if self.agreement.low is None:
            return "too few"
        return "usable" if self.agreement.low > USABLE else "not usable"

    def facts(self) -> dict[str, Any]:
        """JSON-able, with the verdict."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Ranking:
    """A judge against ratings of people.

    Attributes:
        videos: that were rated.
        spearman, kendall: rank correlations over all videos; Kendall's is tau-b.
        good: a rating above it counts as good: the middle of the ratings' range.
        tau: the score that separates good videos from the others best (Youden's J); a value for the trainer's `tau`.
        bins: the reliability curve: from the lowest to the highest scores, mean score, share of good ones, number.
    """

    videos: int
    spearman: Estimate
    kendall: float | None
    good: float
    tau: Estimate
    bins: list[dict[str, float]]

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """The agreement on pairs."""
    decided = [pair for pair in pairs if pair.choice != "same"]
    by_prompt: dict[object, list[float]] = defaultdict(list)
    for at, pair in enumerate(decided):
        by_prompt[pair.prompt or at].append(_right(pair))
    with_ties, tie = _with_ties(pairs)
    return Agreement(
        pairs=len(pairs),
        prompts=len({pair.prompt or at for at, pair in enumerate(pairs)}),
        human_ties=len(pairs) - len(decided),
        judge_ties=sum(abs(pair.a - pair.b) < JUDGE_TIE for pair in pairs),
        agreement=_mean_over_prompts(list(by_prompt.values())),
        with_ties=with_ties,
        tie=tie,
    )


def pairs_of(ratings: Sequence[Rating]) -> list[Pair]:
    """Every two videos of one prompt, as a pair. Videos without a prompt are paired once, in an order drawn at random.

    Each of the latter pairs counts as a prompt of its own: it shares no video with another one.
    """
    by_prompt: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_prompt[rating.prompt].append(rating)
    unknown = by_prompt.pop("", [])
    drawn = [unknown[at] for at in np.random.default_rng(0).permutation(len(unknown))]
    found = [_compared(f"pair {at}", *each) for at, each in enumerate(zip(drawn[::2], drawn[1::2], strict=False))]
    return found + [_compared(prompt, *each) for prompt, mine in by_prompt.items() for each in combinations(mine, 2)]


def _compared(prompt: str, one: Rating, other: Rating) -> Pair:
    choices: dict[int, Choice] = {1: "a", -1: "b", 0: "same"}
    return Pair(prompt, one.judge, other.judge, choices[int(np.sign(one.human - other.human))])


def ranking(ratings: Sequence[Rating]) -> Ranking:
    """Rank correlations, the reliability curve and the threshold that ratings suggest."""
    judge_N, human_N = np.array([[one.judge, one.human] for one in ratings], float).reshape(-1, 2).T
    good = float((human_N.min() + human_N.max()) / 2)
    return Ranking(
        videos=len(ratings),
        spearman=_ranked(ratings, lambda judge, human: _correlation(_ranks(judge), _ranks(human))),
        kendall=_kendall(judge_N, human_N),
        good=good,
        tau=_ranked(ratings, lambda judge, human: _threshold(judge, human > good)),
        bins=_bins(judge_N, human_N > good),
    )


def _right(pair: Pair) -> float:
    if pair.a == pair.b:
        return 0.5
    return float((pair.a > pair.b) == (pair.choice == "a"))


def _with_ties(pairs: Sequence[Pair]) -> tuple[float | None, float | None]:
    """The best share of right pairs over all thresholds of a tie, and the threshold."""
    if not pairs:
        return None, None
    gap_N = np.array([abs(pair.a - pair.b) for pair in pairs])
    same_N = np.array([pair.choice == "same" for pair in pairs])
    right_N = np.array([pair.choice != "same" and pair.a != pair.b and _right(pair) == 1.0 for pair in pairs])
    order_N = np.argsort(gap_N, kind="stable")
    gap_N, same_N, right_N = gap_N[order_N], same_N[order_N], right_N[order_N]
    # With the threshold at a gap, all pairs up to it are called "same".
    correct_N = np.cumsum(same_N) + right_N.sum() - np.cumsum(right_N)
    last_of_gap_N = np.append(gap_N[1:] > gap_N[:-1], True)
    best = int(np.argmax(np.where(last_of_gap_N, correct_N, -1)))
    if right_N.sum() >= correct_N[best]:  # nothing is called "same"
        return float(right_N.mean()), 0.0
    return float(correct_N[best] / len(pairs)), float(gap_N[best])


def _mean_over_prompts(groups: list[list[float]]) -> Estimate:
    """The mean over all values, with its interval over groups."""
    if not groups:
        return Estimate(None, None, None)
    sums_P, counts_P = np.array([[sum(one), len(one)] for one in groups], float).T
    value = float(sums_P.sum() / counts_P.sum())
    if len(groups) < 2:
        return Estimate(value, None, None)
    drawn_BP = np.random.default_rng(0).integers(len(groups), size=(DRAWS, len(groups)))
    means_B = sums_P[drawn_BP].sum(1) / counts_P[drawn_BP].sum(1)
    return Estimate(value, *_bounds(means_B))


def _ranked(ratings: Sequence[Rating], statistic: Any) -> Estimate:
    """A statistic of (judge, human), with its interval over prompts."""
    by_prompt: dict[object, list[int]] = defaultdict(list)
    for at, one in enumerate(ratings):
        by_prompt[one.prompt or at].append(at)
    groups = list(by_prompt.values())
    judge_N, human_N = (np.array([getattr(one, name) for one in ratings], float) for name in ("judge", "human"))
    value = statistic(judge_N, human_N)
    if value is None or len(groups) < 2:
        return Estimate(value, None, None)
    rng, found = np.random.default_rng(0), []
    for _ in range(RANK_DRAWS):
        chosen = np.concatenate([groups[at] for at in rng.integers(len(groups), size=len(groups))])
        drawn = statistic(judge_N[chosen], human_N[chosen])
        if drawn is not None:
            found.append(drawn)
    return Estimate(value, *_bounds(np.array(found))) if found else Estimate(value, None, None)


def _bounds(values_B: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values_B, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _ranks(values_N: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse_N]


def _correlation(one_N: np.ndarray, other_N: np.ndarray) -> float | None:
    one_N, other_N = one_N - one_N.mean(), other_N - other_N.mean()
    scale = float(np.sqrt((one_N**2).sum() * (other_N**2).sum()))
    return float((one_N * other_N).sum() / scale) if scale > 0 else None


def _kendall(judge_N: np.ndarray, human_N: np.ndarray) -> float | None:
    """Kendall's tau-b, row by row: memory for N x N is not needed."""
    concordant, judge_pairs, human_pairs = 0.0, 0, 0
    for at in range(len(judge_N) - 1):
        judge, human = np.sign(judge_N[at + 1 :] - judge_N[at]), np.sign(human_N[at + 1 :] - human_N[at])
        concordant += float((judge * human).sum())
        judge_pairs += int(np.count_nonzero(judge))
        human_pairs += int(np.count_nonzero(human))
    return concordant / float(np.sqrt(judge_pairs * human_pairs)) if judge_pairs and human_pairs else None


def _threshold(judge_N: np.ndarray, good_N: np.ndarray) -> float | None:
    """The score above which a video counts as good, with the largest sum of hit rate and correct rejection rate."""
    if good_N.all() or not good_N.any():
        return None
    order_N = np.argsort(judge_N, kind="stable")
    scores_N, good_N = judge_N[order_N], good_N[order_N]
    hits_N = 1 - np.cumsum(good_N) / good_N.sum()
    rejections_N = np.cumsum(~good_N) / (~good_N).sum()
    is_cut_N = scores_N[1:] > scores_N[:-1]
    if not is_cut_N.any():
        return None
    best = int(np.argmax(np.where(is_cut_N, (hits_N + rejections_N)[:-1], -1)))
    return float((scores_N[best] + scores_N[best + 1]) / 2)


def _bins(judge_N: np.ndarray, good_N: np.ndarray) -> list[dict[str, float]]:
    order_N = np.argsort(judge_N, kind="stable")
    parts = [part for part in np.array_split(order_N, BINS) if len(part)]
    return [
        {"score": float(judge_N[part].mean()), "good": float(good_N[part].mean()), "videos": len(part)}
        for part in parts
    ]

"""The judge sanity check of every build, which needs no labels.

The judge answers, about one video, its own questions, their negations, and the questions of another prompt (foreign
ones). A good judge gives real clips higher scores on their own questions, since they show what their captions say. On
generated videos a weak generator lowers the same AUC, so both are reported. A judge that says yes to everything says
yes to a question and to its negation.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from gigavideo_data.pipeline.row import AskedQuestion, Row
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from gigavideo_data.scoring.judge_verdict import JudgeCheck
from gigavideo_data.scoring.rewards import auc, score


@dataclass(frozen=True)
class Trial:
    """One video with its own questions on a dimension and those of another prompt."""

    dimension: str
    real: bool
    row: Row
    own: list[AskedQuestion]
    foreign: list[AskedQuestion]

    @property
    def asked(self) -> list[str]:
        """The texts for the judge: own questions, their negations, foreign questions."""
        texts = [q["question"] for q in self.own] + [q["negated"] for q in self.own]
        return texts + [q["question"] for q in self.foreign]


def plan(made: Iterable[Row], real: Iterable[Row], dimensions: Sequence[str], videos: int) -> list[Trial]:
    """Choose up to `videos` generated videos and as many real clips per dimension, with foreign questions for each."""
    candidates = [_first_by_id(rows, dimensions, videos) for rows in (made, real)]
    trials = []
    for dimension in dimensions:
        for chosen in (rows[dimension] for rows in candidates):
            for at, row in enumerate(chosen):
                foreign = _foreign(at, chosen, dimension)
                trials.append(Trial(dimension, row.source == "real", row, row.asks[dimension], foreign))
    return trials


def _first_by_id(rows: Iterable[Row], dimensions: Sequence[str], videos: int) -> dict[str, list[Row]]:
    """The rows of each dimension with the smallest ids, in their order; few are in memory at a time."""
    first: dict[str, list[tuple[str, Row]]] = {name: [] for name in dimensions}
    for row in rows:
        row_id = row.id
        for name, chosen in first.items():
            if name in row.asks and row.dimension in (name, None):
                insort(chosen, (row_id, row), key=itemgetter(0))
                del chosen[videos:]
    return {name: [row for _, row in chosen] for name, chosen in first.items()}


def summary(
    trials: list[Trial], records: list[dict[str, Any]], dimensions: Sequence[str], min_mass: float
) -> list[JudgeCheck]:
    """Compute the statistics of the judge's answers.

    Returns:
        The numbers of each dimension.
    """
    results = []
    for dimension in dimensions:
        mine = [
            _reading(trial, record["answers"], min_mass)
            for trial, record in zip(trials, records, strict=True)
            if trial.dimension == dimension and "rejected" not in record
        ]
        results.append(_summary(dimension, mine))
    return results


def _foreign(at: int, rows: list[Row], dimension: str) -> list[AskedQuestion]:
    """The questions of the next prompt that expects "yes" to none of the same questions; empty if there is none."""
    expected = _expected_yes(rows[at].asks[dimension])
    for other in rows[at + 1 :] + rows[:at]:
        if not expected & _expected_yes(other.asks[dimension]):
            return other.asks[dimension]
    return []


def _expected_yes(questions: list[AskedQuestion]) -> set[str]:
    return {q["question"] for q in questions if q["expected"] == "yes"}


def _reading(trial: Trial, answers: list[dict[str, Any]], min_mass: float) -> dict[str, Any]:
    n = len(trial.own)
    combine = load_dimension(trial.dimension).combine
    scores = []
    for questions, given in ((trial.own, answers[:n]), (trial.foreign, answers[2 * n :])):
        outcome = score([{**q, **a} for q, a in zip(questions, given, strict=True)], combine, min_mass)
        # A failed gate question makes a reward unscorable; here it means that nothing of the prompt was seen.
        scores.append(0.0 if (outcome.reason or "").startswith("gate_failed") else outcome.value)
    yes = [_p_yes(a) + _p_yes(b) for a, b in zip(answers[:n], answers[n : 2 * n], strict=True)]
    return {"real": trial.real, "own": scores[0], "foreign": scores[1], "yes": yes}


def _p_yes(answer: dict[str, float]) -> float:
    mass = answer["p_yes"] + answer["p_no"]
    return answer["p_yes"] / mass if mass else 0.5


def _summary(dimension: str, readings: list[dict[str, Any]]) -> JudgeCheck:
    made = [r for r in readings if not r["real"]]
    real = [r for r in readings if r["real"]]
    yes = [value for r in readings for value in r["yes"]]
    real_own = [r["own"] for r in real if r["own"] is not None]
    return {
        "dimension": dimension,
        "videos": len(made),
        "auc_foreign": _auc(made),
        "yes_bias": sum(yes) / len(yes) / 2 - 0.5 if yes else None,
        "inconsistency": sum(abs(value - 1) for value in yes) / len(yes) if yes else None,
        "real_videos": len(real),
        "auc_real": _auc(real),
        "real_score": sum(real_own) / len(real_own) if real_own else None,
    }


def _auc(readings: list[dict[str, Any]]) -> float | None:
    own = [r["own"] for r in readings if r["own"] is not None]
    foreign = [r["foreign"] for r in readings if r["foreign"] is not None]
    return auc(own, foreign)

"""Can the judge tell? Found out without labels, in every build.

Videos are asked another prompt's questions and the negated twins of their own. A judge that sees scores own questions
above foreign ones on real clips, which do show what their captions say; on generated videos the same figure also falls
when the generator fails, so both are given. One that says yes to everything says it to a question and to its negation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gigavideo_data.dimensions.catalogue import load_dimension
from gigavideo_data.judge_verdict import JudgeCheck
from gigavideo_data.rewards import auc, score
from gigavideo_data.row import Row


@dataclass(frozen=True)
class Trial:
    """One video with its own questions on a dimension and those of another prompt."""

    dimension: str
    real: bool
    row: Row
    own: list[dict[str, Any]]
    foreign: list[dict[str, Any]]

    @property
    def asked(self) -> list[str]:
        """The texts for the judge: own questions, their negated twins, foreign ones."""
        texts = [q["question"] for q in self.own] + [q["negated"] for q in self.own]
        return texts + [q["question"] for q in self.foreign]


def plan(made: list[Row], real: list[Row], dimensions: Sequence[str], videos: int) -> list[Trial]:
    """Choose up to `videos` generated and as many real clips per dimension, and find foreign questions for each."""
    trials = []
    for dimension in dimensions:
        for rows in (made, real):
            chosen = [row for row in rows if dimension in row.asks and row.dimension in (dimension, None)]
            chosen = sorted(chosen, key=lambda row: row.id)[:videos]
            for at, row in enumerate(chosen):
                foreign = _foreign(at, chosen, dimension)
                trials.append(Trial(dimension, row.source == "real", row, row.asks[dimension], foreign))
    return trials


def summary(
    trials: list[Trial], records: list[dict[str, Any]], dimensions: Sequence[str], min_mass: float
) -> list[JudgeCheck]:
    """Sum up the judge's answers.

    Returns:
        One dict per dimension: videos, auc_foreign (generated clips), yes_bias (mean P(yes) over questions and their
        negations, less a half), inconsistency (mean |P(yes) + P(yes to the negation) - 1|), real_videos, auc_real,
        real_score (mean own score of real clips). A value is None where there was nothing to compare.
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


def _foreign(at: int, rows: list[Row], dimension: str) -> list[dict[str, Any]]:
    """The questions of another prompt, the next one that promises nothing the same; none if there is no such prompt."""
    promised = _promises(rows[at].asks[dimension])
    for other in rows[at + 1 :] + rows[:at]:
        if not promised & _promises(other.asks[dimension]):
            return other.asks[dimension]
    return []


def _promises(questions: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(q["question"], q["expected"]) for q in questions if q["expected"] == "yes"}


def _reading(trial: Trial, answers: list[dict[str, Any]], min_mass: float) -> dict[str, Any]:
    n = len(trial.own)
    combine = load_dimension(trial.dimension).combine
    scores = []
    for questions, given in ((trial.own, answers[:n]), (trial.foreign, answers[2 * n :])):
        outcome = score([{**q, **a} for q, a in zip(questions, given, strict=True)], combine, min_mass)
        # A closed gate means "cannot be told" for a reward; here it means that nothing of the promise was seen.
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

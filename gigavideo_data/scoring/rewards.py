"""Answers -> rewards: arithmetic, so rewards can be computed again at any time from the answers of a dataset.

p_yes and p_no are the judge's probabilities of the two words. A question scores P(expected) / (P(yes) + P(no)).
A reward that cannot be determined is None with a reason, never 0.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from gigavideo_data.rows import DatasetRow, RewardEntry

GATE_THRESHOLD = 0.5  # a video whose gate question scores less has no reward
NO_ANSWER = "no answer: "  # begins the name of a judge's reading that says why P(yes) + P(no) is low
CAPTIONS = "captions"  # instead of a dimension, for rows whose prompts are captions


@dataclass(frozen=True)
class Rules:
    """How a dataset's answers became rewards.

    Attributes:
        min_mass: smallest P(yes) + P(no) of an answer.
        combine: rule per dimension, where it is not the dimension's own.
    """

    min_mass: float
    combine: dict[str, str]


def rules_of(manifest: Mapping[str, Any]) -> Rules:
    """The rules of a dataset: those of its recipe, or those that it was rescored with."""
    rescored = manifest.get("rescored", {})
    return Rules(rescored.get("min_mass", manifest["recipe"]["judge"]["min_mass"]), rescored.get("combine", {}))


@dataclass(frozen=True)
class Reward:
    """A value in [0, 1] with status "scored", or None with status "unscorable" and the reason."""

    value: float | None
    status: str
    reason: str | None = None


def score(answers: Sequence[Mapping[str, Any]], combine: str, min_mass: float, readings: Iterable[str] = ()) -> Reward:
    """Combine the answers about one video in one dimension.

    Args:
        answers: mappings with question, expected ("yes" or "no"), gate, p_yes, p_no; in the order of the questions.
        combine: "mean"; "all", the minimum; "gate", the mean of the others unless a gate question fails; "prefix", for
            ordered events, the mean over events of the product of the scores up to each.
        min_mass: smallest P(yes) + P(no) of an answer; one answer below it makes the video unscorable.
        readings: names of what the judge measured; one that begins with NO_ANSWER gives the reason.

    Raises:
        KeyError: for a rule that does not exist.
    """
    rule = _RULES[combine]
    gates = [answer for answer in answers if combine == "gate" and answer["gate"]]
    others = [answer for answer in answers if not (combine == "gate" and answer["gate"])]
    if not others:
        return _unscorable("no_questions")
    for answer in answers:
        mass = answer["p_yes"] + answer["p_no"]
        if not (mass > 0 and mass >= min_mass):  # also refuses NaN
            reasons = (name.removeprefix(NO_ANSWER) for name in readings if name.startswith(NO_ANSWER))
            return _unscorable(next(reasons, "low_mass"))
    for answer in gates:
        if p_expected(answer) < GATE_THRESHOLD:
            return _unscorable(f"gate_failed: {answer['question']}")
    return Reward(rule([p_expected(answer) for answer in others]), "scored")


def p_expected(answer: Mapping[str, Any]) -> float:
    """Return P(expected) / (p_yes + p_no) of one answer, in [0, 1]; the sum must not be 0."""
    return answer[f"p_{answer['expected']}"] / (answer["p_yes"] + answer["p_no"])


def harden(answer: Mapping[str, float]) -> dict[str, float]:
    """The answer as text would give it (`readout: text`): the likelier word gets the whole probability."""
    mass, says_yes = answer["p_yes"] + answer["p_no"], answer["p_yes"] > answer["p_no"]
    return {"p_yes": mass if says_yes else 0.0, "p_no": 0.0 if says_yes else mass}


def as_read(record: dict[str, Any], readout: str) -> dict[str, Any]:
    """A judge's record with its answers read as probabilities ("logits") or as hard words ("text")."""
    if readout == "logits" or "rejected" in record:
        return record
    return {**record, "answers": [harden(answer) for answer in record["answers"]]}


def row_outcome(rewards: Sequence[RewardEntry], dimension: str | None, targets: Iterable[str]) -> Reward:
    """The reward of a row: that on its own dimension; for a caption, the mean over the dimensions it has.

    Args:
        rewards: of the row.
        dimension: what the prompt was written for; None for captions.
        targets: the dimensions of the recipe, others included.
    """
    dimensions = set(targets) if dimension is None else {dimension}
    mine = [reward for reward in rewards if reward["dimension"] in dimensions]
    values = [reward["value"] for reward in mine if reward["value"] is not None]
    if values:
        return Reward(sum(values) / len(values), "scored")
    return _unscorable(mine[0]["reason"] if mine else "no_questions")


def reward_group(row: DatasetRow) -> str | None:
    """The group of a row in statistics: the dimension that its prompt was written for, or CAPTIONS.

    None for a row without a reward of its own: a real clip, or a video that was not judged.
    """
    return None if row["status"] == "not_scored" else row["dimension"] or CAPTIONS


def auc(own: Sequence[float], foreign: Sequence[float]) -> float | None:
    """Area under the ROC curve: the probability that an own score is above a foreign one, ties counting half.

    None if either list is empty.
    """
    if not own or not foreign:
        return None
    ranked = sorted(foreign)
    wins = sum((bisect_left(ranked, value) + bisect_right(ranked, value)) / 2 for value in own)
    return wins / (len(own) * len(foreign))


class MeanSem(TypedDict):
    """Mean, and its standard error."""

    mean: float | None
    sem: float | None


def mean_sem(values: list[float]) -> MeanSem:
    """Mean and its standard error to six decimals; None for too few values.

    They are those of the values as a float32 column keeps them, so a dataset that is read gives what its build gave.
    """
    if not values:
        return {"mean": None, "sem": None}
    kept = array("f", values)
    mean = sum(kept) / len(kept)
    if len(kept) == 1:
        return {"mean": round(mean, 6), "sem": None}
    variance = sum((value - mean) ** 2 for value in kept) / (len(kept) - 1)
    return {"mean": round(mean, 6), "sem": round(sqrt(variance / len(kept)), 6)}


def _unscorable(reason: str | None) -> Reward:
    return Reward(None, "unscorable", reason)


def _mean(scores: list[float]) -> float:
    return sum(scores) / len(scores)


def _prefix(scores: list[float]) -> float:
    return _mean([prod(scores[: k + 1]) for k in range(len(scores))])


_RULES: dict[str, Callable[[list[float]], float]] = {"mean": _mean, "all": min, "gate": _mean, "prefix": _prefix}

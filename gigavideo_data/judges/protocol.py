"""What every judge is: a thing that answers yes/no questions about a clip with probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Protocol

import numpy as np

from gigavideo_data.errors import RowError
from gigavideo_data.reasons import Reason

ROUNDING = 0.01  # how far above 1 a sum of probabilities may be, and above 0 a logarithm of one


@dataclass(frozen=True)
class Answer:
    """Probabilities of the two answers; their sum, the mass, is small when the judge did not answer the form.

    `readings` are what the answer was drawn from, by name, where that is more than the probabilities: counts per frame,
    say. `said` is what the answer begins with, where the judge tells that.
    """

    p_yes: float
    p_no: float
    readings: dict[str, list[float]] = field(default_factory=dict)
    said: str = field(default="", compare=False)

    @property
    def turned(self) -> Answer:
        """The answer to the question turned round."""
        return Answer(self.p_no, self.p_yes, self.readings)


def checked(answers: Sequence[Answer], asked: Sequence[str]) -> list[Answer]:
    """One answer per question, with probabilities in [0, 1] and finite readings.

    Raises:
        RowError: the judge gave something else (bad_answer).
    """
    if len(answers) != len(asked):
        raise RowError(Reason.BAD_ANSWER, f"the judge gave {len(answers)} answers to {len(asked)} questions")
    for answer, question in zip(answers, asked, strict=True):
        least, mass = min(answer.p_yes, answer.p_no), answer.p_yes + answer.p_no
        if not (least >= 0 and mass <= 1 + ROUNDING):  # NaN is not either
            told = f"P(yes) = {answer.p_yes}, P(no) = {answer.p_no}"
            raise RowError(Reason.BAD_ANSWER, f"{told}, expected two probabilities: {question}")
        for name, values in answer.readings.items():
            if not all(map(isfinite, values)):
                raise RowError(Reason.BAD_ANSWER, f"{name} is {values}, expected finite numbers: {question}")
    return [replace(answer, p_yes=min(answer.p_yes, 1.0), p_no=min(answer.p_no, 1.0)) for answer in answers]


class Judge(Protocol):
    """A judge is loaded once per worker and asked about one clip at a time, with all its questions together.

    Attributes:
        kind: how it judges, for the dataset's `judges` column.
        model: name of the model.
        revision: what exactly was loaded: a commit or a content hash.
    """

    kind: str
    model: str
    revision: str

    def answer(self, frames_THWC: np.ndarray, fps: float, asked: list[str]) -> list[Answer]:
        """Answer the questions about frames_THWC (uint8 RGB), in order."""
        ...


# How a question is turned round for judges that read by rules: with the other right answer, in the same words.
_TURNED = "Is the answer no: "


def turn(question: str) -> str:
    """The negated twin of a question."""
    return f"{_TURNED}{question[0].lower()}{question[1:]}"


def negated_of(question: str) -> str | None:
    """The question that was turned round; None if it was not."""
    inner = question.removeprefix(_TURNED)
    return None if inner == question else inner[:1].upper() + inner[1:]

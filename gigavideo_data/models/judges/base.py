"""The protocol of judges, and the check of what one returns."""

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
    """The answer to one yes/no question.

    Attributes:
        p_yes: P(yes), in [0, 1].
        p_no: P(no), in [0, 1]. P(yes) + P(no) is small where a judge answered neither.
        readings: measurements that the answer was computed from, by name, such as counts per frame.
        text: how the answer begins, where the judge writes text; for messages.
    """

    p_yes: float
    p_no: float
    readings: dict[str, list[float]] = field(default_factory=dict)
    text: str = field(default="", compare=False)

    @property
    def negated(self) -> Answer:
        """The answer to the negated question."""
        return Answer(self.p_no, self.p_yes, self.readings)


class Judge(Protocol):
    """A judge is loaded once per worker and answers all questions about one clip together.

    It is called by one thread at a time, unless its line in `recipe.engines` has `rows_at_once`.
    """

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> Sequence[Answer]:
        """Answer questions about one clip.

        Args:
            frames_THWC: (T, H, W, 3) uint8 RGB, all frames of the clip.
            fps: Hz.
            questions: texts, in any language that the judge reads.

        Returns:
            One answer per question, in order.

        Raises:
            RowError: this clip cannot be judged; the row is rejected with the reason.
            ConnectionError, TimeoutError: a service did not answer; the row is tried again, up to `limits.attempts`.
            DeadEngineError: the engine of this process is dead; the process ends and the row is done again.
            RunError: no clip can be judged; the run stops.
        """
        ...


def checked(answers: Sequence[Answer], questions: Sequence[str]) -> list[Answer]:
    """One answer per question, with probabilities in [0, 1] and finite readings.

    Raises:
        RowError: the judge returned something else (bad_answer).
    """
    if len(answers) != len(questions):
        raise RowError(Reason.BAD_ANSWER, f"the judge gave {len(answers)} answers to {len(questions)} questions")
    for answer, question in zip(answers, questions, strict=True):
        least, total = min(answer.p_yes, answer.p_no), answer.p_yes + answer.p_no
        if not (least >= 0 and total <= 1 + ROUNDING):  # also false for NaN
            raise RowError(
                Reason.BAD_ANSWER,
                f"P(yes) = {answer.p_yes}, P(no) = {answer.p_no}, expected two probabilities: {question}",
            )
        for name, values in answer.readings.items():
            if not all(map(isfinite, values)):
                raise RowError(Reason.BAD_ANSWER, f"{name} is {values}, expected finite numbers: {question}")
    return [replace(answer, p_yes=min(answer.p_yes, 1.0), p_no=min(answer.p_no, 1.0)) for answer in answers]


# Judges that read questions by rules need the negation in the same words.
_NEGATION = "Is the answer no: "


def negate(question: str) -> str:
    """The same question with the opposite right answer."""
    return f"{_NEGATION}{question[0].lower()}{question[1:]}"


def negated_of(question: str) -> str | None:
    """The question that was negated; None if it was not."""
    inner = question.removeprefix(_NEGATION)
    return None if inner == question else inner[:1].upper() + inner[1:]

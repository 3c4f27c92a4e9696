"""What every judge is: a thing that answers yes/no questions about a clip with probabilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Answer:
    """Probabilities of the two answers; their sum, the mass, is small when the judge did not answer the form.

    `readings` are what the answer was drawn from, by name, where that is more than the probabilities: counts per frame,
    say.
    """

    p_yes: float
    p_no: float
    readings: dict[str, list[float]] = field(default_factory=dict)

    @property
    def turned(self) -> Answer:
        """The answer to the question turned round."""
        return Answer(self.p_no, self.p_yes, self.readings)


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

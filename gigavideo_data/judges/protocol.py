"""What every judge is: a thing that answers yes/no questions about a clip with probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Answer:
    """Probabilities of the two answers; their sum, the mass, is small when the judge did not answer the form."""

    p_yes: float
    p_no: float


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

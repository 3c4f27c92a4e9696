"""The protocol of open-vocabulary object detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Box:
    """One detected object: its name, as given to the detector, the confidence in [0, 1], and its corners in px."""

    label: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def area(self) -> float:
        """Square px."""
        return max(self.x1 - self.x0, 0.0) * max(self.y1 - self.y0, 0.0)


class Detector(Protocol):
    """A detector is loaded once per worker."""

    def detect(self, frames_THWC: np.ndarray, labels: list[str]) -> list[list[Box]]:
        """Detect the objects that `labels` name in each frame (uint8 RGB); one list of boxes per frame."""
        ...

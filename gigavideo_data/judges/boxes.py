"""What every detector is: a thing that finds things by name, and says where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Box:
    """One detected thing: corners in px, and how sure the detector is, in [0, 1]."""

    label: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def area(self) -> float:
        """In px."""
        return max(self.x1 - self.x0, 0.0) * max(self.y1 - self.y0, 0.0)


class Detector(Protocol):
    """Finds things by name; loaded once per worker."""

    def detect(self, frames_THWC: np.ndarray, labels: list[str]) -> list[list[Box]]:
        """Boxes of each frame (uint8 RGB)."""
        ...

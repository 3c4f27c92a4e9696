"""What the rows of a worker take: its wall seconds, by the kind of device that it holds meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Device = Literal["gpu", "cpu", "endpoint"]
Spent = dict[Device, float]  # of a row: seconds; on a GPU times the number of GPUs

DIGITS = 6  # of seconds in a record


class Meter:
    """Divides the time in which a worker is busy among its rows.

    Rows that are worked on at the same time, in threads, share it equally: so the sum over all rows is the time in
    which the worker was busy. Loading a model, waiting for tasks, and attempts that killed the worker are not counted.
    """

    def __init__(self, device: Device, num_gpus: float = 0.0) -> None:
        """Start a meter.

        Args:
            device: what the worker holds; "endpoint" where it waits for a service, whose devices are not known.
            num_gpus: that it holds.
        """
        self.device = device
        self._factor = num_gpus if device == "gpu" else 1.0
        self._lock = threading.Lock()
        self._active = 0
        self._share_s = 0.0  # of a row that has been worked on since the start
        self._updated = time.monotonic()

    @contextmanager
    def row(self) -> Iterator[Callable[[], float]]:
        """Count the time inside for one row; yields a function that returns the row's seconds so far."""
        began = self._advance(1)
        try:
            yield lambda: self._advance(0) - began
        finally:
            self._advance(-1)

    def spent(self, seconds: float) -> Spent:
        """The entry of a record."""
        return {self.device: round(seconds * self._factor, DIGITS)}

    def _advance(self, change: int) -> float:
        with self._lock:
            now = time.monotonic()
            if self._active:
                self._share_s += (now - self._updated) / self._active
            self._updated, self._active = now, self._active + change
            return self._share_s

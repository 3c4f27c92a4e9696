"""End a run between two steps, on SIGTERM (sent before a machine is taken away) or the first Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType


class Stop:
    """Handles both signals while it is entered. The second Ctrl-C ends the run at once; a second SIGTERM does nothing.

    Attributes:
        requested: whether one of them has arrived.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

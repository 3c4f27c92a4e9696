"""Ending a run between two steps: SIGTERM, as machines get it that are taken away, and the first Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class Stop:
    """Catches both while it is entered. The second Ctrl-C ends the run at once; a second SIGTERM changes nothing."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

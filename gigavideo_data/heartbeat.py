"""Heartbeats: long work reports that it goes on, whoever listens.

    heartbeat.beat()  # after a denoising step, an answered batch of questions, a fetched file

A model does not know who runs it. Without a listener, a heartbeat does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[], None]] = []


def beat() -> None:
    """Report progress, from any thread."""
    for listener in dict.fromkeys(_listeners):  # two tasks of one worker may listen for it
        listener()


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Call `listener` at each heartbeat of this process."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)

"""Callers in several threads, answered together by one: batches are what a model in this process is fast at."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from gigavideo_data.errors import RowError

LINGER_S = 0.05  # how long a batch waits for one more; callers arrive within milliseconds of each other

Asked = TypeVar("Asked")
Told = TypeVar("Told")


class Together(Generic[Asked, Told]):
    """Collects what callers ask until nobody else comes, and has it answered at once.

    Everything runs on one thread, also what `load` makes: models keep state per thread.
    """

    def __init__(self, load: Callable[[], Callable[[list[Asked]], list[Told]]], at_most: int) -> None:
        """Load what answers.

        Args:
            load: makes a function from a batch to as many answers, in order. A RowError says that something in the
                batch is to blame, not what; it is asked again one by one.
            at_most: size of a batch.
        """
        self._thread = ThreadPoolExecutor(1)
        self._answer = self._thread.submit(load).result()
        self._at_most = at_most
        self._waiting: queue.SimpleQueue[tuple[Asked, Future[Told]]] = queue.SimpleQueue()

    def ask(self, one: Asked) -> Told:
        """Wait for an answer, with others or alone.

        Raises:
            BaseException: whatever the answering raised, to every caller that it concerns.
        """
        told: Future[Told] = Future()
        self._waiting.put((one, told))
        self._thread.submit(self._serve)  # finds nothing to do if an earlier one took this along
        return told.result()

    def _serve(self) -> None:
        batch: list[tuple[Asked, Future[Told]]] = []
        while len(batch) < self._at_most:
            try:
                batch.append(self._waiting.get(timeout=LINGER_S) if batch else self._waiting.get_nowait())
            except queue.Empty:
                break
        if batch:
            self._answer_all(batch)

    def _answer_all(self, batch: list[tuple[Asked, Future[Told]]]) -> None:
        try:
            answers = list(zip(batch, self._answer([one for one, _ in batch]), strict=True))
        except BaseException as error:  # noqa: BLE001 - carried to the callers' threads, where it is raised
            if isinstance(error, RowError) and len(batch) > 1:
                for one in batch:
                    self._answer_all([one])
                return
            for _, told in batch:
                told.set_exception(error)
            return
        for (_, told), answer in answers:
            told.set_result(answer)

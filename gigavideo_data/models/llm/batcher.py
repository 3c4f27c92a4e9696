"""Dynamic batching: requests of several threads are answered in one batch by a model in this process."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from gigavideo_data import heartbeat
from gigavideo_data.errors import RowError

LINGER_S = 0.05  # how long a batch waits for the next request; callers arrive within milliseconds of each other

Request = TypeVar("Request")
Result = TypeVar("Result")


class DynamicBatcher(Generic[Request, Result]):
    """Collects requests until no other arrives, and answers them in one batch.

    Everything runs on one thread, `load` too, because models keep state per thread.
    """

    def __init__(self, load: Callable[[], Callable[[list[Request]], list[Result]]], max_batch: int) -> None:
        """Load the model.

        Args:
            load: returns a function from a batch to one result per request, in order. If it raises a RowError, an
                unknown request of the batch is to blame, and each one is answered again alone.
            max_batch: number of requests in a batch.
        """
        self._thread = ThreadPoolExecutor(1)
        self._answer = self._thread.submit(load).result()
        self._max_batch = max_batch
        self._queue: queue.SimpleQueue[tuple[Request, Future[Result]]] = queue.SimpleQueue()

    def submit(self, request: Request) -> Result:
        """Wait for the result of a request.

        Raises:
            BaseException: whatever the model raised for the batch.
        """
        future: Future[Result] = Future()
        self._queue.put((request, future))
        self._thread.submit(self._serve)  # does nothing if an earlier call took this request into its batch
        return future.result()

    def _serve(self) -> None:
        batch: list[tuple[Request, Future[Result]]] = []
        while len(batch) < self._max_batch:
            try:
                batch.append(self._queue.get(timeout=LINGER_S) if batch else self._queue.get_nowait())
            except queue.Empty:
                break
        if batch:
            self._answer_all(batch)

    def _answer_all(self, batch: list[tuple[Request, Future[Result]]]) -> None:
        try:
            results = list(zip(batch, self._answer([request for request, _ in batch]), strict=True))
        except BaseException as error:  # noqa: BLE001 - raised again in the callers' threads
            if isinstance(error, RowError) and len(batch) > 1:
                for one in batch:
                    self._answer_all([one])
                return
            for _, future in batch:
                future.set_exception(error)
            return
        heartbeat.beat()
        for (_, future), result in results:
            future.set_result(result)

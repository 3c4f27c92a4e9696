"""Dynamic batching: every caller gets its own result, and an error reaches only the callers that it concerns."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gigavideo_data import heartbeat
from gigavideo_data.errors import RowError, RunError
from gigavideo_data.models.llm.batcher import DynamicBatcher

pytestmark = pytest.mark.timeout(30)  # what goes wrong here, hangs


class Doubling:
    """Answers a batch of numbers with their doubles, and remembers batches and threads."""

    def __init__(self, failing=None):
        self.batches, self.threads, self.failing = [], set(), failing or {}

    def load(self):
        self.threads.add(threading.get_ident())
        return self.answer

    def answer(self, batch):
        self.threads.add(threading.get_ident())
        self.batches.append(batch)
        for number in batch:
            if number in self.failing:
                raise self.failing[number]
        return [2 * number for number in batch]


def at_once(batcher, numbers):
    """The result of each of several threads that submit in parallel, or its error."""
    barrier = threading.Barrier(len(numbers))

    def ask(number):
        barrier.wait()
        try:
            return batcher.submit(number)
        except (RowError, RunError, ValueError) as error:
            return error

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(ask, numbers))


def test_callers_share_batches_and_each_gets_its_own_result():
    doubling = Doubling()
    numbers = list(range(40))
    assert at_once(DynamicBatcher(doubling.load, 16), numbers) == [2 * number for number in numbers]
    assert sorted(number for batch in doubling.batches for number in batch) == numbers
    assert max(len(batch) for batch in doubling.batches) <= 16
    assert len(doubling.batches) < 10
    assert len(doubling.threads) == 1
    assert threading.get_ident() not in doubling.threads


def test_a_batch_that_was_answered_is_a_heartbeat():
    beats: list[int] = []
    batcher = DynamicBatcher(Doubling(failing={5: RunError("dead")}).load, 16)
    with heartbeat.listening(lambda: beats.append(1)):
        batcher.submit(4)
        with pytest.raises(RunError):
            batcher.submit(5)
    assert len(beats) == 1


def test_one_caller_is_answered_alone():
    assert DynamicBatcher(Doubling().load, 16).submit(4) == 8


def test_a_refused_request_does_not_affect_the_others():
    doubling = Doubling({3: RowError("refused", "too long")})
    results = at_once(DynamicBatcher(doubling.load, 8), list(range(8)))
    assert [one for one in results if not isinstance(one, RowError)] == [0, 2, 4, 8, 10, 12, 14]
    assert isinstance(results[3], RowError)


def test_an_error_of_the_engine_reaches_every_caller_of_its_batch_and_no_later_one():
    doubling = Doubling({3: RunError("broke")})
    batcher = DynamicBatcher(doubling.load, 8)
    results = at_once(batcher, list(range(8)))
    (batch,) = [batch for batch in doubling.batches if 3 in batch]
    assert {number for number in range(8) if isinstance(results[number], RunError)} == set(batch)
    assert batcher.submit(4) == 8


def test_too_few_results_are_an_error():
    batcher: DynamicBatcher[int, int] = DynamicBatcher(lambda: lambda batch: batch[1:], 8)
    with pytest.raises(ValueError, match="shorter"):
        batcher.submit(1)


def test_an_error_of_loading_is_raised():
    def load():
        raise RunError("no such model")

    with pytest.raises(RunError, match="no such model"):
        DynamicBatcher(load, 8)

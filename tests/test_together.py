"""Callers answered together: nobody waits for ever, nobody gets another one's answer, one bad caller harms no other."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.llm.together import DynamicBatcher

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
    """What each of so many threads is told, or the error it meets."""
    barrier = threading.Barrier(len(numbers))

    def ask(number):
        barrier.wait()
        try:
            return batcher.submit(number)
        except (RowError, RunError, ValueError) as error:
            return error

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(ask, numbers))


def test_callers_share_batches_and_each_gets_its_own_answer():
    doubling = Doubling()
    numbers = list(range(40))
    assert at_once(DynamicBatcher(doubling.load, 16), numbers) == [2 * number for number in numbers]
    assert sorted(number for batch in doubling.batches for number in batch) == numbers
    assert max(len(batch) for batch in doubling.batches) <= 16
    assert len(doubling.batches) < 10
    assert len(doubling.threads) == 1
    assert threading.get_ident() not in doubling.threads


def test_one_caller_is_answered_alone():
    assert DynamicBatcher(Doubling().load, 16).submit(4) == 8


def test_one_bad_row_harms_no_other():
    doubling = Doubling({3: RowError("refused", "too long")})
    told = at_once(DynamicBatcher(doubling.load, 8), list(range(8)))
    assert [one for one in told if not isinstance(one, RowError)] == [0, 2, 4, 8, 10, 12, 14]
    assert isinstance(told[3], RowError)


def test_what_is_nobodys_fault_reaches_every_caller_of_the_batch_and_no_later_one():
    doubling = Doubling({3: RunError("broke")})
    batcher = DynamicBatcher(doubling.load, 8)
    told = at_once(batcher, list(range(8)))
    (batch,) = [batch for batch in doubling.batches if 3 in batch]
    assert {number for number in range(8) if isinstance(told[number], RunError)} == set(batch)
    assert batcher.submit(4) == 8


def test_answers_that_do_not_match_their_questions_are_no_answers():
    batcher: DynamicBatcher[int, int] = DynamicBatcher(lambda: lambda batch: batch[1:], 8)
    with pytest.raises(ValueError, match="shorter"):
        batcher.submit(1)


def test_what_cannot_be_loaded_says_so():
    def load():
        raise RunError("no such model")

    with pytest.raises(RunError, match="no such model"):
        DynamicBatcher(load, 8)

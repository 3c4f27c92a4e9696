"""Inputs are prefetched one batch ahead, in order, by another thread."""

import threading
from collections.abc import Iterator

import pytest

from gigavideo_train.losses.inputs import prefetch


def test_each_item_comes_with_its_result_and_at_most_one_is_prefetched() -> None:
    asked: list[int] = []
    made_by: set[int] = set()

    def items() -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number

    def square(number: int) -> int:
        made_by.add(threading.get_ident())
        return number**2

    for number, made in prefetch(items(), square):
        assert made == number**2
        assert asked == list(range(min(number + 2, 5)))
    assert asked == [0, 1, 2, 3, 4]
    assert threading.get_ident() not in made_by
    assert list(prefetch([], square)) == []


def test_without_a_thread_a_result_is_computed_when_it_is_requested() -> None:
    made_by: list[int] = []

    def make(number: int) -> int:
        made_by.append(threading.get_ident())
        return number

    found = prefetch(range(3), make, threaded=False)
    assert [next(found), made_by] == [(0, 0), [threading.get_ident()]]
    assert list(found) == [(1, 1), (2, 2)]


def test_an_error_is_raised_where_the_result_is_requested() -> None:
    def make(number: int) -> int:
        return 1 // (2 - number)

    found = prefetch(range(4), make)
    assert [next(found), next(found)] == [(0, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_a_loop_that_ends_early_leaves_no_thread() -> None:
    before = threading.active_count()
    for _ in prefetch(range(100), float):
        break
    assert threading.active_count() == before

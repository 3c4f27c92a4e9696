"""What passes take is made one ahead, in order, and by another thread."""

import threading
from collections.abc import Iterator

import pytest

from gigavideo_train.losses.inputs import ahead


def test_each_item_comes_with_what_was_made_of_it_and_no_more_than_one_is_made_ahead() -> None:
    asked: list[int] = []
    made_by: set[int] = set()

    def items() -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number

    def square(number: int) -> int:
        made_by.add(threading.get_ident())
        return number**2

    for number, made in ahead(items(), square):
        assert made == number**2
        assert asked == list(range(min(number + 2, 5)))
    assert asked == [0, 1, 2, 3, 4]
    assert threading.get_ident() not in made_by
    assert list(ahead([], square)) == []


def test_without_a_thread_each_is_made_when_it_is_wanted() -> None:
    made_by: list[int] = []

    def make(number: int) -> int:
        made_by.append(threading.get_ident())
        return number

    found = ahead(range(3), make, threaded=False)
    assert [next(found), made_by] == [(0, 0), [threading.get_ident()]]
    assert list(found) == [(1, 1), (2, 2)]


def test_what_fails_while_it_is_made_fails_where_it_is_wanted() -> None:
    def make(number: int) -> int:
        return 1 // (2 - number)

    found = ahead(range(4), make)
    assert [next(found), next(found)] == [(0, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_who_ends_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for _ in ahead(range(100), float):
        break
    assert threading.active_count() == before

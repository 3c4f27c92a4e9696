"""A list on disk: it behaves as a list does, and memory holds next to nothing of it."""

import resource
import signal
import tracemalloc

import pytest

from gigavideo_data.errors import RunError
from gigavideo_data.io.spool import Spool, joined


def test_values_come_back_in_order_however_they_are_read():
    spool = Spool([{"prompt": "a ball"}, {"prompt": "a bar"}])
    assert [*spool] == [{"prompt": "a ball"}, {"prompt": "a bar"}]
    spool.append({"prompt": "a cube"})
    assert (len(spool), spool[-1], spool[::2]) == (3, {"prompt": "a cube"}, [spool[0], spool[2]])
    assert [*zip(spool, spool, strict=True)] == [(one, one) for one in spool]
    with pytest.raises(IndexError):
        spool[3]
    assert not Spool()


def test_a_value_that_was_changed_after_a_read_is_unchanged_in_the_spool():
    spool = Spool([["a"]])
    spool[0].append("b")
    assert spool[0] == ["a"]


def test_joined_sequences_are_one_and_a_single_one_is_not_copied():
    first, second = Spool([1, 2]), [3]
    assert [*joined(first, second)] == [1, 2, 3]
    assert joined(first, []) is first


def test_memory_holds_eight_bytes_of_a_value():
    tracemalloc.start()
    spool = Spool({"prompt": f"a ball number {number}" * 20} for number in range(5000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(spool) == 5000
    assert peak < 200_000


def test_a_full_disk_is_named_with_what_to_do():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RunError, match="TMPDIR"):
            Spool([bytes(100_000)])[0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, kept)

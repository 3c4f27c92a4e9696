"""The store: durable, content-addressed, and suspicious of its own files."""

import json
import os

import pytest

from gigavideo_data.errors import RunError
from gigavideo_data.io.hashing import content_key
from gigavideo_data.pipeline.store import ATTEMPTS_OVER_ALL_RUNS, Store


def test_a_record_comes_back_with_its_blobs(tmp_path):
    store = Store(tmp_path)
    store.put("synthesize", "ab12", {"fps": 8.0}, {"video.mp4": b"clip"})
    record = store.get("synthesize", "ab12")
    assert record is not None
    assert record["fps"] == 8.0
    assert store.blob(record["blobs"]["video.mp4"]) == b"clip"


def test_a_key_does_not_depend_on_spelling():
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        content_key({"a": float("nan")})


@pytest.mark.parametrize("damage", [b"", b"cl", b"clop"])
def test_a_damaged_blob_makes_its_row_unfinished_and_putting_it_again_mends_it(tmp_path, damage):
    store = Store(tmp_path)
    store.put("synthesize", "ab12", {}, {"video.mp4": b"clip"})
    (blob,) = (tmp_path / "blobs").glob("*/*.mp4")
    blob.write_bytes(damage)
    assert store.get("synthesize", "ab12") is None
    assert store.has_record("synthesize", "ab12")
    store.put("synthesize", "ab12", {}, {"video.mp4": b"clip"})
    assert store.get("synthesize", "ab12") is not None


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A store with one clip, which was written a second before its record; and the names of blobs that are read."""
    store, read = Store(tmp_path), list[str]()

    def noting(_: Store, name: str) -> bytes:
        read.append(name)
        return blob.read_bytes()

    store.put("synthesize", "ab12", {"fps": 8.0}, {"video.mp4": b"clip"})
    (blob,) = (tmp_path / "blobs").glob("*/*.mp4")
    (record,) = (tmp_path / "synthesize").glob("*/*.json")
    for path, seconds in ((blob, 1000), (record, 1001)):
        os.utime(path, (seconds, seconds))
    monkeypatch.setattr(Store, "blob", noting)
    return store, read, blob, record


def test_a_resume_reads_no_byte_of_clips_that_did_not_change(finished):
    store, read, _, _ = finished
    assert (store.get("synthesize", "ab12") or {})["fps"] == 8.0
    assert not read


def test_a_clip_is_hashed_again_if_its_time_or_its_size_changed_or_no_size_is_known(finished):
    store, read, blob, record = finished
    os.utime(blob, (1001, 1001))
    assert store.get("synthesize", "ab12")
    assert len(read) == 1
    blob.write_bytes(b"cl")
    os.utime(blob, (1000, 1000))  # as by a copy that was interrupted and kept times
    assert store.get("synthesize", "ab12") is None
    blob.write_bytes(b"clip")
    older = {name: value for name, value in json.loads(record.read_bytes()).items() if name != "blob_bytes"}
    record.write_text(json.dumps(older))
    os.utime(blob, (1000, 1000))
    assert store.get("synthesize", "ab12") == older
    assert len(read) == 3


def test_a_row_waits_for_the_disk_for_its_clip_and_its_record_and_not_for_its_attempts(tmp_path, monkeypatch):
    store, synced = Store(tmp_path), list[int]()
    monkeypatch.setattr(os, "fsync", synced.append)
    store.begin_attempt("synthesize", "ab12", "run", 3)
    assert not synced
    store.put("synthesize", "ab12", {}, {"video.mp4": b"clip"})
    assert len(synced) == 4  # each a file and its folder


def test_a_torn_record_is_an_unfinished_row(tmp_path):
    store = Store(tmp_path)
    store.put("judge", "ab12", {"answers": []})
    (record,) = (tmp_path / "judge").glob("*/*.json")
    record.write_bytes(b'{"answers"')
    assert store.get("judge", "ab12") is None


def test_attempts_are_bounded_within_a_run_and_over_all_runs(tmp_path):
    store = Store(tmp_path)
    assert [store.begin_attempt("judge", "k", "run1", 3) for _ in range(4)] == [1, 2, 3, None]
    assert store.begin_attempt("judge", "k", "run2", 3) == 1
    later = [store.begin_attempt("judge", "k", f"run{n}", 3) for n in range(3, 30)]
    assert 4 + sum(attempt is not None for attempt in later) == ATTEMPTS_OVER_ALL_RUNS


def test_success_forgets_the_attempts(tmp_path):
    store = Store(tmp_path)
    store.begin_attempt("judge", "k", "run1", 3)
    store.put("judge", "k", {})
    assert store.begin_attempt("judge", "k", "run1", 3) == 1


def test_an_unwritable_store_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--store"):
        Store(tmp_path / "file" / "store").create()

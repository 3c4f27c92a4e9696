"""A finished dataset is not written again, unless its input or one of its files changed."""

import os

import pytest

from gigavideo_data.dataset import finished
from gigavideo_data.dataset.report.page import write_report
from tests.support.rows import write_set

WRITTEN_FROM = finished.fingerprint([{"id": "a"}, {"id": "b"}])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = write_set(tmp_path_factory.mktemp("sets") / "set")
    write_report(folder)
    assert not finished.is_finished(folder, WRITTEN_FROM)
    finished.mark(folder, WRITTEN_FROM)
    return folder


def test_it_is_finished_for_the_same_input_alone(out):
    assert finished.is_finished(out, WRITTEN_FROM)
    for other in ([{"id": "b"}, {"id": "a"}], [{"id": "a"}], [{"id": "a"}, {"id": "b", "reward": 0.5}]):
        assert not finished.is_finished(out, finished.fingerprint(other))


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "manifest.json", "README.md", "report.html"])
def test_a_file_that_changed_or_is_gone_makes_it_unfinished(out, name):
    path, stat = out / name, (out / name).stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert not finished.is_finished(out, WRITTEN_FROM)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert finished.is_finished(out, WRITTEN_FROM)
    kept = path.rename(out / "kept")
    assert not finished.is_finished(out, WRITTEN_FROM)
    kept.rename(path)


def test_a_broken_marker_makes_it_unfinished(out):
    marker = out / finished.MARKER
    text = marker.read_text()
    marker.write_text(text[:20])
    assert not finished.is_finished(out, WRITTEN_FROM)
    marker.write_text(text)

"""A dataset's folder that was damaged, exchanged or written by somebody else: refused before any row of it is used."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from gigavideo_data.commands.merge import merge
from gigavideo_data.commands.rescore import recompute
from gigavideo_data.dataset.report import page
from gigavideo_data.dataset.summary import summarize
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.progress import Progress
from gigavideo_train.data.dataset import dev_prompts, read
from tests.data.dataset.test_verify import edit_manifest, replace_rows
from tests.e2e.test_train import refused
from tests.support.rows import COST, make_eval_prompts, make_manifest, make_rejects, write_set
from tests.support.train_set import row, rows

TRAIN = "data/train-00000-of-00001.parquet"
LATENTS = "latents/latents-00000-of-00001.parquet"
DEV = "eval_prompts/dev-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set to train on, with the latents of one of its videos."""
    return with_latents(tmp_path_factory.mktemp("trust") / "set")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


def with_latents(folder: Path) -> Path:
    made = rows()
    data = np.ones(8 * 2 * 12 * 12, np.uint16).tobytes()
    latents: Any = {
        **{name: made[0][name] for name in ("id", "video_sha256")},
        "latents": data,
        "latents_sha256": hashlib.sha256(data).hexdigest(),
        "shape": [8, 2, 12, 12],
        "vae": {"model": "miniature", "revision": "0" * 16},
    }
    manifest = make_manifest(made, make_rejects())
    write_dataset(folder, made, make_eval_prompts(), make_rejects(), manifest, COST, latents=[latents])
    return folder


def exchange_clip(shard: Path) -> None:
    """Give a row another clip, without a word in the manifest."""
    table = pq.read_table(shard)
    made = table.to_pylist()
    made[0]["video"]["bytes"] = row(55)["video"]["bytes"]
    pq.write_table(pa.Table.from_pylist(made, schema=table.schema), shard)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_exchanged_clip_is_refused_with_both_sums_and_nothing_is_cached(folder: Path, tmp_path: Path) -> None:
    before = sum_of(folder / TRAIN)
    exchange_clip(folder / TRAIN)
    said = refused(folder, tmp_path / "out")
    assert TRAIN in said
    assert before in said
    assert sum_of(folder / TRAIN) in said
    assert not (tmp_path / "latents").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [TRAIN, LATENTS])
@pytest.mark.parametrize("at", [0, 200, -1])
def test_a_changed_byte_of_a_shard_is_found_before_training(folder: Path, name: str, at: int) -> None:
    read(folder)
    flip(folder / name, at)
    with pytest.raises(DatasetError, match=rf"{name}: .* the manifest says"):
        read(folder)


def test_changed_held_out_prompts_are_found_before_they_are_sampled(folder: Path) -> None:
    flip(folder / DEV, 0)
    found = read(folder)
    with Progress(Console(quiet=True)) as progress, pytest.raises(DatasetError, match="the manifest says"):
        dev_prompts(found, progress)


READERS: dict[str, Callable[[Path], Any]] = {
    "inspect": summarize,
    "report": page.write_report,
    "score": recompute,
    "merge": lambda folder: merge([folder, folder], folder.parent / "merged"),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_changed_byte_at_the_head_of_a_shard_is_found_by_every_reader(folder: Path, reader: str) -> None:
    flip(folder / TRAIN, 2)
    with pytest.raises(DatasetError, match=r"data/train.*the manifest says"):
        READERS[reader](folder)


@pytest.mark.parametrize(
    "name", ["data/../../outside.parquet", "/tmp/a.parquet", "~/a.parquet", "https://a.org/b.parquet", "data/a.py"]
)
def test_a_file_name_that_leads_elsewhere_is_refused_before_any_file_is_opened(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / TRAIN, tmp_path / "outside.parquet")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit_manifest(folder, files=files | {name: files[TRAIN]})
    monkeypatch.setattr(pq, "ParquetFile", None)
    for reader in (read, summarize, verify_folder):
        with pytest.raises(DatasetError) as caught:
            reader(folder)
        assert f"{name!r} is not allowed" in str(caught.value)
    assert "is not allowed" in refused(folder, tmp_path / "out", "--dry-run")


@pytest.mark.parametrize("name", [TRAIN, "manifest.json", "cost.json", "data"])
def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    for reader in (read, summarize, verify_folder):
        with pytest.raises(DatasetError, match="outside the dataset's folder"):
            reader(folder)


def test_a_link_to_itself_is_refused(folder: Path) -> None:
    (folder / TRAIN).unlink()
    (folder / TRAIN).symlink_to(folder / TRAIN)
    with pytest.raises(DatasetError, match=TRAIN):
        read(folder)


def test_links_within_the_folder_and_those_of_the_hub_clients_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--org--ds" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    blobs = tmp_path / "datasets--org--ds" / "blobs"
    blobs.mkdir()
    (snapshot / TRAIN).rename(blobs / "a")
    (snapshot / TRAIN).symlink_to(Path("../../../blobs/a"))
    (folder / TRAIN).rename(folder / "shard")
    (folder / TRAIN).symlink_to(folder / "shard")
    (tmp_path / "link").symlink_to(folder)
    assert read(snapshot).identity == read(folder).identity == read(tmp_path / "link").identity


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / TRAIN).unlink()
    with pytest.raises(DatasetError, match=rf"{TRAIN} is missing"):
        read(folder)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("video", [None, {"bytes": None, "path": "/etc/passwd"}])
def test_a_row_without_bytes_does_not_pass_the_dry_run(tmp_path: Path, video: dict | None, statistics: bool) -> None:
    folder = write_set(tmp_path / "set", rows())
    made = rows()
    made[0]["video"] = video
    replace_rows(folder, made)
    if not statistics:
        pq.write_table(pq.read_table(folder / TRAIN), folder / TRAIN, write_statistics=False)
        files = json.loads((folder / "manifest.json").read_text())["files"]
        files[TRAIN] |= {"sha256": sum_of(folder / TRAIN), "bytes": (folder / TRAIN).stat().st_size}
        edit_manifest(folder, files=files)
    said = refused(folder, tmp_path / "out", "--dry-run")
    assert f"row {made[0]['id']} has no clip" in said


def test_a_row_group_too_large_to_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gigavideo_data.dataset.reader.MAX_GROUP_BYTES", 1000)
    with pytest.raises(DatasetError, match="row group 0 is larger"):
        read(folder)

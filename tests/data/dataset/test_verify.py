import hashlib
import json
import shutil
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigavideo_data.commands.rescore import recompute
from gigavideo_data.dataset import schema, verify
from gigavideo_data.dataset.summary import summarize
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video
from gigavideo_train.data import dataset
from tests.support.rows import FPS, clip, make_row, make_rows, write_set

TRAIN = "data/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "tiny")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(whole, tmp_path / "set")


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_rows(folder, rows, name=TRAIN):
    """Write other rows into a shard and make the manifest agree: what a careless or hostile publisher would do."""
    path = folder / name
    pq.write_table(schema.to_table(rows), path)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    data = path.read_bytes()
    files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": len(rows), "bytes": len(data)}
    edit_manifest(folder, files=files)


def refusal(folder) -> str:
    with pytest.raises(DatasetError) as caught:
        verify_folder(folder)
    return str(caught.value)


def train_rows() -> list[dict]:
    return [row for row in make_rows() if row["split"] == "train"]


def test_a_whole_set_passes(whole):
    verified = verify_folder(whole)
    assert verified.format == schema.FORMAT_VERSION
    assert verified.rows == {"train": 9, "validation": 1, "preview": 10, "dev": 1, "test": 2, "rejects": 1}
    assert verified.clips == 10


def test_unknown_format_comes_first_and_says_what_to_do(folder):
    shutil.rmtree(folder / "data")
    edit_manifest(folder, format="2.0", ledger="something new")
    assert "format 2.0" in refusal(folder)
    assert "Upgrade gigavideo" in refusal(folder)


def test_no_manifest_is_no_set(folder):
    (folder / "manifest.json").unlink()
    assert "Run `gv-data build` to its end" in refusal(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"format": "1.0"}', '{"format": "1.0", "rows": 3}', "\xff"])
def test_a_broken_manifest_is_named(folder, text):
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    assert "manifest.json" in refusal(folder)


def test_a_flipped_byte_in_a_shard_is_found(folder):
    data = bytearray((folder / TRAIN).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / TRAIN).write_bytes(data)
    assert f"{TRAIN}: " in refusal(folder)
    assert "damaged" in refusal(folder)


def test_a_shard_that_is_no_parquet_is_found(folder):
    data = b"<html>Too many requests</html>"
    (folder / TRAIN).write_bytes(data)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files[TRAIN] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(folder, files=files)
    assert "cannot be read as Parquet" in refusal(folder)


def test_a_missing_shard_and_an_unlisted_one_are_found(folder):
    shutil.copy(folder / TRAIN, folder / "data" / "train-00001-of-00002.parquet")
    assert "data/train-00001-of-00002.parquet is not in the manifest" in refusal(folder)
    (folder / "data" / "train-00001-of-00002.parquet").unlink()
    (folder / TRAIN).unlink()
    assert f"{TRAIN} is missing" in refusal(folder)


@pytest.mark.parametrize("name", ["data/train-../../x.parquet", "/etc/passwd", "../set/data/train-0.parquet", "x.py"])
def test_the_manifest_cannot_name_files_outside(folder, name):
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit_manifest(folder, files=files | {name: files[TRAIN]})
    assert "is not allowed" in refusal(folder)


def test_a_truncated_clip_is_found(folder):
    rows = train_rows()
    data = rows[0]["video"]["bytes"][:-200]
    rows[0] |= {"video": {"bytes": data, "path": "a.mp4"}, "video_sha256": hashlib.sha256(data).hexdigest()}
    replace_rows(folder, rows)
    assert f"row {rows[0]['id']}" in refusal(folder)


def test_a_clip_that_is_not_the_one_of_the_row_is_found(folder):
    rows = train_rows()
    rows[0]["video"] = {"bytes": clip(77), "path": "a.mp4"}
    replace_rows(folder, rows)
    assert "video_sha256" in refusal(folder)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"num_frames": 6}, "5 frames of 32 x 32 px, the row says 6"),
        ({"height": 48}, "the row says 5 of 48 x 32"),
        ({"fps": 16.0}, "8 Hz, the row says 16"),
        ({"split": "validation"}, "in two splits"),
        ({"reward": float("nan")}, "reward is nan"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \t\u200b"}, "prompt is blank"),
        ({"prompt": "a ball\0falls"}, "prompt has a NUL character"),
        ({"base_prompt": ""}, "base_prompt is empty"),
        ({"video": {"bytes": clip(0), "path": "/etc/passwd"}}, "bare file name"),
        ({"video": {"bytes": None, "path": "a.mp4"}}, "video.bytes is null"),
    ],
)
def test_rows_that_lie_about_their_clip_are_found(folder, columns, message):
    rows = train_rows()
    rows[0] |= columns
    replace_rows(folder, rows)
    assert message in refusal(folder)


def test_an_id_in_two_splits_is_found(folder):
    rows = train_rows()
    replace_rows(folder, [rows[0] | {"split": "validation"}], "data/validation-00000-of-00001.parquet")
    assert rows[0]["id"] in refusal(folder)


def test_a_pair_in_two_splits_is_found(folder):
    rows = [row for row in train_rows() if row["source"] != "real"]
    replace_rows(folder, rows)
    real = make_row(10, "real", split="validation")
    replace_rows(folder, [real], "data/validation-00000-of-00001.parquet")
    assert "in two splits" in refusal(folder)


def test_a_preview_that_shows_other_clips_is_found(folder):
    rows = make_rows()
    rows[0] |= {"video": {"bytes": clip(77), "path": "a.mp4"}, "video_sha256": hashlib.sha256(clip(77)).hexdigest()}
    replace_rows(folder, rows, "preview/preview.parquet")
    assert "is not the one in data/" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in": 8}, "rows were lost"),
        ({"in": 8, "rejected": {"duplicate": 2}}, "rejects/ lists 1"),
        (
            {"in": 7, "rejected": {"too_long": 1}},
            "0 rejected in prompt of synthetic as duplicate, but rejects/ lists 1",
        ),
    ],
)
def test_a_ledger_that_does_not_add_up_is_found(folder, change, message):
    ledger = json.loads((folder / "manifest.json").read_text())["ledger"]
    for line in ledger:
        if (line["stage"], line["source"]) == ("prompt", "synthetic"):
            line.update(change)
    edit_manifest(folder, ledger=ledger)
    assert message in refusal(folder)


def test_rows_that_the_ledger_does_not_know_are_found(folder):
    replace_rows(folder, train_rows()[1:])
    edit_manifest(folder, rows={"train": 8, "validation": 1})
    assert "rows per stage" in refusal(folder) or "preview" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", []),
        ("files", {"data/train-00000-of-00001.parquet": {"rows": 1, "sha256": "0" * 64}}),
        ("files", {"data/train-00000-of-00001.parquet": {"rows": 1, "sha256": "x", "bytes": 9}}),
        ("judge_check", "x"),
        ("dimensions", None),
        ("recipe", {}),
    ],
)
def test_a_manifest_of_another_shape_is_refused_wherever_it_is_read(folder, key, value):
    edit_manifest(folder, **{key: value})
    for read in (verify_folder, summarize, dataset.read, recompute):
        with pytest.raises(DatasetError, match=key):
            read(folder)


def test_a_shard_that_the_manifest_does_not_list_is_read_by_nobody(folder):
    before = summarize(folder)["counts"]
    shutil.copy(folder / "data" / "train-00000-of-00001.parquet", folder / "data" / "train-zzz.parquet")
    assert summarize(folder)["counts"] == before


def test_a_card_that_load_dataset_cannot_use_is_found(folder):
    card = folder / "README.md"
    card.write_text(card.read_text().replace("config_name: rejects", "config_name: other"))
    assert "its configs are not those of the manifest" in refusal(folder)
    whole = write_set(folder.parent / "other") / "README.md"
    card.write_text(whole.read_text().replace("data/train-*.parquet", "https://127.0.0.1:9/a.parquet"))
    assert "its configs are not those of the manifest" in refusal(folder)
    card.unlink()
    assert "README.md" in refusal(folder)


def test_memory_does_not_grow_with_clips_or_rows(folder):
    rows = train_rows()
    for number, row in enumerate(rows):
        data = video.encode(np.full((48, 192, 192, 3), 20 * number, np.uint8), FPS)
        row |= {"video": {"bytes": data, "path": "a.mp4"}, "video_sha256": hashlib.sha256(data).hexdigest()}
        row |= {"num_frames": 48, "height": 192, "width": 192}
    replace_rows(folder, rows)
    tracemalloc.start()
    refusal(folder)  # the preview has other clips: it is read after the clips in data/
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6  # of 5.3 MB decoded per clip


def test_rows_are_read_one_by_one(folder, monkeypatch):
    monkeypatch.setattr(verify, "check_table", lambda table, *_: sizes.append(table.num_rows))
    sizes: list[int] = []
    verify_folder(folder)
    assert max(sizes) == 1


@pytest.mark.parametrize("name", ["eval_prompts/test-00000-of-00001.parquet", "preview/preview.parquet"])
def test_a_key_that_stands_twice_in_one_part_is_found(folder, name):
    table = pq.read_table(folder / name)
    twice = pa.concat_tables([table, table.slice(0, 1)])
    pq.write_table(twice, folder / name, row_group_size=1)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    data = (folder / name).read_bytes()
    files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": twice.num_rows, "bytes": len(data)}
    edit_manifest(folder, files=files)
    assert "is there twice" in refusal(folder)


def test_a_clip_larger_than_the_limit_is_refused_with_its_row_and_the_variable_to_set(folder, monkeypatch):
    monkeypatch.setenv("GIGAVIDEO_MAX_CLIP_GIB", "1e-6")
    assert any(row["id"] in refusal(folder) for row in train_rows())
    assert "GIGAVIDEO_MAX_CLIP_GIB" in refusal(folder)


def test_the_first_error_is_named_though_clips_are_decoded_beside(folder):
    *others, broken, moved = schema.in_order(train_rows())
    data = b"no video"
    broken |= {"video": broken["video"] | {"bytes": data}, "video_sha256": hashlib.sha256(data).hexdigest()}
    replace_rows(folder, [*others, broken, moved | {"split": "validation"}])
    assert broken["id"] in refusal(folder)
    replace_rows(folder, [*others, moved | {"split": "validation"}])
    assert "in two splits" in refusal(folder)

import hashlib
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Features, Video, get_dataset_config_names, load_dataset
from huggingface_hub import DatasetCard

from gigavideo_data.commands.remake import withhold
from gigavideo_data.dataset import writer
from gigavideo_data.dataset.schema import LAYOUT, OPTIONAL, ROW_SCHEMA
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.spool import Spool
from tests.support.rows import COST, make_eval_prompts, make_manifest, make_rejects, make_row, make_rows, write_set


def contents(folder) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "tiny")


@pytest.mark.parametrize("config", [config for config in LAYOUT if config not in OPTIONAL])
def test_plain_load_dataset_types_every_config(folder, config, tmp_path):
    loaded = load_dataset(str(folder), config, cache_dir=str(tmp_path))
    contract, splits = LAYOUT[config]
    assert loaded.keys() == splits.keys()
    for split in loaded.values():
        assert len(split) > 0
        assert split.features == Features.from_arrow_schema(contract.schema)
        assert isinstance(split.features.get("video", Video()), Video)


def test_the_default_config_has_the_rows_that_were_given(folder, tmp_path):
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path)).cast_column("video", Video(decode=False))
    read = {row["id"]: row for split in loaded.values() for row in split}
    given = {row["id"]: row for row in make_rows()}
    assert read == given
    assert {row["split"] for row in loaded["validation"]} == {"validation"}


def test_equal_input_gives_equal_bytes_in_any_order(folder, tmp_path):
    other = tmp_path / "other name"
    rows = Spool(make_rows()[::-1])
    cost = COST | {"wall_seconds": 99.0}  # the card quotes other parts of it
    writer.write_dataset(
        other, rows, make_eval_prompts()[::-1], make_rejects(), make_manifest(make_rows(), make_rejects()), cost
    )
    first, second = contents(folder), contents(other)
    assert first.pop("cost.json") != second.pop("cost.json")
    assert first == second


def test_splits_and_configs_without_rows_do_not_spoil_the_others(tmp_path):
    out, rows = tmp_path / "set", [make_row(split="train")]
    writer.write_dataset(out, rows, [], [], make_manifest(rows, []), COST)
    assert get_dataset_config_names(str(out)) == ["default", "preview"]
    assert load_dataset(str(out), cache_dir=str(tmp_path / "cache")).keys() == {"train"}
    for name in ("data/validation-00000-of-00001.parquet", "rejects/rejects.parquet"):
        assert pq.read_table(out / name).num_rows == 0


def test_a_set_without_rows_is_refused_with_the_commonest_reasons_and_its_rejects_are_written(tmp_path):
    out = tmp_path / "set"
    reasons = ["no_clip"] * 4 + ["bad_answer"] * 3 + ["lost_facts"] * 2 + ["duplicate"]
    (plain,) = make_rejects()
    rejects = [plain | {"reason": reason, "detail": f"{reason} {n}\x1b[2J"} for n, reason in enumerate(reasons)]
    for _ in range(2):  # the same command again is not in the way of itself
        with pytest.raises(DatasetError, match="no rows to publish, 10 rejected") as error:
            writer.write_dataset(out, [], [], rejects, make_manifest([], rejects), COST)
    message = str(error.value)
    assert "4 no_clip (prompt), such as: no_clip 0" in message
    assert "3 bad_answer (prompt), such as: bad_answer 4" in message
    assert "lost_facts 7" in message
    assert "\x1b" not in message
    assert "duplicate" not in message
    assert str(out / "rejects" / "rejects.parquet") in message
    assert pq.read_table(out / "rejects" / "rejects.parquet").num_rows == 10
    write_set(out)
    verify_folder(out)
    with pytest.raises(DatasetError, match=r"\.gv/rejects/rejects\.parquet"):
        writer.write_dataset(out, [], [], rejects, make_manifest([], rejects), COST)
    verify_folder(out)


def test_rewriting_removes_the_shards_of_the_older_set(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 20_000)
    out = write_set(tmp_path / "set")
    old = sorted(path.name for path in (out / "data").iterdir())
    assert len(old) > 3
    monkeypatch.undo()
    write_set(out)
    names = sorted(path.name for path in (out / "data").iterdir())
    assert names == ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"]
    assert list((out / ".gv").iterdir()) == []


def test_row_groups_and_shards_stay_under_their_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 30_000)
    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 15_000)
    out = write_set(tmp_path / "set")
    for path in (out / "data").glob("train-*"):
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        assert all(group.total_byte_size < 15_000 or group.num_rows == 1 for group in groups)
        assert sum(group.num_rows for group in groups) > 0


def test_row_groups_of_small_clips_have_few_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "MAX_GROUP_ROWS", 4)
    file = pq.ParquetFile(write_set(tmp_path / "set") / "data/train-00000-of-00001.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [4, 4, 1]


def test_clips_are_stored_plain_and_the_rest_compressed(folder):
    group = pq.read_metadata(folder / "data" / "train-00000-of-00001.parquet").row_group(0)
    columns = {column.path_in_schema: column for column in (group.column(i) for i in range(group.num_columns))}
    assert columns["video.bytes"].compression == "UNCOMPRESSED"
    assert "PLAIN" in columns["video.bytes"].encodings
    assert "RLE_DICTIONARY" not in columns["video.bytes"].encodings
    assert columns["prompt"].compression == "ZSTD"
    assert all(column.has_offset_index for column in columns.values())


def test_preview_shows_every_kind_and_leaves_out_large_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "PREVIEW_ROWS", 3)
    out = write_set(tmp_path / "a")
    assert set(pq.read_table(out / "preview")["source"].to_pylist()) == {"synthetic", "twin", "real"}
    monkeypatch.setattr(writer, "PREVIEW_CLIP_BYTES", 10)
    assert pq.read_table(write_set(tmp_path / "b") / "preview").num_rows == 0


def test_bad_input_leaves_the_older_set_as_it_was(tmp_path):
    out = write_set(tmp_path / "set")
    before = contents(out)
    row = make_row()
    for rows, message in [
        ([row | {"split": "test"}], "split is 'test', expected train or validation"),
        ([row | {"reward": 2.0}], "outside"),
        ([row, row], "is there twice"),
        ([{name: value for name, value in row.items() if name != "fps"}], "missing columns: fps"),
        ([row | {"video": {"bytes": row["video"]["bytes"], "path": "../x.mp4"}}], "bare file name"),
    ]:
        with pytest.raises(DatasetError, match=message):
            write_set(out, rows)
        after = {name: sha for name, sha in contents(out).items() if not name.startswith(".gv/")}
        assert after == before


def test_a_publish_that_stops_half_way_leaves_no_set_and_the_next_one_repairs_it(folder, tmp_path, monkeypatch):
    out = write_set(tmp_path / "set", [make_row(split="train")])
    move = Path.replace

    def fail_at_the_card(path, target):
        if path.name == "README.md":
            raise OSError(28, "No space left on device")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_card)
    with pytest.raises(OSError, match="No space left"):
        write_set(out)
    assert not (out / "manifest.json").exists()
    monkeypatch.undo()
    write_set(out)
    assert contents(out) == contents(folder)


def test_foreign_folders_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "README.md").write_text("# My own project")
    with pytest.raises(DatasetError, match=r"README.md.*Choose another --out"):
        writer.check_out(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be created"):
        writer.check_out(tmp_path / "file")
    writer.check_out(tmp_path / "new" / "folder")


def test_card_names_what_a_stranger_needs(folder):
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.size_categories == "n<1K"
    default = card.data.to_dict()["configs"][0]
    assert default["config_name"] == "default"
    assert default["default"] is True
    for part in (
        "## Rewards",
        "## Rows per stage",
        "## Limits",
        "failed this check on mechanics",
        "load_dataset",
        "gv-train",
    ):
        assert part in card.text
    assert "99.0" not in card.text


@pytest.mark.parametrize("withheld", [False, True])
def test_the_example_on_the_card_is_python(folder, tmp_path, withheld):
    if withheld:
        withhold(folder, tmp_path / "scores")
        folder = tmp_path / "scores"
    (example,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    compile(example, "README.md", "exec")
    assert ('["video"]["bytes"]' in example) != withheld


def test_hostile_text_cannot_break_the_card(tmp_path):
    rows, rejects = make_rows(), make_rejects()
    rejects[0]["reason"] = "a|b\n---\n<script>"
    manifest = make_manifest(rows, rejects) | {"name": "x: |\n---\ny"}
    manifest["recipe"]["name"] = "```\n</details>"
    out = tmp_path / "set"
    writer.write_dataset(out, rows, make_eval_prompts(), rejects, manifest, COST)
    text = (out / "README.md").read_text()
    assert DatasetCard(text).data.to_dict()["pretty_name"] == "x: |\n---\ny"
    assert r"a\|b --- \<script\>: 1" in text
    assert text.count("```json") == 1
    assert text.count("\n```\n") == 3
    assert load_dataset(str(out), "rejects", split="rejects", cache_dir=str(tmp_path / "c"))[0]["reason"].startswith(
        "a|b"
    )


def test_manifest_lists_every_file_with_its_sum(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["rows"] == {"train": 9, "validation": 1}
    on_disk = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.parquet")}
    assert manifest["files"].keys() == on_disk.keys()
    for name, path in on_disk.items():
        assert manifest["files"][name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert manifest["files"][name]["rows"] == pq.read_metadata(path).num_rows
    written = pq.read_schema(on_disk["data/train-00000-of-00001.parquet"])
    assert written.equals(ROW_SCHEMA)
    assert written.metadata == ROW_SCHEMA.metadata

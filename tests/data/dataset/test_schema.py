import copy
import json
import math

import pyarrow as pa
import pytest
from datasets import Features, Video

from gigavideo_data.dataset import schema
from gigavideo_data.dataset.table_check import check_table
from gigavideo_data.errors import DatasetError
from tests.support.rows import make_row, make_rows


def changed(**columns) -> dict:
    return {**copy.deepcopy(make_row()), **columns}


def message_for(*rows: dict) -> str:
    with pytest.raises(DatasetError) as caught:
        check_table(schema.to_table(list(rows)), "here.parquet")
    return str(caught.value)


def test_good_rows_pass():
    check_table(schema.to_table(make_rows()), "here")


@pytest.mark.parametrize("contract", [schema.ROWS, schema.EVAL_PROMPTS, schema.REJECTS])
def test_datasets_reads_our_metadata_as_its_own_features(contract):
    features = Features.from_arrow_schema(contract.schema)
    assert features.arrow_schema.types == contract.schema.types
    assert features.arrow_schema.metadata[b"huggingface"] == contract.schema.metadata[b"huggingface"]


def test_video_is_a_video_feature():
    assert isinstance(Features.from_arrow_schema(schema.ROW_SCHEMA)["video"], Video)


def test_ids_depend_on_all_that_makes_the_video_and_on_nothing_else():
    generator = {"model": "m", "steps": 20, "guidance": 3.0}
    known = schema.row_id("a ball", generator, 7)
    assert known == "e0280962d0f3815746ad5e902d34b1af"  # a changed id would orphan every published set
    assert known == schema.row_id("a ball", dict(reversed(generator.items())), 7)
    others = [
        schema.row_id("a cube", generator, 7),
        schema.row_id("a ball", generator, 8),
        schema.row_id("a ball", generator | {"steps": 21}, 7),
        schema.file_row_id("a ball", "0" * 64),
    ]
    assert len({known, *others}) == 5
    with pytest.raises(ValueError, match="not JSON compliant"):
        schema.row_id("a ball", {"guidance": math.nan}, 7)


def test_split_is_stable_and_has_the_asked_share():
    splits = [schema.split_of(schema.prompt_id(str(number)), 0.2) for number in range(5000)]
    assert 0.18 < splits.count("validation") / 5000 < 0.22
    assert splits[:50] == [schema.split_of(schema.prompt_id(str(number)), 0.2) for number in range(50)]
    assert schema.split_of("x", 0.0) == "train"
    assert schema.split_of("x", 1.0) == "validation"


def test_table_order_does_not_depend_on_the_order_of_rows():
    rows = make_rows()
    assert schema.to_table(rows).equals(schema.to_table(rows[::-1]))


def test_a_misspelt_column_is_not_dropped_silently():
    row = make_row()
    row["rewrad"] = row.pop("reward")
    with pytest.raises(DatasetError, match="missing columns: reward; unknown: rewrad"):
        schema.to_table([row])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"reward": math.nan}, "reward is nan"),
        ({"reward": 1.5}, r"reward is 1.5, outside \[0, 1\]"),
        ({"reward": None}, "reward is None, but its status is scored"),
        ({"status": "unscorable", "reward": None}, "reward is unscorable without a reason"),
        ({"status": "fine"}, "status is 'fine', expected scored or unscorable or not_scored"),
        ({"source": "found"}, "source is 'found'"),
        ({"prompt": None}, "prompt is null"),
        ({"id": "../x"}, "id is not 32 hexadecimal digits"),
        ({"pair_id": "p"}, "pair_id is p on a synthetic row"),
        ({"video": None, "source": "real"}, "video is null on a real row"),
        ({"video": {"bytes": None, "path": "a.mp4"}}, "video.bytes is null"),
        ({"judges": []}, "judge miniature is not among the row's judges"),
    ],
)
def test_broken_values_are_named(columns, message):
    row = changed(**columns)
    with pytest.raises(DatasetError, match=message) as caught:
        check_table(schema.to_table([row]), "here.parquet")
    assert "here.parquet" in str(caught.value)
    assert str(row["id"]) in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../a.mp4", "a/b.mp4", "a\\b.mp4", "file:a.mp4", "https://x/a.mp4", "a\0.mp4", "..", ".a.mp4", ""],
)
def test_only_bare_file_names_stand_in_video_path(path):
    row = changed(video={"bytes": b"x", "path": path})
    assert "expected a bare file name" in message_for(row)


def test_nested_values_are_checked_too():
    row = changed()
    row["answers"][0] |= {"p_yes": 1.2, "expected": "maybe", "gate": None}
    row["rewards"][0] |= {"value": None}
    message = message_for(row)
    for part in ("answers.p_yes is 1.2", "answers.expected is 'maybe'", "answers.gate is null", "rewards.mechanics"):
        assert part in message


def test_an_id_stands_once():
    assert "is there 2 times" in message_for(make_row(), make_row())


def test_long_lists_of_problems_are_cut():
    message = message_for(*(changed(prompt=None, id=f"{number:032x}") for number in range(9)))
    assert "and 4 more" in message


def test_columns_and_types_are_checked():
    table = schema.to_table([make_row()])
    with pytest.raises(DatasetError, match="missing columns: fps"):
        check_table(table.drop_columns("fps"), "here")
    extra = table.append_column("mood", pa.array(["good"]))
    with pytest.raises(DatasetError, match="unknown: mood"):
        check_table(extra, "here")
    check_table(extra.replace_schema_metadata({"gigavideo_format": "1.9"}), "here")  # a later minor may add
    wrong = table.set_column(table.schema.get_field_index("sample"), "sample", pa.array(["0"]))
    with pytest.raises(DatasetError, match="sample is string, expected int32"):
        check_table(wrong, "here")
    with pytest.raises(DatasetError, match="not a set of gigavideo"):
        check_table(table.replace_schema_metadata(None), "here")


def test_a_column_is_null_in_sets_of_a_format_that_had_it_not_yet():
    table = schema.to_table([make_row()])
    old = table.drop_columns("source_file").replace_schema_metadata({"gigavideo_format": "1.0"})
    check_table(old, "here")
    whole = schema.completed(old, ["id", "source_file"])
    assert (whole["source_file"].to_pylist(), whole.schema.field("source_file").type) == (
        [None],
        schema.ROW_SCHEMA.field("source_file").type,
    )
    assert schema.completed(old, ["id"]).column_names == old.column_names
    check_table(whole, "here")
    with pytest.raises(DatasetError, match="unknown: mood"):
        check_table(old.append_column("mood", pa.array(["good"])), "here")
    for version in ("1.1", "1.9", "1.x"):
        later = old.replace_schema_metadata({"gigavideo_format": version})
        with pytest.raises(DatasetError, match="missing columns: source_file"):
            check_table(schema.completed(later, ["source_file"]), "here")


SOURCE_FILE = {"name": "DJI 1.MP4", "path": "day 1/DJI 1.MP4", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("source_file", "generator", "message"),
    [
        ({}, {"backend": "diffusers"}, "a diffusers generator"),
        ({"path": "../DJI 1.MP4"}, {}, "expected a relative path"),
        ({"path": "/x/DJI 1.MP4"}, {}, "expected a relative path"),
        ({"path": "~/DJI 1.MP4"}, {}, "expected a relative path"),
        ({"path": "C:\\\\DJI 1.MP4"}, {}, "expected a relative path"),
        ({"path": "other.mp4"}, {}, "ends in the name"),
        ({"path": ""}, {}, "expected a relative path"),
        ({"sha256": "x"}, {}, "sha256 is not 64"),
        ({"name": None}, {}, "source_file.name is null"),
    ],
)
def test_a_source_file_is_a_name_a_relative_path_and_a_sum(source_file, generator, message):
    elsewhere = make_row()["generator"] | {"backend": "files"}
    check_table(schema.to_table([changed(source_file=SOURCE_FILE, generator=elsewhere)]), "here")
    report = message_for(changed(source_file=SOURCE_FILE | source_file, generator=elsewhere | generator))
    assert "source_file" in report
    assert message in report


def test_another_major_format_is_refused_with_what_to_do():
    schema.check_format("1.7", "here")
    with pytest.raises(DatasetError, match=r"here: format 2.0.*1.x.*Upgrade"):
        schema.check_format("2.0", "here")
    with pytest.raises(DatasetError, match="Build the set again"):
        schema.check_format("None", "here")


def test_metadata_is_json_and_names_the_format():
    metadata = schema.ROW_SCHEMA.metadata
    assert metadata[b"gigavideo_format"].decode() == schema.FORMAT_VERSION
    assert json.loads(metadata[b"huggingface"])["info"]["features"].keys() == set(schema.ROW_SCHEMA.names)

"""Tables of captioned clips: which rows are usable, and what is refused."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_data.pipeline.sources import caption_table
from gigavideo_data.pipeline.sources.caption_table import Captioned

KOALA = {
    "videoID": "abcDEF-_123_7",
    "url": "https://example.org/watch?v=abcDEF-_123",
    "timestamp": "['0:00:01.500', '0:00:04']",
    "caption": "A  heron wades\nthrough reeds.",
    "video_training_suitability_score": 4.2,
}


def table(folder: Path, *rows: dict, name: str = "table.parquet") -> Path:
    rows_of_table = pa.Table.from_pylist([KOALA | row for row in rows])
    if name.endswith(".csv"):
        import pyarrow.csv

        pyarrow.csv.write_csv(rows_of_table, folder / name)
    else:
        pq.write_table(rows_of_table, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_the_columns_of_koala_36m_are_read(tmp_path, name):
    usable, rejected = caption_table.choose(table(tmp_path, {}, name=name), 5, 5.0, 4.0)
    assert usable == [Captioned("A heron wades through reeds.", "abcDEF-_123_7", 1.5, 4.0)]
    assert rejected == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"caption": "  "}, "no_caption"),
        ({"caption": None}, "no_caption"),
        ({"caption": "a heron\0wades"}, "no_caption"),
        ({"videoID": "../../etc/passwd"}, "bad_name"),
        ({"videoID": "/etc/passwd"}, "bad_name"),
        ({"videoID": ".hidden"}, "bad_name"),
        ({"timestamp": "__import__('os').getcwd()"}, "bad_times"),
        ({"timestamp": "['0:00:04', '0:00:01']"}, "bad_times"),
        ({"timestamp": "['0:00:04']"}, "bad_times"),
        ({"timestamp": "['0:00:00', '0:00:05.1']"}, "too_long"),
        ({"video_training_suitability_score": 3.9}, "low_suitability"),
        ({"video_training_suitability_score": None}, "low_suitability"),
        ({"video_training_suitability_score": float("nan")}, "low_suitability"),
    ],
)
def test_a_row_is_rejected_with_a_reason_and_the_next_one_is_taken(tmp_path, row, reason):
    usable, rejected = caption_table.choose(table(tmp_path, row, {"caption": "the next"}, {}), 1, 5.0, 4.0)
    assert [one.caption for one in usable] == ["the next"]
    assert [why for _, why in rejected] == [reason]


def test_columns_may_have_other_names_and_times_may_be_missing(tmp_path):
    pq.write_table(pa.table({"text": ["a boat"], "file": ["boat.mp4"]}), tmp_path / "mine.parquet")
    assert caption_table.choose(tmp_path / "mine.parquet", 9, 5.0, None)[0] == [
        Captioned("a boat", "boat.mp4", None, None)
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.parquet", None, "cannot be read"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.txt", b"x", "must be .csv, .tsv or .parquet"),
        ("a.csv", b"a,b\n1,2\n", "no column caption or prompt or text; it has a, b"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        caption_table.choose(tmp_path / name, 1, 5.0, None)


def test_a_limit_on_suitability_needs_its_column(tmp_path):
    pq.write_table(pa.table({"text": ["a boat"], "file": ["boat.mp4"]}), tmp_path / "mine.parquet")
    with pytest.raises(RecipeError, match="no column video_training_suitability_score"):
        caption_table.choose(tmp_path / "mine.parquet", 1, 5.0, 4.0)


NAMES = ["000017", "0", "1e5", "NA", "null", "-0", "1_000", "Caf\u00e9 (1)"]


CAPTIONS = ["true", "false", "007", "NaN", "NULL", "1e5", "-", "2024-01-01"]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.TSV", "\t")])
def test_names_and_captions_are_used_as_written(tmp_path, name, delimiter):
    lines = [delimiter.join(cells) for cells in (("file", "caption"), *zip(NAMES, CAPTIONS, strict=True))]
    (tmp_path / name).write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    usable, rejected = caption_table.choose(tmp_path / name, 99, 5.0, None)
    assert ([one.clip for one in usable], [one.caption for one in usable], rejected) == (NAMES, CAPTIONS, [])


def test_an_empty_cell_is_none(tmp_path):
    (tmp_path / "a.csv").write_text("caption,file,id,timestamp\n,boat,1,\na boat,,2,\na boat,boat,3,\n\n")
    usable, rejected = caption_table.choose(tmp_path / "a.csv", 99, 5.0, None)
    assert usable == [Captioned("a boat", "boat", None, None)]
    assert rejected == [("boat", "no_caption"), ("", "bad_name")]


def test_names_that_are_whole_numbers_in_parquet_are_their_digits(tmp_path):
    columns = {"caption": pa.array(["one", "two"]).dictionary_encode(), "file": pa.array([0, 17])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert [one.clip for one in caption_table.choose(tmp_path / "a.parquet", 9, 5.0, None)[0]] == ["0", "17"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("caption,file\na,1\nun caf\u00e9,2\n".encode("latin-1"), r"row 3: not UTF-8 .*caf\\xe9.* save it as UTF-8"),
        ("caption,file\n猫在屋顶,1\n".encode("gbk"), "row 2: not UTF-8"),
        ("caption,file\na,1\n".encode("utf-16"), "row 1: not UTF-8"),
        ("caption,file\na,1\n".encode("utf-16-le"), "row 1: not UTF-8"),
        (b"caption,file\na\0b,1\n", "row 2: not UTF-8"),
        (b"caption,file\na boat, red,1\n", "row 2 has 3 cells, the header 2"),
        (b"caption,file\ntwo cats\njump,1\n", "row 2 has 1 cells, the header 2"),
        (b'caption,file\n"a boat,1\n', "row 2: "),
        (b"caption,file,caption\na,1,b\n", "row 1: column caption is there twice"),
        (b"", "has no rows"),
    ],
)
def test_an_ambiguous_table_is_refused_with_its_row(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(RecipeError, match=f"table .*a.csv.*{words}"):
        caption_table.choose(tmp_path / "a.csv", 9, 5.0, None)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"caption": pa.array(["a"]), "file": pa.array([17.0])}, "column file holds double, not text; save it as text"),
        ({"caption": pa.array([True]), "file": pa.array(["a"])}, "column caption holds bool"),
        ({"caption": pa.array([b"a"]), "file": pa.array(["a"])}, "column caption holds binary"),
        ({"caption": pa.array([b"\xe9"]).view(pa.string()), "file": pa.array(["a"])}, "row 1: not UTF-8"),
    ],
)
def test_parquet_cells_that_are_not_text_are_refused(tmp_path, columns, words):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(RecipeError, match=words):
        caption_table.choose(tmp_path / "a.parquet", 9, 5.0, None)

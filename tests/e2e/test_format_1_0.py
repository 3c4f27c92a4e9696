"""A set of format 1.0, as it was published before format 1.1 (see tests/support/format_1_0): every reader takes it."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gigavideo_data.commands.merge import merge
from gigavideo_data.commands.remake import withhold
from gigavideo_data.commands.rescore import recompute
from gigavideo_data.dataset import schema
from gigavideo_data.dataset.reader import read_manifest, read_rows, read_video_rows
from gigavideo_data.dataset.report import page
from gigavideo_data.dataset.table_check import check_table
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.hub import download
from gigavideo_data.hub.download import Version
from gigavideo_train.cli import app
from gigavideo_train.data import dataset
from tests.data.hub.test_download import put
from tests.support.hub_clients import gv_data, gv_train
from tests.support.hub_server import serving

FOLDER = Path(__file__).parents[2] / "tests" / "support" / "format_1_0"
SET, GENERATOR = FOLDER / "set", FOLDER / "tiny-wan"
SHARD = "data/train-00000-of-00001.parquet"
NUM_ROWS = 14


def current(out: Path) -> Path:
    """The same rows in today's format."""
    recompute(SET, out)
    return out


def test_it_is_what_it_was():
    schema_1_0 = pq.read_schema(SET / SHARD)
    assert schema_1_0.metadata[schema.FORMAT_KEY] == b"1.0"
    assert "source_file" not in schema_1_0.names
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 1_000_000


def test_it_verifies_and_its_rows_have_no_source_file(tmp_path):
    verified = verify_folder(SET)
    assert (verified.format, verified.clips, verified.rows["latents"]) == ("1.0", NUM_ROWS, 6)
    assert [row["source_file"] for row in read_rows(SET)] == [None] * NUM_ROWS
    shutil.copytree(SET, tmp_path / "set")
    page.write_report(tmp_path / "set")
    assert (tmp_path / "set" / "report.html").is_file()


def test_it_can_be_trained_on(tmp_path):
    arguments = [
        "--dataset",
        str(SET),
        "--model",
        str(GENERATOR),
        "--out",
        str(tmp_path / "out"),
        "--dry-run",
        "--json",
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(result.stdout)["kept"] > 0


def test_its_rows_written_again_are_of_todays_format_and_else_the_same(tmp_path):
    again = current(tmp_path / "again")
    assert verify_folder(again).format == schema.FORMAT_VERSION
    assert pq.read_schema(again / SHARD).equals(schema.ROW_SCHEMA)
    assert list(read_video_rows(again)) == list(read_video_rows(SET))
    withhold(SET, tmp_path / "scores")
    assert verify_folder(tmp_path / "scores").rows["train"] == verify_folder(SET).rows["train"]


@pytest.mark.parametrize("order", [1, -1])
def test_it_is_joined_with_a_set_of_todays_format(tmp_path, order):
    facts = merge([SET, current(tmp_path / "again")][::order], tmp_path / "joined")
    assert (facts["rows"], facts["rejected"]) == (NUM_ROWS, {"duplicate": NUM_ROWS})
    assert verify_folder(tmp_path / "joined").format == schema.FORMAT_VERSION


def test_its_columns_are_read_from_the_hub_like_todays(tmp_path, monkeypatch):
    class Local:
        """Gives the files of a folder under their names on the Hub."""

        def open(self, path: str, cache_type: str):
            assert cache_type == "none"
            return (SET / path.partition("@sha/")[2]).open("rb")

    monkeypatch.setattr("huggingface_hub.HfFileSystem", Local)
    table = download.read_columns(Version("org/ds", "v1.0.0", "sha"), SHARD, dataset.ROW_COLUMNS)
    check_table(table, SHARD, unread=("video",))
    assert set(table.column_names) == set(dataset.ROW_COLUMNS)
    assert table["source_file"].null_count == table.num_rows
    again = current(tmp_path / "again")
    assert table.to_pylist() == dataset.read(again).rows
    assert set(dataset.read(again).latents) == set(dataset.read(SET).latents)


@pytest.mark.slow
def test_on_the_hub_it_is_trained_on_and_todays_format_is_a_patch_of_it(tmp_path):
    with serving() as hub:
        put(hub, SET, "v1.0.0")
        arguments = ("--dataset", "org/ds", "--model", str(GENERATOR), "--dry-run", "--json")
        code, printed, said = gv_train(hub, tmp_path, *arguments)
        assert code == 0, said
        assert json.loads(printed)["kept"] > 0
        code, _, said = gv_data(hub, tmp_path, "verify", "org/ds@v1.0.0")
        assert code == 0, said
        current(tmp_path / "again")
        code, printed, said = gv_data(hub, tmp_path, "push", "again", "org/ds", "--json")
        assert code == 0, said
        assert json.loads(printed)["tag"] == "v1.0.1"


def test_a_later_minor_format_is_verified_by_the_columns_that_are_known(tmp_path):
    folder = current(tmp_path / "later")
    features = json.loads(schema.ROW_SCHEMA.metadata[b"huggingface"])
    features["info"]["features"]["mood"] = {"dtype": "string", "_type": "Value"}
    metadata = {b"huggingface": json.dumps(features).encode(), schema.FORMAT_KEY: b"1.9"}
    manifest = read_manifest(folder) | {"format": "1.9"}
    for name in [*filter(lambda name: name.startswith(("data/", "preview/")), manifest["files"])]:
        table = pq.read_table(folder / name)
        table = table.append_column("mood", [["good"] * len(table)]).replace_schema_metadata(metadata)
        pq.write_table(table, folder / name, write_page_checksum=True)
        data = (folder / name).read_bytes()
        manifest["files"][name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert verify_folder(folder).format == "1.9"

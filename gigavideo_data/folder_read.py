"""Read a finished dataset folder back: manifest and rows, clips only where they are asked for.

Reading trusts the columns, as `verify` has checked them; it refuses a folder without manifest, another major format,
and pages whose checksum is wrong.

    manifest = read_manifest(folder);  rows = read_rows(folder)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.errors import DatasetError
from gigavideo_data.schema import ROW_SCHEMA, check_format

BATCH_ROWS = 64  # clips are large: few at a time
MANIFEST_KEYS = ("format", "name", "recipe", "recipe_hash", "code_version", "target_model", "dimensions", "license",
                 "rows", "files", "ledger", "judge_check", "rewards")  # fmt: skip
WITHHELD = "Its generated videos are withheld. `gv-data remake` makes them again, with the models that made them."

Row = dict[str, Any]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.json.

    Raises:
        DatasetError: it is missing, damaged, incomplete, or of a format we do not read.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise DatasetError(f"{folder}: no manifest.json, so no finished dataset. Run `gv-data build` to its end first.")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        check_format(manifest["format"], str(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: damaged ({error!r}). Build the dataset again; finished work is kept.") from error
    if missing := [key for key in MANIFEST_KEYS if key not in manifest]:
        raise DatasetError(f"{path}: {', '.join(missing)} missing. Build the dataset again; finished work is kept.")
    return manifest


def read_rows(folder: Path) -> list[Row]:
    """Every row of train and validation, without the clips themselves."""
    columns = [name for name in ROW_SCHEMA.names if name != "video"]
    return [row for batch in read_data(folder, columns) for row in batch.to_pylist()]


def read_all(folder: Path, schema: pa.Schema, part: str) -> list[Row]:
    """Every row of one small part of a dataset."""
    return [row for batch in read_data(folder, schema.names, part) for row in batch.to_pylist()]


def read_data(folder: Path, columns: list[str], part: str = "data") -> Iterator[pa.RecordBatch]:
    """Stream one part of a dataset in small batches, every page checked against its checksum.

    Args:
        folder: the dataset.
        columns: columns to read, nested ones as `video.bytes`.
        part: sub-folder; `data` holds the rows of train and validation.

    Raises:
        DatasetError: there is no Parquet file, or one is damaged.
    """
    shards = sorted((folder / part).glob("*.parquet"))
    if not shards:
        raise DatasetError(f"{folder}: no Parquet files under {part}/. Build or download the dataset again.")
    for shard in shards:
        yield from read_shard(shard, columns)


def read_shard(shard: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The same of one file."""
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{shard}: cannot be read ({error}). `gv-data verify` names what is damaged.") from error

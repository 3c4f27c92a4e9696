"""Read a finished dataset folder back: manifest and rows, clips only where they are asked for.

Reading trusts the columns, as `verify` has checked them; it refuses a folder without manifest, another major format,
and pages whose checksum is wrong.

    manifest = read_manifest(folder);  rows = read_rows(folder)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StringConstraints, ValidationError

from gigavideo_data.errors import DatasetError
from gigavideo_data.schema import MAX_PROBLEMS, ROW_SCHEMA, check_format

BATCH_ROWS = 64  # clips are large: few at a time
WITHHELD = "Its generated videos are withheld. `gv-data remake` makes them again, with the models that made them."

Row = dict[str, Any]


class File(BaseModel):
    """One file of a dataset."""

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    rows: NonNegativeInt
    bytes: NonNegativeInt


class LedgerLine(BaseModel):
    """What went into a stage of one source, and what came out."""

    stage: str
    source: str
    received: NonNegativeInt = Field(alias="in")
    out: NonNegativeInt
    rejected: dict[str, NonNegativeInt]


class _Judge(BaseModel):
    min_mass: float


class _Recipe(BaseModel):
    """What is read again of the recipe."""

    judge: _Judge
    generators: list[dict[str, Any]] = []
    specialists: dict[str, Any] = {}


class _Check(BaseModel):
    """A line of the judge check."""

    dimension: str
    videos: NonNegativeInt
    auc_foreign: float | None
    yes_bias: float | None
    inconsistency: float | None
    real_videos: NonNegativeInt
    auc_real: float | None
    real_score: float | None


class _Reward(BaseModel):
    scored: NonNegativeInt
    unscorable: NonNegativeInt
    mean: float | None
    sem: float | None


class Manifest(BaseModel):
    """A manifest.json, as anybody may have written it: whatever is not so is refused before it is used."""

    model_config = ConfigDict(strict=True)

    format: str
    name: str
    recipe: _Recipe
    recipe_hash: str
    code_version: str
    target_model: str
    dimensions: list[str]
    license: str
    rows: dict[str, NonNegativeInt]
    files: dict[str, File]
    ledger: list[LedgerLine]
    judge_check: list[_Check]
    rewards: dict[str, _Reward]
    withheld: bool = False


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.json.

    Raises:
        DatasetError: it is missing, damaged, incomplete, or of a format we do not read.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise DatasetError(f"{folder}: no manifest.json, so no finished dataset. Run `gv-data build` to its end first.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        check_format(str(manifest["format"]), str(path))
        Manifest.model_validate(manifest)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:MAX_PROBLEMS])
        raise DatasetError(f"{path}: {wrong}. Build the dataset again; finished work is kept.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: damaged ({error!r}). Build the dataset again; finished work is kept.") from error
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
    names = sorted(name for name in read_manifest(folder)["files"] if name.startswith(f"{part}/"))
    if not names:
        raise DatasetError(f"{folder}: no Parquet files under {part}/. Build or download the dataset again.")
    for name in names:
        yield from read_shard(folder / name, columns)


def read_shard(shard: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The same of one file."""
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{shard}: cannot be read ({error}). `gv-data verify` names what is damaged.") from error

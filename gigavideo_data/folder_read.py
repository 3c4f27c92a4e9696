"""Read a finished dataset folder back: manifest and rows, clips only where they are asked for.

Reading trusts the columns, as `verify` has checked them; it refuses a folder without manifest, another major format,
names and links that lead out of the folder, and files that are not those of the manifest.

    manifest = read_manifest(folder);  rows = read_rows(folder)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StringConstraints, ValidationError

from gigavideo_data.errors import DatasetError
from gigavideo_data.hashing import sha256_of
from gigavideo_data.recipe import current_keys
from gigavideo_data.schema import FILE_NAME, MAX_PROBLEMS, ROW_SCHEMA, check_format, completed

BATCH_ROWS = 64  # clips are large: few at a time
MAX_GROUP_BYTES = 1 << 30  # of a row group; refused before it is read
BESIDE = ("README.md", "cost.json")  # of a set, what its manifest does not list
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
        DatasetError: it is missing, damaged, incomplete, of a format we do not read, or leads out of the folder.
    """
    path = folder / "manifest.json"
    _check_inside(folder, path.name)
    if not path.is_file():
        raise DatasetError(f"{folder}: no manifest.json, so no finished dataset. Run `gv-data build` to its end first.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        check_format(str(manifest["format"]), str(path))
        Manifest.model_validate(manifest)
        for built in (manifest, *manifest.get("merged", ())):
            built["recipe"] = current_keys(built["recipe"])
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:MAX_PROBLEMS])
        raise DatasetError(f"{path}: {wrong}. Build the dataset again; finished work is kept.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: damaged ({error!r}). Build the dataset again; finished work is kept.") from error
    for name in manifest["files"]:
        if not FILE_NAME.fullmatch(name):
            raise DatasetError(
                f"{path}: file name {name!r} is not allowed, no set of ours has such a file. Do not use this set."
            )
    for name in (*manifest["files"], *BESIDE):
        _check_inside(folder, name)
    return manifest


def _check_inside(folder: Path, name: str) -> None:
    """Refuse a link that leaves the folder. In the Hub client's cache, a snapshot links to the blobs beside it."""
    path, root = folder / name, folder.resolve()
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise DatasetError(f"{path}: cannot be followed ({error}). Do not use this set.") from error
    allowed = [root]
    if root.parent.name == "snapshots":  # <cache>/<repository>/snapshots/<commit>
        allowed += [root.parents[1] / "blobs", root.parents[2] / "blobs"]
    if not any(target.is_relative_to(place) for place in allowed):
        raise DatasetError(
            f"{path}: a link to {target}, outside the dataset's folder. Do not use this set, or copy the file."
        )


def check_file(folder: Path, name: str, listed: Mapping[str, Any]) -> None:
    """Compare a file with its entry in the manifest (sha256, bytes).

    Raises:
        DatasetError: it is missing, or another one.
    """
    path = folder / name
    if not path.is_file():
        raise DatasetError(f"{path} is missing, the manifest lists it. Fetch or build the set again.")
    size, sha256 = path.stat().st_size, sha256_of(path)
    if (size, sha256) != (listed["bytes"], listed["sha256"]):
        raise DatasetError(
            f"{path}: {size} bytes with sha256 {sha256}, the manifest says {listed['bytes']} bytes with "
            f"{listed['sha256']}. The file is damaged or was changed; fetch or build the set again."
        )


def read_rows(folder: Path) -> list[Row]:
    """Every row of train and validation, without the clips themselves."""
    columns = [name for name in ROW_SCHEMA.names if name != "video"]
    return [row for batch in read_data(folder, columns) for row in batch.to_pylist()]


def read_all(folder: Path, schema: pa.Schema, part: str) -> list[Row]:
    """Every row of one small part of a dataset."""
    return [row for batch in read_data(folder, schema.names, part) for row in batch.to_pylist()]


def read_data(folder: Path, columns: list[str], part: str = "data") -> Iterator[pa.RecordBatch]:
    """Stream one part of a dataset in small batches; before the first row, its files are compared with the manifest.

    Args:
        folder: the dataset.
        columns: columns to read, nested ones as `video.bytes`.
        part: sub-folder; `data` holds the rows of train and validation.

    Raises:
        DatasetError: there is no Parquet file, or one is damaged.
    """
    files = read_manifest(folder)["files"]
    names = sorted(name for name in files if name.startswith(f"{part}/"))
    if not names:
        raise DatasetError(f"{folder}: no Parquet files under {part}/. Build or download the dataset again.")
    for name in names:
        check_file(folder, name, files[name])
    for name in names:
        yield from read_shard(folder / name, columns)


def read_shard(shard: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The same of one file, which is not compared; every page is checked against its checksum, if it has one."""
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                if file.metadata.row_group(number).total_byte_size > MAX_GROUP_BYTES:
                    raise DatasetError(f"{shard}: row group {number} is larger than {MAX_GROUP_BYTES >> 20} MiB.")
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                yield completed(batch, columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{shard}: cannot be read ({error}). `gv-data verify` names what is damaged.") from error

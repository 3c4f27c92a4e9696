"""Read a finished dataset folder: manifest and rows, and the videos only on request.

Values are not checked here (`verify` does that). Refused are a folder without a manifest, another major format, names
and links that lead out of the folder, and files that differ from their entries in the manifest.

    manifest = read_manifest(folder);  rows = read_rows(folder)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.dataset.manifest import File, Manifest, files_in, parse
from gigavideo_data.dataset.schema import (
    EVAL_PROMPT_SCHEMA,
    LATENT_SCHEMA,
    LATENTS_FOLDER,
    REJECT_SCHEMA,
    ROW_SCHEMA,
    completed,
)
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.hashing import sha256_of
from gigavideo_data.rows import DatasetRow, EvalPrompt, LatentsRow, Reject, VideoRow

BATCH_ROWS = 64  # few at a time, because videos are large
MAX_GROUP_BYTES = 1 << 30  # a larger row group is refused before it is read
BESIDE = ("README.md", "cost.json")  # files of a dataset that its manifest does not list
WITHHELD = "The generated videos are withheld. `gv-data remake` generates them again with the same models and seeds."


def read_manifest(folder: Path) -> Manifest:
    """Read and validate a folder's manifest.json.

    Raises:
        DatasetError: it is missing or not valid (see `manifest.parse`), or a link leads out of the folder.
    """
    path = folder / "manifest.json"
    _check_inside(folder, path.name)
    if not path.is_file():
        raise DatasetError(f"{folder}: no manifest.json, so no finished dataset. Run `gv-data build` to its end first.")
    try:
        manifest = parse(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: damaged ({error}). Build the dataset again; finished work is kept.") from error
    for name in (*manifest["files"], *BESIDE):
        _check_inside(folder, name)
    return manifest


def _check_inside(folder: Path, name: str) -> None:
    """Refuse a link that leaves the folder; in the Hub cache, a snapshot may link to the blobs of its repository."""
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


def check_file(folder: Path, name: str, listed: File) -> None:
    """Compare a file's size and sha256 with its entry in the manifest.

    Raises:
        DatasetError: the file is missing or differs.
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


def read_rows(folder: Path) -> list[DatasetRow]:
    """All rows of train and validation, without their videos."""
    return list(stream_rows(folder))


def stream_rows(folder: Path) -> Iterator[DatasetRow]:
    """The same one by one, for datasets whose rows are too many for memory."""
    return _read(folder, [name for name in ROW_SCHEMA.names if name != "video"], "data")


def read_video_rows(folder: Path) -> Iterator[VideoRow]:
    """All rows of train and validation. Few are in memory at a time, because videos are large."""
    return _read(folder, ROW_SCHEMA.names, "data")


def read_eval_prompts(folder: Path) -> list[EvalPrompt]:
    """All evaluation prompts."""
    return list(_read(folder, EVAL_PROMPT_SCHEMA.names, "eval_prompts"))


def read_rejects(folder: Path) -> list[Reject]:
    """All rejected rows."""
    return list(_read(folder, REJECT_SCHEMA.names, "rejects"))


def read_latents(folder: Path) -> Iterator[LatentsRow]:
    """All latents. Few are in memory at a time, because they are large."""
    return _read(folder, LATENT_SCHEMA.names, LATENTS_FOLDER)


def _read(folder: Path, columns: list[str], part: str) -> Iterator[Any]:
    """The rows of one part of a dataset as dicts. The functions above give them their types."""
    for batch in read_data(folder, columns, part):
        yield from batch.to_pylist()


def read_data(folder: Path, columns: list[str], part: str = "data") -> Iterator[pa.RecordBatch]:
    """Stream one part of a dataset in small batches, after comparing its files with the manifest.

    Args:
        folder: the dataset.
        columns: columns to read; nested ones as `video.bytes`.
        part: sub-folder; `data` holds the rows of train and validation.

    Raises:
        DatasetError: there is no Parquet file, or a file is damaged.
    """
    manifest = read_manifest(folder)
    names = files_in(manifest, part)
    if not names:
        raise DatasetError(f"{folder}: no Parquet files under {part}/. Build or download the dataset again.")
    for name in names:
        check_file(folder, name, manifest["files"][name])
    for name in names:
        yield from read_shard(folder / name, columns)


def read_shard(shard: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Stream one file without comparing it with the manifest; pages with a checksum are verified."""
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                if file.metadata.row_group(number).total_byte_size > MAX_GROUP_BYTES:
                    raise DatasetError(f"{shard}: row group {number} is larger than {MAX_GROUP_BYTES >> 20} MiB.")
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                yield completed(batch, columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{shard}: cannot be read ({error}). `gv-data verify` names what is damaged.") from error

"""Read a published set for training: the contract checked, the rows without their clips, the clips one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from gigavideo_data.errors import DatasetError
from gigavideo_data.folder_read import WITHHELD, read_data, read_manifest
from gigavideo_data.hub_read import Version
from gigavideo_data.schema import ROW_SCHEMA, check_table

Row = dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """A set that keeps its contract: `rows` of the train split, without clips; `identity` names its exact content."""

    folder: Path
    manifest: dict[str, Any]
    identity: str
    rows: list[Row]
    version: Version | None = None  # on the Hub, where it came from there


def read(folder: Path, version: Version | None = None) -> Dataset:
    """Read and check a dataset folder.

    Args:
        folder: the dataset.
        version: what it was fetched as.

    Raises:
        DatasetError: it is no finished dataset of a format we read, breaks the contract, withholds its videos, or has
            no rows to train on.
    """
    manifest = read_manifest(folder)
    if manifest.get("withheld"):
        raise DatasetError(f"{folder}: {WITHHELD}")
    digest, rows = hashlib.sha256(), []
    for shard in sorted((folder / "data").glob("*.parquet")):
        with shard.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for batch in read_data(folder, ROW_SCHEMA.names):
        table = pa.Table.from_batches([batch])
        check_table(table, str(folder))
        rows += table.drop_columns("video").to_pylist()
    rows = [row for row in rows if row["split"] == "train"]
    if not rows:
        raise DatasetError(
            f"{folder}: its split train is empty. Build a larger set, or one with a smaller validation_share."
        )
    return Dataset(folder, manifest, digest.hexdigest()[:32], rows, version)


def clips(folder: Path, ids: set[str]) -> Iterator[tuple[str, bytes]]:
    """MP4 bytes of the rows named, in the order of the files."""
    for batch in read_data(folder, ["id", "video.bytes"]):
        for name, video in zip(batch["id"].to_pylist(), batch["video"], strict=True):
            if name in ids:
                yield name, video["bytes"].as_py()

"""Read a published set for training: the contract checked, the rows without their clips, the clips one by one.

Of a set on the Hub only those shards are fetched whose clips or latents are asked for; of the others the columns beside
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.dataset.manifest import Manifest
from gigavideo_data.dataset.reader import WITHHELD, check_file, read_manifest, read_shard
from gigavideo_data.dataset.schema import (
    EVAL_PROMPT_SCHEMA,
    EVAL_PROMPTS,
    LATENT_SCHEMA,
    LATENTS,
    LATENTS_FOLDER,
    ROW_SCHEMA,
    ROWS,
    Contract,
)
from gigavideo_data.dataset.table_check import check_table
from gigavideo_data.errors import DatasetError, HubError
from gigavideo_data.hub import download
from gigavideo_data.hub.download import Version
from gigavideo_data.io.progress import Progress

CLIP = "video"
CLIP_BYTES = "video.bytes"
BESIDE_CLIP = [name for name in ROW_SCHEMA.names if name != CLIP]
BESIDE_LATENTS = [name for name in LATENT_SCHEMA.names if name != "latents"]
DATA_FOLDER = "data"
DEV_PROMPTS = "eval_prompts/dev-"

Row = dict[str, Any]


@dataclass(frozen=True)
class Shipped:
    """Latents that a set ships of a video, all but their bytes.

    Attributes:
        shard: name of the file that holds them.
        id: of the video's row.
        sha256: of their bytes.
        shape_CFHW: as the transformer sees them.
        vae: revision of the autoencoder that decodes them into the video.
    """

    shard: str
    id: str
    sha256: str
    shape_CFHW: tuple[int, ...]
    vae: str


@dataclass(frozen=True)
class Dataset:
    """A set that keeps its contract.

    Attributes:
        folder: where its files lie; of a set on the Hub, those that were fetched.
        manifest: as published.
        identity: names the exact content of its rows, and of the latents that it ships.
        rows: of the train split, without clips.
        shards: row id, of either split -> name of the file that holds its clip.
        version: on the Hub, where it came from there.
        held_out: rows of the validation split, without clips.
        latents: sha256 of a clip -> what the set ships of it.
    """

    folder: Path
    manifest: Manifest
    identity: str
    rows: list[Row]
    shards: dict[str, str]
    version: Version | None = None
    held_out: list[Row] = field(default_factory=list)
    latents: dict[str, Shipped] = field(default_factory=dict)


def read(folder: Path) -> Dataset:
    """Read and check a dataset folder; its shards are compared with the manifest before any row is read.

    Raises:
        DatasetError: it is no finished dataset of a format we read, breaks the contract, is damaged, withholds its
            videos or lacks some, or has no rows to train on.
    """
    manifest = read_manifest(folder)
    _check_videos(manifest, str(folder))
    names, beside = _parts(manifest, DATA_FOLDER), _parts(manifest, LATENTS_FOLDER)
    for name in (*names, *beside):
        check_file(folder, name, manifest["files"][name])
    for name in names:
        _check_clips(folder / name)
    latents = {name: _beside(folder / name, BESIDE_LATENTS, LATENTS) for name in beside}
    return _dataset(folder, manifest, {name: _beside_clips(folder / name) for name in names}, latents)


def read_version(version: Version) -> Dataset:
    """The same of a version on the Hub, of which only the manifest and the columns beside the clips are fetched.

    Raises:
        DatasetError: as for a folder, or it lists what it must not.
        HubError: the Hub does not give it, or not as it is listed.
    """
    folder, _ = download.list_files(version)
    manifest = read_manifest(folder)
    _check_videos(manifest, str(version))
    tables = {name: download.read_columns(version, name, BESIDE_CLIP) for name in _parts(manifest, DATA_FOLDER)}
    latents = {name: download.read_columns(version, name, BESIDE_LATENTS) for name in _parts(manifest, LATENTS_FOLDER)}
    return _dataset(folder, manifest, tables, latents, version)


def _parts(manifest: Manifest, folder: str) -> list[str]:
    return sorted(name for name in manifest["files"] if name.startswith(f"{folder}/"))


def _dataset(
    folder: Path,
    manifest: Manifest,
    tables: dict[str, pa.Table],
    latents: dict[str, pa.Table],
    version: Version | None = None,
) -> Dataset:
    where = str(version or folder)
    rows: list[Row] = []
    shards: dict[str, str] = {}
    for name, table in tables.items():
        check_table(table, f"{where}: {name}", unread=(CLIP,))
        found = table.to_pylist()
        shards |= {row["id"]: name for row in found}
        rows += found
    train, held_out = ([row for row in rows if row["split"] == split] for split in ("train", "validation"))
    if not train:
        raise DatasetError(
            f"{where}: its split train is empty. Build a larger set, or one with a smaller validation_share."
        )
    generated = {(row["id"], row["video_sha256"]) for row in rows if row["source"] != "real"}
    shipped: dict[str, Shipped] = {}
    for name, table in latents.items():
        check_table(table, f"{where}: {name}", LATENTS, unread=("latents",))
        for one in table.to_pylist():
            if (one["id"], one["video_sha256"]) not in generated:
                raise DatasetError(f"{where}: {name}: latents of {one['id']}, which is no generated video of this set.")
            shipped[one["video_sha256"]] = _shipped(one, name)
    told = sorted(f"{one.id} {one.sha256} {one.vae}\n" for one in shipped.values())
    sums = [bytes.fromhex(manifest["files"][name]["sha256"]) for name in tables]
    identity = hashlib.sha256(b"".join(sums) + "".join(told).encode()).hexdigest()[:32]
    return Dataset(folder, manifest, identity, train, shards, version, held_out, shipped)


def _shipped(columns: Row, shard: str) -> Shipped:
    sha256, shape, vae = columns["latents_sha256"], tuple(columns["shape"]), columns["vae"]["revision"]
    return Shipped(shard, columns["id"], sha256, shape, vae)


def _check_videos(manifest: Manifest, where: str) -> None:
    if manifest.get("withheld"):
        raise DatasetError(f"{where}: {WITHHELD}")


def _check_clips(shard: Path) -> None:
    """Refuse a shard with a row that has no clip; clips are read only where its statistics do not rule that out."""
    if _num_nulls(shard, CLIP_BYTES) == 0:
        return
    for batch in read_shard(shard, ["id", CLIP_BYTES]):
        for name, video in zip(batch["id"].to_pylist(), batch["video"], strict=True):
            if not video.is_valid or not video["bytes"].is_valid:
                raise DatasetError(_no_clip(shard, name))


def _num_nulls(shard: Path, column: str) -> int | None:
    """Nulls of a column by the file's statistics; None if it has none."""
    try:
        with pq.ParquetFile(shard) as file:
            places = [i for i in range(len(file.schema)) if file.schema.column(i).path == column]
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            found = [group.column(i).statistics for group in groups for i in places]
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{shard}: cannot be read ({error}). `gv-data verify` names what is damaged.") from error
    if any(one is None or not one.has_null_count for one in found):
        return None
    return sum(one.null_count for one in found)


def _no_clip(shard: Path | str, row_id: str) -> str:
    return f"{shard}: row {row_id} has no clip. Do not use this set."


def fetch(dataset: Dataset, ids: set[str], progress: Progress) -> None:
    """Fetch the shards with the clips of some rows, where they lie on the Hub; the sum of each is checked.

    Raises:
        HubError: a shard is not the one that is listed, or holds other rows than were read of it before.
    """
    if dataset.version is None or not ids:
        return
    names = _fetch(dataset, {dataset.shards[name] for name in ids}, "clips", progress)
    rows = {row["id"]: row for row in (*dataset.rows, *dataset.held_out)}
    for name in names:
        for row in _beside_clips(dataset.folder / name).to_pylist():
            if row != rows.get(row["id"]):
                raise HubError(f"{dataset.version}: {name} holds another row {row['id']} than was read of it before.")


def _fetch(dataset: Dataset, shards: set[str], what: str, progress: Progress) -> list[str]:
    assert dataset.version is not None
    files, names = dataset.manifest["files"], sorted(shards)
    num_bytes, total = (sum(files[name]["bytes"] for name in some) / 1e6 for some in (names, files))
    found = f"{what} lie in {len(names)} of {len(files)} files"
    progress.note(f"{dataset.version}: {found}, {num_bytes:.1f} of {total:.1f} MB")
    download.fetch_files(dataset.version, names, progress)
    return names


def fetch_latents(dataset: Dataset, clips: set[str], progress: Progress) -> None:
    """Fetch the shards with the shipped latents of some clips, named by sha256, where they lie on the Hub.

    Raises:
        HubError: a shard is not the one that is listed.
    """
    if dataset.version and clips:
        _fetch(dataset, {dataset.latents[sha256].shard for sha256 in clips}, "latents", progress)


def latents(dataset: Dataset, clips: set[str]) -> Iterator[tuple[str, bytes]]:
    """Shipped latents of some clips, by the clips' sha256, in the order of the files, which must have been fetched.

    Raises:
        DatasetError: some are missing, or not those whose sum stands beside them.
    """
    left = {dataset.latents[sha256].id: sha256 for sha256 in clips}
    for shard in sorted({dataset.latents[sha256].shard for sha256 in clips}):
        for batch in read_shard(dataset.folder / shard, ["id", "latents"]):
            for name, value in zip(batch["id"].to_pylist(), batch["latents"], strict=True):
                if name not in left:
                    continue
                data, sha256 = value.as_py() or b"", left.pop(name)
                if hashlib.sha256(data).hexdigest() != dataset.latents[sha256].sha256:
                    raise DatasetError(f"{shard}: row {name}: its latents do not have their sum. Do not use this set.")
                yield sha256, data
    for name in left:
        raise DatasetError(f"{dataset.folder}: row {name} has no latents, but was said to. Do not use this set.")


def clips(dataset: Dataset, ids: set[str]) -> Iterator[tuple[str, bytes]]:
    """MP4 bytes of the rows named, in the order of the files, which must have been fetched.

    Raises:
        DatasetError: a row has no clip.
    """
    for shard in sorted({dataset.shards[name] for name in ids}):
        for batch in read_shard(dataset.folder / shard, ["id", CLIP_BYTES]):
            for name, video in zip(batch["id"].to_pylist(), batch["video"], strict=True):
                if name not in ids:
                    continue
                data = video["bytes"].as_py() if video.is_valid else None
                if data is None:
                    raise DatasetError(_no_clip(shard, name))
                yield name, data


def dev_prompts(dataset: Dataset, progress: Progress) -> list[Row]:
    """Its held-out prompts to choose settings on; those to compare by are not looked at.

    Raises:
        DatasetError: they break the contract, or their file is not that of the manifest.
        HubError: the Hub does not give them as they are listed.
    """
    names = sorted(name for name in dataset.manifest["files"] if name.startswith(DEV_PROMPTS))
    if dataset.version:
        download.fetch_files(dataset.version, names, progress)
    rows: list[Row] = []
    for name in names:
        check_file(dataset.folder, name, dataset.manifest["files"][name])
        for batch in read_shard(dataset.folder / name, EVAL_PROMPT_SCHEMA.names):
            check_table(pa.Table.from_batches([batch]), f"{dataset.folder}: {name}", EVAL_PROMPTS)
            rows += batch.to_pylist()
    return rows


def _beside_clips(path: Path) -> pa.Table:
    return _beside(path, BESIDE_CLIP, ROWS)


def _beside(path: Path, columns: list[str], contract: Contract) -> pa.Table:
    batches = list(read_shard(path, columns))
    return pa.Table.from_batches(batches) if batches else contract.schema.empty_table().select(columns)

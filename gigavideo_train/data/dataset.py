"""Read a published dataset for training: check the contract, read rows without their clips, then clips one by one.

From a dataset on the Hub only the shards with needed clips or latents are downloaded; of the other shards only the
remaining columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.dataset.manifest import Manifest, files_in
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
from gigavideo_data.models.spec import folder_revision
from gigavideo_data.rows import DatasetRow, EvalPrompt, LatentsRow

CLIP = "video"
CLIP_BYTES = "video.bytes"
ROW_COLUMNS = [name for name in ROW_SCHEMA.names if name != CLIP]
LATENT_COLUMNS = [name for name in LATENT_SCHEMA.names if name != "latents"]
DATA_FOLDER = "data"
DEV_PROMPTS = "eval_prompts/dev-"


@dataclass(frozen=True)
class ShippedLatents:
    """Latents that a dataset ships for a video, without their bytes.

    Attributes:
        shard: file name.
        id: of the video's row.
        sha256: of the bytes.
        shape_CFHW: as the transformer sees them.
        vae: revision of the autoencoder that decodes them.
    """

    shard: str
    id: str
    sha256: str
    shape_CFHW: tuple[int, ...]
    vae: str


@dataclass(frozen=True)
class Dataset:
    """A dataset that passed the check of its contract.

    Attributes:
        folder: with its files; for a dataset on the Hub, those downloaded so far.
        manifest: as published.
        identity: hash of its rows and of the latents that it ships.
        rows: of the train split, without clips.
        shards: row id, of either split -> name of the file with its clip.
        version: on the Hub, if it is from there.
        held_out: rows of the validation split, without clips.
        latents: sha256 of a clip -> its shipped latents.
    """

    folder: Path
    manifest: Manifest
    identity: str
    rows: list[DatasetRow]
    shards: dict[str, str]
    version: Version | None = None
    held_out: list[DatasetRow] = field(default_factory=list)
    latents: dict[str, ShippedLatents] = field(default_factory=dict)


def read(folder: Path) -> Dataset:
    """Read and check a dataset folder. Its shards are compared with the manifest before any row is read.

    Raises:
        DatasetError: it is not a complete dataset of a supported format, breaks the contract, is damaged, has no
            videos or lacks some, or has no rows to train on.
    """
    manifest = read_manifest(folder)
    _check_videos(manifest, str(folder))
    names, latent_names = files_in(manifest, DATA_FOLDER), files_in(manifest, LATENTS_FOLDER)
    for name in (*names, *latent_names):
        check_file(folder, name, manifest["files"][name])
    for name in names:
        _check_clips(folder / name)
    latents = {name: _read_columns(folder / name, LATENT_COLUMNS, LATENTS) for name in latent_names}
    return _dataset(folder, manifest, {name: _read_rows(folder / name) for name in names}, latents)


def read_version(version: Version) -> Dataset:
    """Read a version on the Hub. Only the manifest and the columns other than the clips are downloaded.

    Raises:
        DatasetError: as for a folder, or its manifest lists a forbidden file name.
        HubError: it cannot be downloaded, or differs from its listing.
    """
    folder, _ = download.list_files(version)
    manifest = read_manifest(folder)
    _check_videos(manifest, str(version))
    tables = {name: download.read_columns(version, name, ROW_COLUMNS) for name in files_in(manifest, DATA_FOLDER)}
    latents = {
        name: download.read_columns(version, name, LATENT_COLUMNS) for name in files_in(manifest, LATENTS_FOLDER)
    }
    return _dataset(folder, manifest, tables, latents, version)


def _dataset(
    folder: Path,
    manifest: Manifest,
    tables: dict[str, pa.Table],
    latents: dict[str, pa.Table],
    version: Version | None = None,
) -> Dataset:
    where = str(version or folder)
    rows: list[DatasetRow] = []
    shards: dict[str, str] = {}
    for name, table in tables.items():
        check_table(table, f"{where}: {name}", unread=(CLIP,))
        new = table.to_pylist()
        shards |= {row["id"]: name for row in new}
        rows += new
    train, held_out = ([row for row in rows if row["split"] == split] for split in ("train", "validation"))
    if not train:
        raise DatasetError(
            f"{where}: its split train is empty. Build a larger set, or one with a smaller validation_share."
        )
    generated = {(row["id"], row["video_sha256"]) for row in rows if row["source"] != "real"}
    shipped: dict[str, ShippedLatents] = {}
    for name, table in latents.items():
        check_table(table, f"{where}: {name}", LATENTS, unread=("latents",))
        for line in table.to_pylist():
            if (line["id"], line["video_sha256"]) not in generated:
                raise DatasetError(
                    f"{where}: {name}: latents of {line['id']}, which is not a generated video of this dataset."
                )
            shipped[line["video_sha256"]] = _shipped(line, name)
    latent_sums = sorted(f"{each.id} {each.sha256} {each.vae}\n" for each in shipped.values())
    row_sums = [bytes.fromhex(manifest["files"][name]["sha256"]) for name in tables]
    identity = hashlib.sha256(b"".join(row_sums) + "".join(latent_sums).encode()).hexdigest()[:32]
    return Dataset(folder, manifest, identity, train, shards, version, held_out, shipped)


def _shipped(columns: LatentsRow, shard: str) -> ShippedLatents:
    sha256, shape, vae = columns["latents_sha256"], tuple(columns["shape"]), columns["vae"]["revision"]
    return ShippedLatents(shard, columns["id"], sha256, shape, vae)


def _check_videos(manifest: Manifest, where: str) -> None:
    if manifest.get("withheld"):
        raise DatasetError(f"{where}: {WITHHELD}")


def _check_clips(shard: Path) -> None:
    """Refuse a shard with a row without a clip. Clips are read only if the file's statistics do not exclude that."""
    if _num_nulls(shard, CLIP_BYTES) == 0:
        return
    for batch in read_shard(shard, ["id", CLIP_BYTES]):
        for name, video in zip(batch["id"].to_pylist(), batch["video"], strict=True):
            if not video.is_valid or not video["bytes"].is_valid:
                raise DatasetError(_no_clip(shard, name))


def _num_nulls(shard: Path, column: str) -> int | None:
    """Number of nulls of a column, from the statistics of the file; None if it has no statistics."""
    try:
        with pq.ParquetFile(shard) as file:
            indices = [i for i in range(len(file.schema)) if file.schema.column(i).path == column]
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            statistics = [group.column(i).statistics for group in groups for i in indices]
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{shard}: cannot be read ({error}). `gv-data verify` names the damaged part.") from error
    if any(each is None or not each.has_null_count for each in statistics):
        return None
    return sum(each.null_count for each in statistics)


def _no_clip(shard: Path | str, row_id: str) -> str:
    return f"{shard}: row {row_id} has no clip. Do not use this dataset."


def fetch(dataset: Dataset, ids: set[str], progress: Progress) -> None:
    """Download the shards with the clips of some rows, if they are on the Hub, and check their sums.

    Raises:
        HubError: a shard differs from its listing, or holds other rows than were read from it before.
    """
    if dataset.version is None or not ids:
        return
    names = _fetch(dataset, {dataset.shards[name] for name in ids}, "clips", progress)
    rows = {row["id"]: row for row in (*dataset.rows, *dataset.held_out)}
    for name in names:
        for row in _read_rows(dataset.folder / name).to_pylist():
            if row != rows.get(row["id"]):
                raise HubError(f"{dataset.version}: {name} holds another row {row['id']} than was read from it before.")


def _fetch(dataset: Dataset, shards: set[str], what: str, progress: Progress) -> list[str]:
    assert dataset.version is not None
    files, names = dataset.manifest["files"], sorted(shards)
    num_bytes, total = (sum(files[name]["bytes"] for name in some) / 1e6 for some in (names, files))
    progress.note(
        f"{dataset.version}: {what} are in {len(names)} of {len(files)} files, {num_bytes:.1f} of {total:.1f} MB"
    )
    download.fetch_files(dataset.version, names, progress)
    return names


def fetch_latents(dataset: Dataset, clips: set[str], progress: Progress) -> None:
    """Download the shards with the shipped latents of some clips, given by sha256, if they are on the Hub.

    Raises:
        HubError: a shard differs from its listing.
    """
    if dataset.version and clips:
        _fetch(dataset, {dataset.latents[sha256].shard for sha256 in clips}, "latents", progress)


def usable_latents(dataset: Dataset, vae: Path) -> dict[str, ShippedLatents]:
    """The shipped latents that an autoencoder decodes, by the sha256 of the clip.

    Args:
        dataset: as read.
        vae: folder of the autoencoder.
    """
    revision = folder_revision(vae) if dataset.latents else None
    return {sha256: each for sha256, each in dataset.latents.items() if each.vae == revision}


def latents(dataset: Dataset, clips: set[str]) -> Iterator[tuple[str, bytes]]:
    """Read the shipped latents of some clips, with the sha256 of the clip, in the order of the downloaded files.

    Raises:
        DatasetError: some are missing, or do not match their sum.
    """
    left = {dataset.latents[sha256].id: sha256 for sha256 in clips}
    for shard in sorted({dataset.latents[sha256].shard for sha256 in clips}):
        for batch in read_shard(dataset.folder / shard, ["id", "latents"]):
            for name, value in zip(batch["id"].to_pylist(), batch["latents"], strict=True):
                if name not in left:
                    continue
                data, sha256 = value.as_py() or b"", left.pop(name)
                if hashlib.sha256(data).hexdigest() != dataset.latents[sha256].sha256:
                    raise DatasetError(
                        f"{shard}: row {name}: its latents do not match their sum. Do not use this dataset."
                    )
                yield sha256, data
    for name in left:
        raise DatasetError(
            f"{dataset.folder}: row {name} is listed with latents, but has none. Do not use this dataset."
        )


def clips(dataset: Dataset, ids: set[str]) -> Iterator[tuple[str, bytes]]:
    """Read the MP4 bytes of some rows, given by id, in the order of the downloaded files.

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


def dev_prompts(dataset: Dataset, progress: Progress) -> list[EvalPrompt]:
    """Read the evaluation prompts of the split `dev`, on which settings are chosen. The split `test` is not read.

    Raises:
        DatasetError: they break the contract, or their file differs from the manifest.
        HubError: a file cannot be downloaded, or differs from its listing.
    """
    names = sorted(name for name in dataset.manifest["files"] if name.startswith(DEV_PROMPTS))
    if dataset.version:
        download.fetch_files(dataset.version, names, progress)
    rows: list[EvalPrompt] = []
    for name in names:
        check_file(dataset.folder, name, dataset.manifest["files"][name])
        for batch in read_shard(dataset.folder / name, EVAL_PROMPT_SCHEMA.names):
            check_table(pa.Table.from_batches([batch]), f"{dataset.folder}: {name}", EVAL_PROMPTS)
            rows += batch.to_pylist()
    return rows


def _read_rows(path: Path) -> pa.Table:
    return _read_columns(path, ROW_COLUMNS, ROWS)


def _read_columns(path: Path, columns: list[str], contract: Contract) -> pa.Table:
    batches = list(read_shard(path, columns))
    return pa.Table.from_batches(batches) if batches else contract.schema.empty_table().select(columns)

"""Check a dataset folder completely: `gv-data verify DIR`.

Nothing in the folder is trusted. Hashes, columns, values and every frame of every video are compared with the manifest
and the rows; at the end, plain `load_dataset` must read every config with the right types. Videos are decoded in
threads, one for each core. Memory holds a few rows and one decoded frame per thread, however large the dataset is.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console

from gigavideo_data.dataset.manifest import File, LedgerLine, Manifest
from gigavideo_data.dataset.reader import check_file, read_manifest
from gigavideo_data.dataset.schema import LAYOUT, OPTIONAL, configs_of, is_newer, schema_of
from gigavideo_data.dataset.table_check import check_clip, check_table
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.video import measure
from gigavideo_data.rows import DatasetRow

MAX_ROW_GROUP_BYTES = 1 << 27  # a larger one is refused before it is read: a row can be as large as its group
BUFFER_BYTES = 1 << 20  # read at once from a column
BFLOAT16_EXPONENT = 0x7F80  # all of these bits are set in an infinity or NaN


@dataclass(frozen=True)
class Verified:
    """The result of a successful check."""

    format: str
    rows: dict[str, int]  # per split: train, validation, preview, dev, test, rejects, latents if there are any
    clips: int  # videos of which every frame was decoded
    size_bytes: int  # of the Parquet files


@dataclass
class _Seen:
    """Values of the files checked so far, with which those of the next file must agree."""

    clip_sums: dict[str, str] = field(default_factory=dict)  # id -> sha256
    generated: set[str] = field(default_factory=set)  # ids of generated videos in the dataset
    latents: set[str] = field(default_factory=set)  # ids
    keys: set[tuple[str, ...]] = field(default_factory=set)  # config and key of tables that no other field covers
    split_of_group: dict[str, str] = field(default_factory=dict)  # pair_id or prompt_id -> split
    sources: Counter[str] = field(default_factory=Counter)
    rejected: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # stage, source, reason


def verify_folder(path: Path, progress: Progress | None = None) -> Verified:
    """Check a dataset; `progress` shows the number of rows checked.

    Raises:
        DatasetError: the first error, where it is, and what to do.
    """
    manifest = read_manifest(path)
    _check_listing(path, manifest)
    seen, rows = _Seen(), Counter[str]()
    progress = progress or Progress(Console(quiet=True))
    progress.start("verify", total=sum(file["rows"] for file in manifest["files"].values()))
    with _ClipChecks() as clips:
        for config, (contract, splits) in LAYOUT.items():
            for split, pattern in splits.items():
                names = sorted(fnmatch.filter(manifest["files"], pattern))
                if config not in OPTIONAL or names:
                    rows[split] = 0
                for name in names:
                    for table in _read(path, name, manifest["files"][name]):
                        check_table(table, name, contract)
                        _check_across(config, table, name, split, seen, clips)
                        _check_withheld(config, table, name, withheld=manifest.get("withheld", False))
                        rows[split] += table.num_rows
                        progress.advance(table.num_rows)
    progress.finish()
    for split, count in manifest["rows"].items():
        if rows[split] != count:
            raise DatasetError(
                f"{path}: the manifest says {count} {split} rows, the files hold {rows[split]}. Build it again."
            )
    _check_ledger(manifest["ledger"], seen)
    _check_card(path / "README.md", {name: file["rows"] for name, file in manifest["files"].items()})
    _check_loads(path, rows, manifest["format"])
    size_bytes = sum(file["bytes"] for file in manifest["files"].values())
    return Verified(manifest["format"], dict(rows), len(seen.clip_sums), size_bytes)


def _check_listing(path: Path, manifest: Manifest) -> None:
    """The folder holds all files of the manifest, and no others that a reader would load."""
    patterns = {pattern: config for config, (_, splits) in LAYOUT.items() for pattern in splits.values()}
    for name in manifest["files"]:
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            raise DatasetError(f"{path / 'manifest.json'}: file name {name!r} is not allowed. Do not use this set.")
    for pattern, config in patterns.items():
        listed, present = (
            set(fnmatch.filter(manifest["files"], pattern)),
            {f.relative_to(path).as_posix() for f in path.glob(pattern)},
        )
        if missing := listed - present or ({pattern} if not listed and config not in OPTIONAL else set()):
            raise DatasetError(f"{path}: {', '.join(sorted(missing))} is missing. Fetch or build the set again.")
        if unlisted := present - listed:
            raise DatasetError(
                f"{path}: {', '.join(sorted(unlisted))} is not in the manifest. Remove it, or build again."
            )


def _read(folder: Path, name: str, listed: File) -> Iterator[pa.Table]:
    """Compare size and hash with the manifest, then yield the rows one by one, each as a table."""
    check_file(folder, name, listed)
    try:
        with pq.ParquetFile(folder / name, page_checksum_verification=True, buffer_size=BUFFER_BYTES) as parquet:
            if parquet.metadata.num_rows != listed["rows"]:
                raise DatasetError(f"{name}: {parquet.metadata.num_rows} rows, the manifest says {listed['rows']}.")
            yield parquet.schema_arrow.empty_table()  # so that the columns of an empty file are checked too
            for number in range(parquet.num_row_groups):
                if parquet.metadata.row_group(number).total_byte_size > MAX_ROW_GROUP_BYTES:
                    raise DatasetError(f"{name}: row group {number} is larger than {MAX_ROW_GROUP_BYTES >> 20} MiB.")
            for batch in parquet.iter_batches(1):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{name}: cannot be read as Parquet ({error}). Fetch or build the set again.") from error


class _ClipChecks:
    """Checks videos in threads: hashing and decoding do not hold Python's lock. Few videos wait at a time.

    The first error in the order of the rows is raised, also where another check failed meanwhile.
    """

    def __init__(self) -> None:
        self._num_threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._num_threads, "verify")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _ClipChecks:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def add(self, row: DatasetRow, data: pa.Buffer, where: str) -> None:
        """Check a video of a row soon."""
        self._waiting.append(self._pool.submit(_check_clip, row, data, where))
        while len(self._waiting) > 2 * self._num_threads:
            self._waiting.popleft().result()


def _check_across(config: str, table: pa.Table, name: str, split: str, seen: _Seen, clips: _ClipChecks) -> None:
    """Check one table against the others."""
    match config:
        case "default":
            _check_rows(table, name, split, seen, clips)
        case "preview":
            _check_once(config, table, name, seen)
            _check_preview(table, name, seen)
        case "eval_prompts":
            _check_once(config, table, name, seen)
            if set(table["split"].to_pylist()) - {split}:
                raise DatasetError(f"{name}: holds prompts of another split. Build the set again.")
        case "rejects":
            columns = (table[column].to_pylist() for column in ("stage", "source", "reason"))
            seen.rejected.update(zip(*columns, strict=True))
        case "latents":
            _check_latents(table, name, seen)


def _check_once(config: str, table: pa.Table, name: str, seen: _Seen) -> None:
    for row in table.select(LAYOUT[config][0].key).to_pylist():
        key = (config, *row.values())
        if key in seen.keys:
            raise DatasetError(f"{name}: {'/'.join(row.values())} is there twice. Build the set again.")
        seen.keys.add(key)


def _clips(table: pa.Table) -> Iterator[tuple[DatasetRow, pa.Buffer | None]]:
    """Rows without their videos, and each video as a buffer that is not copied."""
    rows = table.drop_columns(["video"]).to_pylist()
    for row, clip in zip(rows, table["video"], strict=True):
        yield row, clip["bytes"].as_buffer() if clip.is_valid else None


def _check_withheld(config: str, table: pa.Table, name: str, *, withheld: bool) -> None:
    if config not in ("default", "preview") or withheld:
        return
    for row in table.select(["id"]).filter(table["video"].is_null()).to_pylist():
        raise DatasetError(
            f"{name}: row {row['id']} has no video, but the manifest withholds none. Build the set again."
        )


def _check_rows(table: pa.Table, name: str, split: str, seen: _Seen, clips: _ClipChecks) -> None:
    for row, data in _clips(table):
        where = f"{name}: row {row['id']}"
        if row["id"] in seen.clip_sums:
            raise DatasetError(f"{where} is there twice. Ids are unique in a dataset; build it again.")
        group = row["pair_id"] or row["prompt_id"]
        if row["split"] != split or seen.split_of_group.setdefault(group, split) != split:
            raise DatasetError(
                f"{where} (split {row['split']}): its prompt or pair is in two splits. Build the set again."
            )
        if data is not None:
            clips.add(row, data, where)
            if row["source"] != "real":
                seen.generated.add(row["id"])
        seen.clip_sums[row["id"]] = row["video_sha256"]
        seen.sources[row["source"]] += 1


def _check_clip(row: DatasetRow, data: pa.Buffer, where: str) -> None:
    if hashlib.sha256(data).hexdigest() != row["video_sha256"]:
        raise DatasetError(f"{where}: the video's bytes do not have the hash in video_sha256. Build the set again.")
    clip = measure(pa.BufferReader(data), where)
    check_clip(row, where, (clip.num_frames, clip.height, clip.width), clip.fps)


def _check_preview(table: pa.Table, name: str, seen: _Seen) -> None:
    for row, data in _clips(table):
        sums = {row["video_sha256"]} | ({hashlib.sha256(data).hexdigest()} if data is not None else set())
        if sums != {seen.clip_sums.get(row["id"])}:
            raise DatasetError(f"{name}: row {row['id']} is not the one in data/. Build the set again.")


def _check_latents(table: pa.Table, name: str, seen: _Seen) -> None:
    for row in table.to_pylist():
        where = f"{name}: latents of row {row['id']}"
        if row["id"] in seen.latents:
            raise DatasetError(f"{where} are there twice. Build the set again.")
        if row["id"] not in seen.generated or row["video_sha256"] != seen.clip_sums[row["id"]]:
            raise DatasetError(f"{where} belong to no generated video that is in data/. Build the set again.")
        if hashlib.sha256(row["latents"]).hexdigest() != row["latents_sha256"]:
            raise DatasetError(f"{where} do not have the hash in latents_sha256. Build the set again.")
        if not _finite(row["latents"]):
            raise DatasetError(f"{where} hold values that are not finite. Build the set again.")
        seen.latents.add(row["id"])


def _finite(latents: bytes) -> bool:
    """Whether no bfloat16 value is infinite or NaN; in pieces, because the intermediate arrays are as large."""
    values = np.frombuffer(latents, "<u2")
    pieces = (values[start : start + BUFFER_BYTES] for start in range(0, len(values), BUFFER_BYTES))
    return not any(((piece & BFLOAT16_EXPONENT) == BFLOAT16_EXPONENT).any() for piece in pieces)


def _check_ledger(ledger: list[LedgerLine], seen: _Seen) -> None:
    """Each line adds up, its rejects are listed in rejects/, and the last lines count the rows of the dataset."""
    counted, ends = Counter[tuple[str, str, str]](), {}
    for line in ledger:
        stage, source, rejected = line["stage"], line["source"], line["rejected"]
        if line["in"] != line["out"] + sum(rejected.values()):
            raise DatasetError(
                f"rows per stage: {stage} of {source}: {line['in']} rows in, {line['out']} out and "
                f"{sum(rejected.values())} rejected: rows were lost. Do not use this set; build it again."
            )
        counted.update({(stage, source, reason): count for reason, count in rejected.items()})
        ends[source] = line["out"]
    for key in sorted(counted.keys() | seen.rejected.keys()):
        if counted[key] != seen.rejected[key]:
            raise DatasetError(
                f"rows per stage: {counted[key]} rejected in {' of '.join(key[:2])} as {key[2]}, "
                f"but rejects/ lists {seen.rejected[key]}. Build the set again."
            )
    for source, count in seen.sources.items():
        if ends.get(source) != count:
            raise DatasetError(
                f"rows per stage: the last stage has {ends.get(source, 'no')} {source} rows, {count} are in data/. "
                "Build the set again."
            )


def _check_card(card: Path, rows: dict[str, int]) -> None:
    """The card names exactly the files of the manifest: a card of somebody else could name other paths and URLs."""
    from huggingface_hub import DatasetCard

    try:
        configs = DatasetCard.load(card, ignore_metadata_errors=True).data.to_dict().get("configs")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DatasetError(f"{card}: not a readable card ({error}). Build the set again.") from error
    if configs != configs_of(rows):
        raise DatasetError(f"{card}: its configs are not those of the manifest's files. Do not use this set.")


def _check_loads(path: Path, rows: Counter[str], version: str) -> None:
    """Plain `load_dataset(DIR, config)` reads every config with the right types; not splits without rows."""
    from datasets import Features, load_dataset  # takes seconds to import
    from datasets.exceptions import DatasetsError

    card = path / "README.md"
    for config, (contract, splits) in LAYOUT.items():
        expected = {split for split in splits if rows[split]}
        if not expected:
            continue
        try:
            loaded = load_dataset(str(path), config, streaming=True)
        except (DatasetsError, OSError, ValueError, yaml.YAMLError) as error:
            raise DatasetError(f"{card}: load_dataset finds no {config} ({error}). Build the set again.") from error
        features = Features.from_arrow_schema(schema_of(contract, version))
        known = [_known(split.features, features, version) for split in loaded.values()]
        if loaded.keys() != expected or any(columns != features for columns in known):
            raise DatasetError(f"{card}: load_dataset reads other splits or columns in {config}. Build the set again.")


def _known(features: dict[str, object], ours: dict[str, object], version: str) -> dict[str, object]:
    """The columns of a split without those that a later format may have added."""
    return {name: kind for name, kind in features.items() if name in ours or not is_newer(version)}

"""Write a dataset folder: Parquet shards, card, cost.json and, last, the manifest.

Files are written to a staging folder, verified there and then moved. A folder with a manifest is complete; a folder
without one is no dataset, and the same build again completes it. Equal input gives equal bytes, except cost.json and
the line of the card that quotes it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Protocol, cast, overload

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset.card import CARD_TAG, card_text
from gigavideo_data.dataset.manifest import File, Manifest
from gigavideo_data.dataset.schema import (
    EVAL_PROMPTS,
    FORMAT_VERSION,
    LATENTS,
    LATENTS_FOLDER,
    LAYOUT,
    REJECTS,
    ROWS,
    AnyRow,
    Contract,
    in_order,
    to_table,
)
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.atomic import Blob, sync
from gigavideo_data.io.hashing import pretty_json, sha256_of
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.spool import Spool
from gigavideo_data.rows import EvalPrompt, LatentsRow, Reject, VideoRow

SHARD_BYTES = 500_000_000
ROW_GROUP_BYTES = 64_000_000
MAX_GROUP_ROWS = 1000  # a group of small clips is also bounded in memory, where a row is larger than in the file
PREVIEW_ROWS = 100
PREVIEW_CLIP_BYTES = 2_000_000  # the viewer of the Hub does not show larger rows
PAGE = "report.html"  # written by `report`, from a finished dataset
UNCOMPRESSED = "video.bytes"  # H.264 does not compress further, and readers can seek in plain bytes
NO_DICTIONARY = (UNCOMPRESSED, "latents")  # all values differ
EXAMPLES = 3  # reasons of rejection in a message
EXAMPLE_CHARS = 200  # of a reject's detail in a message
TEXT_ROW_BYTES = 4096  # assumed size of a row without its video or latents, for the limits above


class Uploader(Protocol):
    """Uploads finished files while others are still written; see `hub.upload.BackgroundUploader`."""

    def upload(self, name: str, path: Path) -> None:
        """Queue a finished file; `name` is its path in the dataset."""

    def wait(self) -> None:
        """Wait until the queue is empty; the files may be moved then."""


def write_dataset(
    out: Path,
    rows: Sequence[VideoRow],
    eval_prompts: list[EvalPrompt],
    rejects: list[Reject],
    manifest: Mapping[str, object],
    cost: dict,
    progress: Progress | None = None,
    uploader: Uploader | None = None,
    latents: Iterable[LatentsRow] = (),
) -> None:
    """Write and verify a dataset, then move it into `out`, where it replaces an older one.

    Args:
        out: folder of the dataset; created if missing.
        rows: of both splits, perhaps in a `Spool`; a video that is a Blob is read when its row is written.
        eval_prompts: held-out prompts.
        rejects: one for each rejection that the manifest's `ledger` counts.
        manifest: all fields of `Manifest` except `format`, `rows` and `files`, which are set here.
        cost: calls and seconds per stage; not part of the dataset's identity. The useful samples are added here.
        progress: shows how many rows were written and verified.
        uploader: gets each data shard as soon as it is closed.
        latents: of any of the rows. They are written in the order of the rows, so that samples that are trained on
            together are stored together.

    Raises:
        DatasetError: there are no rows, or the input breaks the contract; a dataset in `out` stays as it is. Without
            rows, the rejects are written nevertheless, and the message says where.
    """
    check_out(out)
    if not rows:
        raise DatasetError(_no_rows(out, rejects))
    staging = out / ".gv" / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    by_split = _by_split(rows, ROWS)
    files: dict[str, File] = {}
    progress = progress or Progress(Console(quiet=True))
    progress.start("write", total=len(rows))
    for split, chosen in by_split.items():
        for file in _shards(staging, f"data/{split}", chosen, ROWS):
            files |= file
            ((name, facts),) = file.items()
            progress.advance(facts["rows"])
            if uploader:
                uploader.upload(name, staging / name)
    progress.finish()
    files |= _write_file(staging, "preview/preview.parquet", _preview(_in_order(rows, ROWS)), ROWS)
    for split, held_out in _by_split(eval_prompts, EVAL_PROMPTS).items():
        for file in _shards(staging, f"eval_prompts/{split}", held_out, EVAL_PROMPTS):
            files |= file
    files |= _write_file(staging, "rejects/rejects.parquet", in_order(rejects, REJECTS), REJECTS)
    kept = Spool(latents)
    for file in _shards(staging, f"{LATENTS_FOLDER}/latents", _as_rows(kept, rows), LATENTS) if kept else ():
        files |= file
    counts = {split: len(chosen) for split, chosen in by_split.items()}
    complete = cast(Manifest, {**manifest, "format": FORMAT_VERSION, "rows": counts, "files": files})
    cost = cost | {"samples": costs.samples_of(rows, complete["dimensions"])}
    _write_text(staging / "README.md", card_text(complete, cost=cost))
    _write_text(staging / costs.FILE, pretty_json(cost))
    _write_text(staging / "manifest.json", pretty_json(complete))
    verify_folder(staging, progress)
    if uploader:
        uploader.wait()
    _replace(staging, out, list(files))


def check_out(out: Path) -> None:
    """Check that a dataset can be written to a folder, before an expensive build.

    Raises:
        DatasetError: `out` is a file, cannot be written, or holds a README.md that gigavideo did not write.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{out}: cannot be created ({error.strerror}). Choose another --out.") from error
    if not os.access(out, os.W_OK):
        raise DatasetError(f"{out}: cannot be written. Change its rights or choose another --out.")
    card = out / "README.md"
    if card.exists() and CARD_TAG not in card.read_text(encoding="utf-8", errors="replace"):
        raise DatasetError(f"{card}: not the card of a dataset; it would be overwritten. Choose another --out.")


def commonest(rejects: Iterable[Reject]) -> list[str]:
    """The most frequent reasons of rejection, one line each: number of rows, reason, stage and one example."""
    of_reason: dict[tuple[str, str], list[Reject]] = defaultdict(list)
    for reject in in_order(rejects, REJECTS):
        of_reason[reject["reason"], reject["stage"]].append(reject)
    most = sorted(of_reason.items(), key=lambda item: (-len(item[1]), item[0]))[:EXAMPLES]
    lines = []
    for (reason, stage), mine in most:
        detail = next((reject["detail"] for reject in mine if reject["detail"]), "no detail")[:EXAMPLE_CHARS]
        lines.append(f"{len(mine)} {reason} ({stage}), such as: {detail}")
    return ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines]


def _no_rows(out: Path, rejects: list[Reject]) -> str:
    """Write only the rejects, and return the message of the error."""
    root = out / ".gv" if (out / "manifest.json").exists() else out
    root.mkdir(exist_ok=True)
    name = "rejects/rejects.parquet"
    _write_file(root, name, in_order(rejects, REJECTS), REJECTS)
    lines = "".join(f"\n  {line}" for line in commonest(rejects))
    why = f"{len(rejects)} rejected. All are in {root / name}, most often:{lines}" if rejects else "none rejected."
    return f"{out}: no rows to publish, {why}\nChange the recipe, then run the same command again."


class _Chosen(Sequence[AnyRow]):
    """Some rows, chosen by their numbers: the rows stay where they are, which may be on disk."""

    def __init__(self, rows: Sequence[AnyRow], numbers: Sequence[int]) -> None:
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> AnyRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AnyRow]: ...
    def __getitem__(self, index: int | slice) -> AnyRow | Sequence[AnyRow]:
        if isinstance(index, slice):
            return _Chosen(self._rows, self._numbers[index])
        return self._rows[self._numbers[index]]


def _in_order(rows: Sequence[AnyRow], contract: Contract) -> Sequence[AnyRow]:
    return _Chosen(rows, [number for _, number in sorted((contract.place_of(row), at) for at, row in enumerate(rows))])


def _by_split(rows: Sequence[AnyRow], contract: Contract) -> dict[str, Sequence[AnyRow]]:
    """The rows of each split in the order of publication."""
    places: dict[str, list[tuple[list[str], int]]] = {split: [] for split in contract.words["split"]}
    for number, row in enumerate(rows):
        if row.get("split") not in places:
            name = row.get("id") or row.get("prompt_id")
            raise DatasetError(f"{name}: split is {row.get('split')!r}, expected {' or '.join(places)}.")
        places[row["split"]].append((contract.place_of(row), number))
    return {split: _Chosen(rows, [number for _, number in sorted(mine)]) for split, mine in places.items()}


def _as_rows(latents: Sequence[LatentsRow], rows: Sequence[VideoRow]) -> Sequence[LatentsRow]:
    """Latents in the order of the rows that they belong to; then those of no row, which verification refuses."""
    position = {row["id"]: number for number, row in enumerate(_in_order(rows, ROWS))}
    places = sorted((position.get(one["id"], len(position)), number) for number, one in enumerate(latents))
    return _Chosen(latents, [number for _, number in places])


def _shards(root: Path, stem: str, rows: Sequence[AnyRow], contract: Contract) -> Iterator[dict[str, File]]:
    """Write rows in their order, one shard after the other, and yield the manifest's entry of each."""
    sizes = [len(shard) for shard in _grouped(map(_size, rows), SHARD_BYTES, int)] or [0]  # or one empty, typed file
    start = 0
    for number, size in enumerate(sizes):
        name = f"{stem}-{number:05d}-of-{len(sizes):05d}.parquet"
        yield _write_file(root, name, rows[start : start + size], contract)
        start += size


def _write_file(root: Path, name: str, rows: Sequence[Mapping[str, Any]], contract: Contract) -> dict[str, File]:
    """Write one Parquet file and return its entry of the manifest."""
    path = root / name
    path.parent.mkdir(exist_ok=True)
    leaves = _leaves(contract.schema)
    with pq.ParquetWriter(
        path,
        contract.schema,
        compression={leaf: "none" if leaf == UNCOMPRESSED else "zstd" for leaf in leaves},
        use_dictionary=[leaf for leaf in leaves if leaf not in NO_DICTIONARY],
        use_content_defined_chunking=True,
        write_page_index=True,
        write_page_checksum=True,
    ) as writer:
        for group in _grouped(rows, ROW_GROUP_BYTES, _size, MAX_GROUP_ROWS):
            writer.write_table(to_table([_with_bytes(row) for row in group], contract), row_group_size=len(group))
    sync(path)
    return {name: {"sha256": sha256_of(path), "rows": len(rows), "bytes": path.stat().st_size}}


def _leaves(schema: pa.Schema) -> list[str]:
    """The names of the columns in Parquet, as the writer's options need them."""
    buffer = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), buffer)
    columns = pq.ParquetFile(buffer.getvalue()).schema
    return [columns.column(number).path for number in range(len(columns))]


def _grouped(
    rows: Iterable[Any], limit: int, size_of: Callable[[Any], int], max_rows: int = sys.maxsize
) -> Iterator[list[Any]]:
    """Divide rows into groups of at most `limit` bytes; a larger row gets a group of its own."""
    group: list[Any] = []
    num_bytes = 0
    for row in rows:
        size = size_of(row)
        if group and (num_bytes + size > limit or len(group) == max_rows):
            yield group
            group, num_bytes = [], 0
        group.append(row)
        num_bytes += size
    if group:
        yield group


def _size(row: Mapping[str, Any]) -> int:
    video = row.get("video") or {}
    return TEXT_ROW_BYTES + len(video.get("bytes") or b"") + len(row.get("latents") or b"")


def _with_bytes(row: Mapping[str, Any]) -> Mapping[str, Any]:
    clip, latents = (row.get("video") or {}).get("bytes"), row.get("latents")
    if isinstance(clip, Blob):
        return {**row, "video": row["video"] | {"bytes": clip.read()}}
    return {**row, "latents": latents.read()} if isinstance(latents, Blob) else row


def _preview(rows: Iterable[VideoRow]) -> list[VideoRow]:
    """Up to PREVIEW_ROWS small rows, taken in turn from each source and dimension, of rows in their order."""
    groups = defaultdict[tuple[str, str | None], list[VideoRow]](list)
    for row in rows:
        group = groups[row["source"], row["dimension"]]
        if len(group) < PREVIEW_ROWS and _size(row) <= PREVIEW_CLIP_BYTES:
            group.append(row)
    in_turn = [row for row in chain.from_iterable(zip_longest(*groups.values())) if row is not None]
    return in_order(in_turn[:PREVIEW_ROWS])


def _replace(staging: Path, out: Path, files: list[str]) -> None:
    for name in ("manifest.json", PAGE):  # the page shows the older dataset
        (out / name).unlink(missing_ok=True)
    for name in (*files, "README.md", costs.FILE):
        (out / name).parent.mkdir(exist_ok=True)
        (staging / name).replace(out / name)
    patterns = [pattern for _, splits in LAYOUT.values() for pattern in splits.values()]
    for folder in {(out / pattern).parent for pattern in patterns}:
        for path in folder.glob("*.parquet"):
            if path.relative_to(out).as_posix() not in files:
                path.unlink()  # a shard of the older dataset
        if folder.is_dir():
            sync(folder)
    sync(out)
    (staging / "manifest.json").replace(out / "manifest.json")
    sync(out)
    shutil.rmtree(staging)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
    sync(path)

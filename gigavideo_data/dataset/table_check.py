"""Check a dataset's tables against the format in `schema`: columns, nulls, closed lists of values, rules of a row."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from gigavideo_data.dataset.prompt_text import flaw_of
from gigavideo_data.dataset.schema import (
    BFLOAT16_BYTES,
    FORMAT_VERSION,
    LATENTS,
    MAX_PROBLEMS,
    ROWS,
    Contract,
    check_format,
    columns_differ,
    format_of,
    is_newer,
    later_columns,
)
from gigavideo_data.errors import DatasetError
from gigavideo_data.rows import VideoFacts

ID = re.compile(r"[0-9a-f]{32}")
SHA256 = re.compile(r"[0-9a-f]{64}")
BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.[a-z0-9]+")  # no folder, no scheme, no "..": readers may open it
SOURCE_NAME = re.compile(r"[^/\\\0~][^\\\0]*")  # any relative path; it is never opened


def check_table(table: pa.Table, where: str, contract: Contract = ROWS, unread: tuple[str, ...] = ()) -> None:
    """Check a table, value by value.

    Args:
        table: as read from Parquet.
        where: name used in messages.
        contract: the rules of this kind of table.
        unread: columns that were not read, and are not checked.

    Raises:
        DatasetError: names the wrong columns, or the first wrong rows and their errors.
    """
    _check_columns(table.schema, where, contract, unread)
    problems, rows = [], table.to_pylist()
    for row in rows:
        name = "/".join(str(row[column]) for column in contract.key)
        problems += [f"{name}: {problem}" for problem in _problems(row, contract, unread)]
    keys = Counter(tuple(row[column] for column in contract.key) for row in rows) if contract.key else {}
    problems += [f"{'/'.join(map(str, key))}: is there {count} times" for key, count in keys.items() if count > 1]
    if problems:
        more = f"\n  and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        shown = "\n  ".join(problems[:MAX_PROBLEMS])
        raise DatasetError(f"{where} breaks the contract (format {FORMAT_VERSION}):\n  {shown}{more}\nBuild it again.")


def _check_columns(schema: pa.Schema, where: str, contract: Contract, unread: tuple[str, ...]) -> None:
    version = format_of(schema)
    if not version:
        raise DatasetError(f"{where}: no gigavideo_format in the Parquet metadata. This is not a set of gigavideo.")
    check_format(version, where)
    absent = later_columns(version) - set(schema.names)
    names = [name for name in contract.schema.names if name not in (*unread, *absent)]
    if set(names) - set(schema.names) or (set(schema.names) - set(names) and not is_newer(version)):
        raise DatasetError(f"{where} (format {version}): {columns_differ(schema.names, names)}")
    wrong = [
        f"{field.name} is {schema.field(field.name).type}, expected {field.type}"
        for field in map(contract.schema.field, names)
        if schema.field(field.name).type != field.type
    ]
    if wrong:
        raise DatasetError(f"{where} (format {version}): {'; '.join(wrong)}. Build the set again.")


def _problems(row: dict, contract: Contract, unread: tuple[str, ...]) -> Iterator[str]:
    for field in contract.schema:
        if field.name not in unread:
            yield from _field_problems(field.name, row.get(field.name), field.type, contract)
    if contract is ROWS:
        yield from _row_problems(row)
    if contract is LATENTS:
        yield from _latents_problems(row)


def _field_problems(name: str, value: Any, kind: pa.DataType, contract: Contract) -> Iterator[str]:
    if value is None:
        if name not in contract.nullable:
            yield f"{name} is null"
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _field_problems(f"{name}.{field.name}", value[field.name], field.type, contract)
    elif pa.types.is_list(kind):
        for item in value:
            yield from _field_problems(name, item, kind.value_type, contract)
    elif name in contract.words and value not in contract.words[name]:
        yield f"{name} is {value!r}, expected {' or '.join(contract.words[name])}"
    elif pa.types.is_floating(kind) and not math.isfinite(value):
        yield f"{name} is {value}"
    elif name in contract.prompts and (flaw := flaw_of(value)):
        yield f"{name} {flaw}"
    elif name in contract.unit and not 0 <= value <= 1:
        yield f"{name} is {value:g}, outside [0, 1]"


def _row_problems(row: dict) -> Iterator[str]:
    """Rules between the fields of one row."""
    if not ID.fullmatch(row["id"] or ""):
        yield "id is not 32 hexadecimal digits"
    if row.get("video") and row["video"]["path"] is not None and not BARE_NAME.fullmatch(row["video"]["path"]):
        yield f"video.path is {row['video']['path']!r}, expected a bare file name such as {row['id']}.mp4"
    for name, status, value, reason in [
        ("reward", row["status"], row["reward"], row["reason"]),
        *((f"rewards.{r['dimension']}", r["status"], r["value"], r["reason"]) for r in row["rewards"] or ()),
    ]:
        if (status == "scored") != (value is not None):
            yield f"{name} is {value}, but its status is {status}"
        if status == "unscorable" and not reason:
            yield f"{name} is unscorable without a reason"
    own = next((r["value"] for r in row["rewards"] or () if r["dimension"] == row["dimension"]), None)
    if row["source"] == "synthetic" and row["reward"] != own:
        yield f"reward is {row['reward']}, but rewards has {own} on {row['dimension']}, its own dimension"
    if "video" in row and row["video"] is None and row["source"] == "real":
        yield "video is null on a real row: only generated videos can be withheld, because they can be generated again"
    if (row["source"] == "synthetic") != (row["pair_id"] is None):
        yield f"pair_id is {row['pair_id']} on a {row['source']} row: synthetic rows have none, twin and real rows one"
    if (row["source"] == "synthetic") != (row["dimension"] is not None):
        yield f"dimension is {row['dimension']} on a {row['source']} row: synthetic rows have one, captions none"
    if row.get("source_file") is not None:
        yield from _source_file_problems(row)
    judges = {judge["id"] for judge in row["judges"] or ()}
    unknown = {item["judge"] for item in (row["answers"] or []) + (row["measurements"] or [])} - judges
    if unknown:
        yield f"judge {', '.join(sorted(map(str, unknown)))} is not among the row's judges"


def _source_file_problems(row: dict) -> Iterator[str]:
    name, path, sha256 = (row["source_file"][field] or "" for field in ("name", "path", "sha256"))
    if row["generator"] is not None and row["generator"]["backend"] != "files":
        yield f"source_file is {name!r}, but the video comes from a {row['generator']['backend']} generator"
    parts = PurePosixPath(path).parts
    if not SOURCE_NAME.fullmatch(path) or ".." in parts or parts[-1] != name:
        yield f"source_file is {name!r} at {path!r}, expected a relative path that ends in the name"
    if not SHA256.fullmatch(sha256):
        yield "source_file.sha256 is not 64 hexadecimal digits"


def _latents_problems(row: dict) -> Iterator[str]:
    if not SHA256.fullmatch(row["latents_sha256"] or ""):
        yield "latents_sha256 is not 64 hexadecimal digits"
    shape = row["shape"]
    if shape is None or len(shape) != 4 or any(side is None or side < 1 for side in shape):
        yield f"shape is {shape}, expected channels, latent frames, height and width"
    elif row.get("latents") is not None and len(row["latents"]) != math.prod(shape) * BFLOAT16_BYTES:
        yield f"latents are {len(row['latents'])} bytes, {math.prod(shape) * BFLOAT16_BYTES} make the shape {shape}"


def check_clip(row: VideoFacts, where: str, size_THW: tuple[int, ...], fps: float) -> None:
    """Compare the decoded video of a row with the columns of the row.

    Args:
        row: of the dataset.
        where: name used in messages.
        size_THW: of the decoded video, in frames and px.
        fps: of the decoded video, in Hz.

    Raises:
        DatasetError: they differ.
    """
    if size_THW != (row["num_frames"], row["height"], row["width"]):
        num_frames, height, width = size_THW
        raise DatasetError(
            f"{where}: the video has {num_frames} frames of {height} x {width} px, the row says "
            f"{row['num_frames']} of {row['height']} x {row['width']}. Build the set again."
        )
    if not math.isclose(fps, row["fps"], rel_tol=1e-3):
        raise DatasetError(f"{where}: the video runs at {fps:g} Hz, the row says {row['fps']:g}. Build the set again.")

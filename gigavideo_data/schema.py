"""The contract of a published set, shared by the builder, the reader and the trainer (stdlib and pyarrow only).

One row is one video made for one prompt. A set holds three kinds of table: rows (configs `default` and `preview`),
held-out prompts (`eval_prompts`) and what was left out, with the reason (`rejects`); and if asked for, a fourth, the
final latents of generated videos (`latents`). The list of columns is closed: a new column is a new minor format, and
null in sets of an older one (`completed`); a column that changes its meaning is a new major one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa

from gigavideo_data.errors import DatasetError
from gigavideo_data.hashing import canonical
from gigavideo_data.texts import flaw_of

FORMAT_VERSION = "1.1"
ADDED = {"source_file": "1.1"}  # columns that came later than 1.0, each with its format
FORMAT_KEY = b"gigavideo_format"  # where the version stands in the Parquet metadata

ID = re.compile(r"[0-9a-f]{32}")
SHA256 = re.compile(r"[0-9a-f]{64}")
BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.[a-z0-9]+")  # no folder, no scheme, no "..": readers may open paths
SOURCE_NAME = re.compile(r"[^/\\\0~][^\\\0]*")  # as people name files, but relative; nobody opens it
FILE_NAME = re.compile(r"[a-z_]+/[A-Za-z0-9-]+\.parquet")  # in a set's folder, whatever its manifest says
MAX_PROBLEMS = 5  # named in one message

Read = TypeVar("Read", pa.Table, pa.RecordBatch)

STRING, INT, FLOAT, BOOL = pa.string(), pa.int32(), pa.float32(), pa.bool_()
VIDEO = pa.struct({"bytes": pa.binary(), "path": STRING})  # the storage type of datasets.Video


def _feature(kind: pa.DataType) -> dict | list:
    """What `datasets` calls an Arrow type."""
    if kind == VIDEO:
        return {"_type": "Video"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    """A schema that plain `load_dataset` types by itself, videos included, and that names the format."""
    features = {"info": {"features": {name: _feature(kind) for name, kind in columns.items()}}}
    return pa.schema(columns, {b"huggingface": json.dumps(features).encode(), FORMAT_KEY: FORMAT_VERSION.encode()})


ROW_SCHEMA = _schema(
    {
        "id": STRING,  # row_id() or file_row_id()
        "prompt_id": STRING,  # joins samples and variants of one base prompt
        "pair_id": STRING,  # joins twins with their real clip
        "sample": INT,  # number of the sample for this prompt, from 0
        "split": STRING,
        "source": STRING,  # synthetic: P_s V_s, twin: P_r V_s, real: P_r V_r
        "dimension": STRING,  # what the prompt was written for; null for captions
        "base_prompt": STRING,  # short form
        "prompt": STRING,  # what training conditions on
        "video": VIDEO,  # MP4; bytes always, path is a bare file name; null where a set withholds generated videos
        "video_sha256": STRING,
        "num_frames": INT,
        "height": INT,  # px
        "width": INT,  # px
        "fps": FLOAT,  # Hz
        "status": STRING,
        "reason": STRING,  # why a row is not scored
        "reward": FLOAT,  # [0, 1]: the value on `dimension`; for twins the mean of the non-null targets
        "rewards": pa.list_(pa.struct({"dimension": STRING, "value": FLOAT, "status": STRING, "reason": STRING})),
        "answers": pa.list_(
            pa.struct(
                {
                    "dimension": STRING,
                    "question": STRING,
                    "expected": STRING,
                    "gate": BOOL,
                    "p_yes": FLOAT,  # [0, 1]; p_yes + p_no is the mass of the answer
                    "p_no": FLOAT,  # [0, 1]
                    "readout": STRING,
                    "judge": STRING,  # id of an entry of `judges`
                }
            )
        ),
        "measurements": pa.list_(
            pa.struct({"dimension": STRING, "name": STRING, "values": pa.list_(FLOAT), "judge": STRING})
        ),
        "judges": pa.list_(
            pa.struct(
                {
                    "id": STRING,
                    "kind": STRING,
                    "model": STRING,
                    "revision": STRING,
                    "frames": INT,  # frames shown to the judge
                    "fps": FLOAT,  # Hz at which they were taken
                    "template": STRING,  # hash of the question's template
                }
            )
        ),
        "generator": pa.struct(
            {
                "backend": STRING,
                "model": STRING,
                "revision": STRING,
                "adapter": STRING,
                "profile": STRING,
                "scheduler": STRING,
                "shift": FLOAT,
                "steps": INT,
                "guidance": FLOAT,
                "negative_prompt": STRING,
                "prompt": STRING,  # only where it differs from `prompt`
                "seed": pa.int64(),
            }
        ),
        "origin": pa.struct({"dataset": STRING, "clip": STRING, "start_s": FLOAT, "end_s": FLOAT}),  # real clips
        # The file that an imported or a real video was made of: its name, where it lay in its folder, its own sum.
        "source_file": pa.struct({"name": STRING, "path": STRING, "sha256": STRING}),
        "recipe": STRING,  # hash of the recipe: sets can be merged
        "license": STRING,  # of the video
    }
)

EVAL_PROMPT_SCHEMA = _schema(
    {
        "prompt_id": STRING,
        "dimension": STRING,
        "base_prompt": STRING,
        "prompt": STRING,
        "split": STRING,
        "questions": pa.list_(pa.struct({"dimension": STRING, "question": STRING, "expected": STRING, "gate": BOOL})),
        "seeds": pa.list_(pa.int64()),  # one video per seed
    }
)

REJECT_SCHEMA = _schema(
    {"stage": STRING, "source": STRING, "id": STRING, "reason": STRING, "detail": STRING, "attempts": INT}
)

LATENT_SCHEMA = _schema(
    {
        "id": STRING,  # of the row whose video was decoded from them
        "video_sha256": STRING,  # of that video: of another one of the same row they are not the latents
        "latents": pa.binary(),  # bfloat16, little-endian, in the order of `shape`, as the transformer sees them
        "latents_sha256": STRING,
        "shape": pa.list_(INT),  # channels, latent frames, height, width
        "vae": pa.struct({"model": STRING, "revision": STRING}),  # whose autoencoder; hash of its folder's content
    }
)


@dataclass(frozen=True)
class Contract:
    """One kind of table. Nested fields have dotted names: `answers.p_yes`."""

    schema: pa.Schema
    key: tuple[str, ...]  # together unique; none: rows may repeat
    order: tuple[str, ...]  # how a published table is sorted; none: as its rows are given
    nullable: frozenset[str]  # every other field must have a value
    words: dict[str, tuple[str, ...]]  # fields that take only these
    unit: frozenset[str] = frozenset()  # fields in [0, 1]
    prompts: frozenset[str] = frozenset(("prompt", "base_prompt"))  # fields that must show something


YES_NO = ("yes", "no")
STATUSES = ("scored", "unscorable", "not_scored")

ROWS = Contract(
    schema=ROW_SCHEMA,
    key=("id",),
    order=("source", "dimension", "id"),
    nullable=frozenset(
        f"{parent}{name}"
        for parent, names in {
            "": ("pair_id", "dimension", "video", "reason", "reward", "generator", "origin", "source_file"),
            "rewards.": ("value", "reason"),
            "judges.": ("revision", "frames", "fps", "template"),
            "generator.": tuple(set(ROW_SCHEMA.field("generator").type.names) - {"backend", "model"}),
            "origin.": ("start_s", "end_s"),
        }.items()
        for name in names
    ),
    words={
        "split": ("train", "validation"),
        "source": ("synthetic", "twin", "real"),
        "status": STATUSES,
        "rewards.status": STATUSES,
        "answers.expected": YES_NO,
        "answers.readout": ("logits", "text"),
    },
    unit=frozenset(("reward", "rewards.value", "answers.p_yes", "answers.p_no")),
)
EVAL_PROMPTS = Contract(
    schema=EVAL_PROMPT_SCHEMA,
    key=("prompt_id", "dimension"),
    order=("dimension", "prompt_id"),
    nullable=frozenset(),
    words={"split": ("dev", "test"), "questions.expected": YES_NO},
)
REJECTS = Contract(
    schema=REJECT_SCHEMA,
    key=(),
    order=("stage", "source", "id", "reason", "detail"),
    nullable=frozenset(("detail", "attempts")),
    words={},
)
LATENTS = Contract(schema=LATENT_SCHEMA, key=("id",), order=(), nullable=frozenset(), words={})
BFLOAT16_BYTES = 2

LAYOUT: dict[str, tuple[Contract, dict[str, str]]] = {  # config -> its contract, split -> its files
    "default": (ROWS, {"train": "data/train-*.parquet", "validation": "data/validation-*.parquet"}),
    "preview": (ROWS, {"preview": "preview/preview.parquet"}),
    "eval_prompts": (EVAL_PROMPTS, {"dev": "eval_prompts/dev-*.parquet", "test": "eval_prompts/test-*.parquet"}),
    "rejects": (REJECTS, {"rejects": "rejects/rejects.parquet"}),
    "latents": (LATENTS, {"latents": "latents/latents-*.parquet"}),
}
OPTIONAL = frozenset(("latents",))  # configs that a set may be without
LATENTS_FOLDER = "latents"  # of a set's files


def configs_of(rows: dict[str, int]) -> list[dict[str, Any]]:
    """The configs of a card: which files a split has; `rows` are those of each file.

    Without splits that have no rows: one of them makes `load_dataset` fail on its whole config.
    """
    configs = []
    for config, (_, splits) in LAYOUT.items():
        filled = {
            split: pattern
            for split, pattern in splits.items()
            if any(rows[name] for name in fnmatch.filter(rows, pattern))
        }
        if filled:
            default = {"default": True} if config == "default" else {}
            files = [{"split": split, "path": pattern} for split, pattern in filled.items()]
            configs.append({"config_name": config, **default, "data_files": files})
    return configs


def row_id(prompt: str, generator: dict, seed: int) -> str:
    """Name of a made video: same prompt, generator with all its parameters, and seed, same id. Never the judge."""
    return _digest({"prompt": prompt, "generator": generator, "seed": seed})[:32]


def file_row_id(prompt: str, video_sha256: str) -> str:
    """Name of a video that came in as a file."""
    return _digest({"prompt": prompt, "video_sha256": video_sha256})[:32]


def prompt_id(base_prompt: str) -> str:
    """Name of a base prompt, shared by its variants and samples."""
    return hashlib.sha256(base_prompt.encode()).hexdigest()[:16]


def split_of(key: str, validation_share: float = 0.1) -> str:
    """The split of everything that shares `key` (prompt_id, or pair_id where there is one)."""
    fraction = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return "validation" if fraction < validation_share else "train"


def to_table(rows: list[dict], contract: Contract = ROWS) -> pa.Table:
    """Rows as a sorted, typed table.

    Raises:
        DatasetError: a row has a column too many or too few (Arrow would drop or fill it without a word).
    """
    names = contract.schema.names
    for row in rows:
        if row.keys() != set(names):
            raise DatasetError(f"row {row.get('id', '?')}: {_columns_differ(list(row), names)}")
    return pa.Table.from_pylist(in_order(rows, contract), schema=contract.schema)


def in_order(rows: list[dict], contract: Contract = ROWS) -> list[dict]:
    """Rows in the order in which they are published, which never depends on when they were made."""
    return sorted(rows, key=lambda row: [str(row.get(name) or "") for name in contract.order])


def check_clip(row: dict, where: str, size_THW: tuple[int, ...], fps: float) -> None:
    """Compare what was decoded of a row's clip with what the row says of it.

    Raises:
        DatasetError: they differ.
    """
    if size_THW != (row["num_frames"], row["height"], row["width"]):
        num_frames, height, width = size_THW
        raise DatasetError(
            f"{where}: the clip has {num_frames} frames of {height} x {width} px, the row says "
            f"{row['num_frames']} of {row['height']} x {row['width']}. Build the set again."
        )
    if not math.isclose(fps, row["fps"], rel_tol=1e-3):
        raise DatasetError(f"{where}: the clip runs at {fps:g} Hz, the row says {row['fps']:g}. Build the set again.")


def check_format(version: str, where: str) -> None:
    """Refuse a set of another major format."""
    major, ours = version.split(".")[0], FORMAT_VERSION.split(".")[0]
    if major != ours:
        raise DatasetError(
            f"{where}: format {version}, but this gigavideo reads format {ours}.x. "
            + ("Upgrade gigavideo." if major.isdigit() and int(major) > int(ours) else "Build the set again.")
        )


def schema_of(contract: Contract, version: str) -> pa.Schema:
    """The columns that a table has in sets of a format; of a later one than ours, those that are known here."""
    later = _later_than(version)
    return _schema({field.name: field.type for field in contract.schema if field.name not in later})


def completed(read: Read, columns: Iterable[str]) -> Read:
    """What was read of a table, with those of the columns asked for that came after the table's format, as null."""
    later = _later_than(_format_of(read.schema))
    for name in columns:
        if name in later and name not in read.schema.names:
            field = ROW_SCHEMA.field(name)
            read = read.append_column(field, pa.nulls(read.num_rows, field.type))
    return read


def is_newer(version: str) -> bool:
    """Whether a format is a later one than ours: it may have columns that are not known here."""
    return _numbers(version) > _numbers(FORMAT_VERSION)


def _later_than(version: str) -> set[str]:
    """Columns that a format does not have yet."""
    return {name for name, since in ADDED.items() if _numbers(version) < _numbers(since)}


def _numbers(version: str) -> tuple[int, ...]:
    """A format's numbers; of what is none, ours, so that nothing is let pass for it."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else _numbers(FORMAT_VERSION)


def _format_of(schema: pa.Schema) -> str:
    return (schema.metadata or {}).get(FORMAT_KEY, b"").decode(errors="replace")


def check_table(table: pa.Table, where: str, contract: Contract = ROWS, unread: tuple[str, ...] = ()) -> None:
    """Check a table against its contract, value by value.

    Args:
        table: as read from Parquet.
        where: name used in messages.
        contract: the kind of table.
        unread: columns that were left out in reading; nothing is said of them.

    Raises:
        DatasetError: names the columns, or the first few rows and what is wrong with them.
    """
    _check_columns(table.schema, where, contract, unread)
    problems, rows = [], table.to_pylist()
    for row in rows:
        name = "/".join(str(row[column]) for column in contract.key)
        problems += [f"{name}: {problem}" for problem in _problems(row, contract, unread)]
    keys = Counter(tuple(row[column] for column in contract.key) for row in rows) if contract.key else {}
    problems += [f"{'/'.join(map(str, key))}: stands {count} times" for key, count in keys.items() if count > 1]
    if problems:
        more = f"\n  and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        shown = "\n  ".join(problems[:MAX_PROBLEMS])
        raise DatasetError(f"{where} breaks the contract (format {FORMAT_VERSION}):\n  {shown}{more}\nBuild it again.")


def _check_columns(schema: pa.Schema, where: str, contract: Contract, unread: tuple[str, ...]) -> None:
    version = _format_of(schema)
    if not version:
        raise DatasetError(f"{where}: no gigavideo_format in the Parquet metadata. This is not a set of gigavideo.")
    check_format(version, where)
    absent = _later_than(version) - set(schema.names)
    names = [name for name in contract.schema.names if name not in (*unread, *absent)]
    if set(names) - set(schema.names) or (set(schema.names) - set(names) and not is_newer(version)):
        raise DatasetError(f"{where} (format {version}): {_columns_differ(schema.names, names)}")
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
        yield "video is null on a real row: only generated videos can be withheld, since they can be made again"
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
        yield f"source_file is {name!r}, but a {row['generator']['backend']} generator made the video"
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


def _columns_differ(found: list[str], expected: list[str]) -> str:
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [f"missing columns: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(extra)}"] * bool(extra)
    return f"{'; '.join(parts)}. The columns of format {FORMAT_VERSION} are closed; see gigavideo_data/schema.py."


def _digest(content: dict) -> str:
    return hashlib.sha256(canonical(content, ascii_only=True)).hexdigest()

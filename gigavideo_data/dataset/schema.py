"""The dataset format: the columns of every table, with types and units (stdlib and pyarrow only).

One row is one video generated for one prompt. A dataset has three kinds of tables: rows (configs `default` and
`preview`), held-out prompts (`eval_prompts`) and rejected rows with reasons (`rejects`); optionally a fourth, the final
latents of generated videos (`latents`). The list of columns is closed. A new column is a new minor format, null in
datasets of older formats (`completed`); a column that changes its meaning is a new major format. `table_check` checks
the values.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from gigavideo_data.errors import DatasetError
from gigavideo_data.io.hashing import content_key

FORMAT_VERSION = "1.1"
ADDED = {"source_file": "1.1"}  # columns added after format 1.0, with the format that added them
FORMAT_KEY = b"gigavideo_format"  # key of the format version in the Parquet metadata

FILE_NAME = re.compile(r"[a-z_]+/[A-Za-z0-9-]+\.parquet")  # the only names that a manifest may list
MAX_PROBLEMS = 5  # in one message

Read = TypeVar("Read", pa.Table, pa.RecordBatch)
AnyRow = TypeVar("AnyRow", bound=Mapping[str, Any])

STRING, INT, FLOAT, BOOL = pa.string(), pa.int32(), pa.float32(), pa.bool_()
VIDEO = pa.struct({"bytes": pa.binary(), "path": STRING})  # the storage type of datasets.Video


def _feature(kind: pa.DataType) -> dict | list:
    """The feature of `datasets` for an Arrow type."""
    if kind == VIDEO:
        return {"_type": "Video"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    """A schema with the metadata that plain `load_dataset` needs for its types, and with the format version."""
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
        "reward": FLOAT,  # [0, 1]: the value on `dimension`; for twins the mean over the dataset's dimensions
        "rewards": pa.list_(pa.struct({"dimension": STRING, "value": FLOAT, "status": STRING, "reason": STRING})),
        "answers": pa.list_(
            pa.struct(
                {
                    "dimension": STRING,
                    "question": STRING,
                    "expected": STRING,
                    "gate": BOOL,
                    "p_yes": FLOAT,  # [0, 1]; p_yes + p_no can be less than 1
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
        # The file of an imported or real video: its name, its path in the imported folder, the hash of its own bytes.
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
        "video_sha256": STRING,  # of that video; a video that was remade differently has other latents
        "latents": pa.binary(),  # bfloat16, little-endian, in the order of `shape`, as the transformer sees them
        "latents_sha256": STRING,
        "shape": pa.list_(INT),  # channels, latent frames, height, width
        "vae": pa.struct({"model": STRING, "revision": STRING}),  # model of the autoencoder; hash of its folder
    }
)


@dataclass(frozen=True)
class Contract:
    """The rules of one kind of table. Nested fields have dotted names: `answers.p_yes`."""

    schema: pa.Schema
    key: tuple[str, ...]  # columns that are unique together; empty: rows may repeat
    order: tuple[str, ...]  # columns by which a table is sorted; empty: the given order is kept
    nullable: frozenset[str]  # fields that may be null
    words: dict[str, tuple[str, ...]]  # fields with a closed list of values
    unit: frozenset[str] = frozenset()  # fields in [0, 1]
    prompts: frozenset[str] = frozenset(("prompt", "base_prompt"))  # fields that need visible text

    def place_of(self, row: Mapping[str, Any]) -> list[str]:
        """What a row is sorted by."""
        return [str(row.get(name) or "") for name in self.order]


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

LAYOUT: dict[str, tuple[Contract, dict[str, str]]] = {  # config -> contract, and split -> files
    "default": (ROWS, {"train": "data/train-*.parquet", "validation": "data/validation-*.parquet"}),
    "preview": (ROWS, {"preview": "preview/preview.parquet"}),
    "eval_prompts": (EVAL_PROMPTS, {"dev": "eval_prompts/dev-*.parquet", "test": "eval_prompts/test-*.parquet"}),
    "rejects": (REJECTS, {"rejects": "rejects/rejects.parquet"}),
    "latents": (LATENTS, {"latents": "latents/latents-*.parquet"}),
}
OPTIONAL = frozenset(("latents",))  # configs that a dataset may lack
LATENTS_FOLDER = "latents"


def configs_of(rows: dict[str, int]) -> list[dict[str, Any]]:
    """The configs of a card: the files of each split; `rows` maps each file to its number of rows.

    A split without rows is left out, because it makes `load_dataset` fail on the whole config.
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
    """The id of a generated video: a hash of prompt, generator with all parameters, and seed; never of the judge."""
    return content_key({"prompt": prompt, "generator": generator, "seed": seed}, ascii_only=True)


def file_row_id(prompt: str, video_sha256: str) -> str:
    """The id of an imported video."""
    return content_key({"prompt": prompt, "video_sha256": video_sha256}, ascii_only=True)


def prompt_id(base_prompt: str) -> str:
    """The id of a base prompt, shared by its variants and samples."""
    return hashlib.sha256(base_prompt.encode()).hexdigest()[:16]


def split_of(key: str, validation_share: float = 0.1) -> str:
    """The split of all rows that share `key` (pair_id, or else prompt_id)."""
    fraction = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return "validation" if fraction < validation_share else "train"


def to_table(rows: Sequence[Mapping[str, Any]], contract: Contract = ROWS) -> pa.Table:
    """Convert rows to a sorted, typed table.

    Raises:
        DatasetError: a row has missing or unknown columns, which Arrow would fill or drop silently.
    """
    names = contract.schema.names
    for row in rows:
        if row.keys() != set(names):
            raise DatasetError(f"row {row.get('id', '?')}: {columns_differ(list(row), names)}")
    return pa.Table.from_pylist(in_order(rows, contract), schema=contract.schema)


def in_order(rows: Iterable[AnyRow], contract: Contract = ROWS) -> list[AnyRow]:
    """Rows in the order of publication, which does not depend on the order of generation."""
    return sorted(rows, key=contract.place_of)


def check_format(version: str, where: str) -> None:
    """Refuse another major format.

    Raises:
        DatasetError: says which format this code reads, and what to do.
    """
    major, ours = version.split(".")[0], FORMAT_VERSION.split(".")[0]
    if major != ours:
        raise DatasetError(
            f"{where}: format {version}, but this gigavideo reads format {ours}.x. "
            + ("Upgrade gigavideo." if major.isdigit() and int(major) > int(ours) else "Build the set again.")
        )


def schema_of(contract: Contract, version: str) -> pa.Schema:
    """The columns of a table in datasets of a format; of a later format, those that this code knows."""
    later = later_columns(version)
    return _schema({field.name: field.type for field in contract.schema if field.name not in later})


def completed(read: Read, columns: Iterable[str]) -> Read:
    """Add requested columns that the table's older format lacks, as null."""
    later = later_columns(format_of(read.schema))
    for name in columns:
        if name in later and name not in read.schema.names:
            field = ROW_SCHEMA.field(name)
            read = read.append_column(field, pa.nulls(read.num_rows, field.type))
    return read


def is_newer(version: str) -> bool:
    """Whether a format is later than ours, so that it may have columns that this code does not know."""
    return _numbers(version) > _numbers(FORMAT_VERSION)


def later_columns(version: str) -> set[str]:
    """Columns that were added after a format."""
    return {name for name, since in ADDED.items() if _numbers(version) < _numbers(since)}


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version; those of our own format if it is not a version, so that no rule is relaxed."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else _numbers(FORMAT_VERSION)


def format_of(schema: pa.Schema) -> str:
    """The format version in a schema's metadata; empty if there is none."""
    return (schema.metadata or {}).get(FORMAT_KEY, b"").decode(errors="replace")


def columns_differ(found: list[str], expected: list[str]) -> str:
    """Describe missing and unknown columns."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [f"missing columns: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(extra)}"] * bool(extra)
    return f"{'; '.join(parts)}. See {__name__} for the columns of format {FORMAT_VERSION}."

"""rewards.parquet beside eval.json: the rewards of every prompt and seed, so that comparisons can be made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.io.atomic import write_durably
from gigavideo_data.scoring.bootstrap import Scored

FILE = "rewards.parquet"
SCHEMA = pa.schema(
    [
        pa.field("dimension", pa.string()),
        pa.field("prompt_id", pa.string()),
        pa.field("seed", pa.int64()),
        *(pa.field(name, pa.float64()) for name in ("base", "tuned", "second_base", "second_tuned")),
    ]
)


def write(folder: Path, first: Sequence[Scored], second: Sequence[Scored] | None) -> None:
    """Write the table; a reward is null where it could not be determined, and where there is no second judge.

    Args:
        folder: of the evaluation.
        first: rewards by the judge.
        second: rewards by the second judge in the same order, or None.
    """
    again: Sequence[Scored | None] = second or [None] * len(first)
    rows = [
        {
            "dimension": one.dimension,
            "prompt_id": one.prompt_id,
            "seed": one.seed,
            "base": one.base,
            "tuned": one.tuned,
            "second_base": other.base if other else None,
            "second_tuned": other.tuned if other else None,
        }
        for one, other in zip(first, again, strict=True)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink)
    write_durably(folder / FILE, sink.getvalue().to_pybytes())

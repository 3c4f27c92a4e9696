"""Compare two dataset folders row by row: ids, clips, answers and rewards. Exit code 1 if they differ.

    python scripts/compare_datasets.py runs/before runs/after

Identities of judges and versions of tools are not compared: a new release of the toolkit may name them anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

CLIP = ("video_sha256", "source_file")
COMPARED = (
    "prompt",
    "base_prompt",
    "dimension",
    "source",
    "split",
    "generator",
    "origin",
    "status",
    "reason",
    "reward",
    "rewards",
    *CLIP,
)


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of all shards by id, without video bytes."""
    rows = {}
    for shard in sorted((folder / "data").glob("*.parquet")):
        file = pq.ParquetFile(shard)
        names = [name for name in file.schema_arrow.names if name != "video"]
        for row in file.read(columns=names).to_pylist():
            rows[row["id"]] = row
    return rows


def answers(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The numbers of a row's answers, without who gave them."""
    keys = ("dimension", "question", "expected", "gate", "p_yes", "p_no")
    return [tuple(answer.get(key) for key in keys) for answer in row["answers"] or ()]


def main(before: Path, after: Path) -> int:
    """Print what differs; the exit code."""
    old, new = read(before), read(after)
    shared = sorted(old.keys() & new.keys())
    print(f"rows: {len(old)} and {len(new)}, {len(shared)} with the same id")
    different = len(old.keys() ^ new.keys())
    for name in COMPARED:
        unequal = [id_ for id_ in shared if old[id_].get(name) != new[id_].get(name)]
        print(f"{name:<14} {len(shared) - len(unequal)} of {len(shared)} equal")
        different += len(unequal)
    unequal = [id_ for id_ in shared if answers(old[id_]) != answers(new[id_])]
    print(f"{'answers':<14} {len(shared) - len(unequal)} of {len(shared)} equal")
    return int(bool(different + len(unequal)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

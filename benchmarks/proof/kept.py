"""The result files that are kept in the repository: from them, a section continues on another machine.

Kept are the rewards of every run, not datasets and models. A run or a loop with all its results is not done again.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from gigavideo_data.io.atomic import write_durably

KEPT = Path(__file__).parent / "results"


def restore(work: Path, kept: Path = KEPT) -> None:
    """Write the kept result files that are not in the work folder."""
    for packed in sorted(kept.rglob("*.json.gz")):
        file = work / packed.relative_to(kept).with_suffix("")
        if not file.exists():
            write_durably(file, gzip.decompress(packed.read_bytes()))


def keep(work: Path, kept: Path = KEPT) -> None:
    """Keep every result file of the work folder, without those of `--tiny`."""
    for file in sorted(work.glob("**/results/**/*.json")):
        name = file.relative_to(work)
        if name.parts[0] != "tiny":
            write_durably(kept / name.with_suffix(".json.gz"), gzip.compress(file.read_bytes(), mtime=0))

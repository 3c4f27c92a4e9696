"""A folder in which whole builds are run by the command line, with a generator that counts its calls (see faults/)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.support.forked import Forked

FAULTS = Path(__file__).parent / "faults"
WORKERS, BATCH = 2, 2  # processes, and videos of one call: several batches in a small build
# What the card and the page quote of cost.json.
QUOTED = re.compile(
    rb"\*\*Cost per useful sample:\*\*[^\n]*"
    rb'|<div id="useful">.*?</div>|<section aria-labelledby="cost">.*?</section>',
    re.DOTALL,
)
SMALL = {
    "dimensions": "[motion_order_understanding, instance_preservation]",
    "prompts.per_dimension": "4",
    "captions.count": "4",
    "eval_prompts.per_dimension": "2",
    "limits.replicas": str(WORKERS),
}


class Workspace:
    """A folder with a store, a call counter, and builds run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file = folder, folder / "calls"
        folder.mkdir(exist_ok=True)

    def start(
        self, out: str = "out", faults: dict[str, str] | None = None, *, retry: bool = False, **changes: str
    ) -> Forked:
        settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
        options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        flags = ["--retry-rejected"] * retry
        return self.run(["build", "--recipe", "quickstart-all", "--out", out, *options, *flags], faults)

    def copied(self, folder: Path, out: str = "out") -> Workspace:
        """The same in another folder, with its dataset under another name."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        (folder / "out").rename(folder / out)
        return Workspace(folder)

    def run(self, arguments: list[str], faults: dict[str, str] | None = None) -> Forked:
        return Forked("gv-data", [*arguments, "--store", "store"], self.environment() | (faults or {}), self.folder)

    def environment(self) -> dict[str, str]:
        """Of a process whose generator counts its calls and makes as many videos in one as those of the builds here."""
        return os.environ | {"PYTHONPATH": str(FAULTS), "GV_CALLS": str(self.calls_file), "GV_BATCH": str(BATCH)}

    def build(
        self, out: str = "out", faults: dict[str, str] | None = None, *, retry: bool = False, **changes: str
    ) -> tuple[int, str]:
        """Run to the end and return exit code and what was said to people."""
        process = self.start(out, faults, retry=retry, **changes)
        _, said = process.communicate(timeout=300)
        return process.wait(), said

    def calls(self) -> int:
        return len(self.calls_file.read_text().splitlines()) if self.calls_file.exists() else 0

    def finished(self, stage: str) -> int:
        return len(list((self.folder / "store" / stage).glob("*/*.json")))

    def files(self, out: str = "out") -> dict[str, str]:
        """Sums of everything written but cost.json and what quotes it, which differ between runs, and the log."""
        folder = self.folder / out
        paths = [
            p
            for p in folder.rglob("*")
            if p.is_file() and ".gv" not in p.parts and p.name not in ("cost.json", "log.txt")
        ]
        return {str(p.relative_to(folder)): hashlib.sha256(QUOTED.sub(b"", p.read_bytes())).hexdigest() for p in paths}

    def manifest(self, out: str = "out") -> dict:
        return json.loads((self.folder / out / "manifest.json").read_text())

    def rows(self, out: str = "out") -> list[Any]:
        """Without the videos."""
        return pq.read_table(self.folder / out / "data").drop_columns("video").to_pylist()

    def rejects(self, out: str = "out") -> list[Any]:
        return pq.read_table(self.folder / out / "rejects" / "rejects.parquet").to_pylist()

"""Whether a folder already holds the dataset that a build would write: then it is neither written nor verified again.

.gv/finished.json   a hash of everything that the dataset was written from; size and time of change of its files
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gigavideo_data.dataset.reader import BESIDE, read_manifest
from gigavideo_data.dataset.writer import PAGE
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.hashing import canonical

MARKER = Path(".gv") / "finished.json"


def fingerprint(parts: Iterable[Any]) -> str:
    """A hash (hexadecimal) of JSON values, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(canonical(part) + b"\n")
    return digest.hexdigest()


def is_finished(out: Path, written_from: str) -> bool:
    """Whether a dataset was written and verified from what has this fingerprint, and no file changed since."""
    try:
        marker = json.loads((out / MARKER).read_text("utf-8"))
        return bool(marker == {"written_from": written_from, "files": _files(out)})
    except (OSError, ValueError, DatasetError):
        return False


def mark(out: Path, written_from: str) -> None:
    """Note that the dataset in a folder is finished, and what it was written from."""
    write_durably(out / MARKER, canonical({"written_from": written_from, "files": _files(out)}))


def _files(out: Path) -> dict[str, list[int]]:
    """Bytes, and time of the last change in ns, of each file of a dataset."""
    names = [*read_manifest(out)["files"], *BESIDE, PAGE, "manifest.json"]
    stats = {name: (out / name).stat() for name in names}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}

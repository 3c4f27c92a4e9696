"""The workspace store: every finished row of every stage is a durable, content-addressed file.

    store/<stage>/<ab>/<key>.json     the record, written after its blobs: its existence means the row is done
    store/blobs/<ab>/<sha256>.<ext>   videos and latents
    store/attempts/<stage>/<key>      one line per attempt, written before it; lost in a power cut, unlike the others
    store/reports/<run>/              what the workers of a run are doing; removed when it ends

Keys name everything that decides a result, so several builds may use one store, also at the same time: the first one to
finish a row writes it, and the others find its result. Only `spent`, the seconds of a row, differs between runs.

A blob is read and hashed again only if its file changed: its size is not that of the record, or it was not modified
before the record was written. `gv-data verify`, with which a build ends, hashes every video of a dataset.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RunError
from gigavideo_data.io.atomic import Blob, write_completely, write_durably
from gigavideo_data.io.hashing import canonical

ATTEMPTS_OVER_ALL_RUNS = 10  # of one row, killed runs included; then the row is rejected


@dataclass(frozen=True)
class Store:
    """A store folder. Creating the object costs nothing, so every worker has its own."""

    root: Path

    def create(self) -> None:
        """Create the folder and check that it can be written.

        Raises:
            RunError: it cannot.
        """
        try:
            write_durably(self.root / "format", b"1\n")
        except OSError as error:
            raise RunError(
                f"The store {self.root} cannot be written ({error.strerror}). Name another folder with --store."
            ) from error

    def _record(self, stage: str, key: str) -> Path:
        return self.root / stage / key[:2] / f"{key}.json"

    def _blob(self, name: str) -> Path:
        return self.root / "blobs" / name[:2] / name

    def get(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record of a finished row, or None. A record whose blobs are gone or damaged counts as not finished."""
        record = self.peek(stage, key)
        if not record or "blobs" not in record:
            return record
        written_ns = self._record(stage, key).stat().st_mtime_ns
        sizes = record.get("blob_bytes", {})  # absent from records of older versions
        intact = (
            self._is_unchanged(blob, sizes.get(name), written_ns) or self._is_intact(blob)
            for name, blob in record["blobs"].items()
        )
        return record if all(intact) else None

    def peek(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record of a finished row, or None; its blobs are not checked."""
        try:
            return json.loads(self._record(stage, key).read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def size(self, name: str | None) -> int:
        """Bytes of a blob; 0 if there is none."""
        file = self._blob(name) if name else None
        return file.stat().st_size if file and file.is_file() else 0

    def has_record(self, stage: str, key: str) -> bool:
        """Whether a record was written once, even if its blobs are damaged now."""
        return self._record(stage, key).exists()

    def put(self, stage: str, key: str, record: dict[str, Any], blobs: dict[str, bytes] | None = None) -> None:
        """Write a row durably: blobs first (named by their content), the record last.

        Args:
            stage: name of the stage.
            key: `content_key` of all that decides the result.
            record: JSON-able; "blobs" is added, the file of each blob by name, and "blob_bytes", its size.
            blobs: bytes by name; the name's ending becomes the file's ("video.mp4").

        Raises:
            OSError: as `write_durably`.
        """
        if blobs:
            names = {name: self.keep(data, Path(name).suffix) for name, data in blobs.items()}
            record = {**record, "blobs": names, "blob_bytes": {name: len(data) for name, data in blobs.items()}}
        write_durably(self._record(stage, key), canonical(record))
        self._attempts(stage, key).unlink(missing_ok=True)

    def keep(self, data: bytes, suffix: str) -> str:
        """Write a blob durably; return its name, which is the hash of its content.

        Raises:
            OSError: as `write_durably`.
        """
        name = hashlib.sha256(data).hexdigest() + suffix
        if not self._is_intact(name):
            write_durably(self._blob(name), data)
        return name

    def forget(self, stage: str, key: str) -> None:
        """Remove a record and its count of attempts, so that its row is processed again."""
        self._record(stage, key).unlink(missing_ok=True)
        self._attempts(stage, key).unlink(missing_ok=True)

    def blob(self, name: str) -> bytes:
        """The bytes of a blob named in a record."""
        return self._blob(name).read_bytes()

    def on_disk(self, name: str) -> Blob:
        """The bytes of a blob, not read yet."""
        return Blob(self._blob(name))

    def reports(self, run_id: str) -> Path:
        """The folder in which the workers of a run report what they are doing."""
        return self.root / "reports" / run_id

    def _is_unchanged(self, name: str, num_bytes: int | None, written_ns: int) -> bool:
        """Whether a blob has this size and was last modified before a time; it is written before its record."""
        try:
            stat = self._blob(name).stat()
        except FileNotFoundError:
            return False
        return stat.st_size == num_bytes and stat.st_mtime_ns < written_ns

    def _is_intact(self, name: str) -> bool:
        try:
            return hashlib.sha256(self.blob(name)).hexdigest() == Path(name).stem
        except FileNotFoundError:
            return False

    def _attempts(self, stage: str, key: str) -> Path:
        return self.root / "attempts" / stage / key

    def num_attempts(self, stage: str, key: str, run_id: str) -> int:
        """The number of attempts at a row that a run has begun and not finished."""
        path = self._attempts(stage, key)
        return path.read_text().split().count(run_id) if path.exists() else 0

    def begin_attempt(self, stage: str, key: str, run_id: str, limit: int) -> int | None:
        """Count an attempt on disk before it starts, so that an attempt that kills its worker is counted.

        Args:
            stage: name of the stage.
            key: the row's key.
            run_id: names this run; an earlier run may have been killed for another reason than this row.
            limit: attempts that one run may make.

        Returns:
            The number of this attempt within the run, from 1; None if none is left.
        """
        path = self._attempts(stage, key)
        earlier = path.read_text().split() if path.exists() else []
        mine = earlier.count(run_id)
        if mine >= limit or len(earlier) >= ATTEMPTS_OVER_ALL_RUNS:
            return None
        write_completely(path, ("\n".join([*earlier, run_id]) + "\n").encode())
        return mine + 1

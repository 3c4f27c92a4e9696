"""The workspace store: every finished row of every stage is a durable, content-addressed file.

    store/<stage>/<ab>/<key>.json     the record, written after its blobs: its existence means the row is done
    store/blobs/<ab>/<sha256>.<ext>   videos and latents
    store/attempts/<stage>/<key>      one line per attempt, written before the attempt
    store/tracebacks/<stage>/<key>    of the unexpected exception that rejected a row; it is published nowhere

Keys name everything that decides a result, so builds may share a store and even run at once: whoever finishes first
writes, and the other one finds the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RunError

ATTEMPTS_OVER_ALL_RUNS = 10  # a row that outlives this many attempts, runs included that were killed, is given up


def canonical(value: Any) -> bytes:
    """One spelling of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def legible(value: Mapping[str, Any]) -> str:
    """The same for people: indented, with a newline at the end."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def content_key(value: Any) -> str:
    """sha256 (hex, 32 digits) of the canonical JSON of whatever decides a result."""
    return hashlib.sha256(canonical(value)).hexdigest()[:32]


def write_durably(path: Path, data: bytes) -> None:
    """Write a whole file or none: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full, read-only or gone; nothing is left behind under the final name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk does not say which file
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file, or the entries of a folder, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Blob:
    """Bytes that stay on disk until they are asked for: the videos of a set are larger than memory.

    They are those of a file from `start` on.
    """

    file: Path
    start: int = 0

    def __len__(self) -> int:
        return self.file.stat().st_size - self.start

    def read(self) -> bytes:
        """All of them."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read()


@dataclass(frozen=True)
class Store:
    """A store folder. Cheap to make, so that every worker has its own."""

    root: Path

    def create(self) -> None:
        """Make the folder and prove that it can be written.

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
        return record if record and all(map(self._whole, record.get("blobs", {}).values())) else None

    def peek(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record of a finished row, or None; its blobs are not looked at."""
        try:
            return json.loads(self._record(stage, key).read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def size(self, name: str | None) -> int:
        """Bytes of a blob; 0 if there is none."""
        file = self._blob(name) if name else None
        return file.stat().st_size if file and file.is_file() else 0

    def has_record(self, stage: str, key: str) -> bool:
        """Whether a record was once written, be its blobs whole or not."""
        return self._record(stage, key).exists()

    def put(self, stage: str, key: str, record: dict[str, Any], blobs: dict[str, bytes] | None = None) -> None:
        """Make a row durable: blobs first (named by their content), the record last.

        Args:
            stage: name of the stage.
            key: `content_key` of all that decides the result.
            record: JSON-able; its "blobs" maps the name of each blob to its file.
            blobs: bytes by name; the name's ending becomes the file's ("video.mp4").

        Raises:
            OSError: as `write_durably`.
        """
        names = {name: self.keep(data, Path(name).suffix) for name, data in (blobs or {}).items()}
        write_durably(self._record(stage, key), canonical({**record, "blobs": names} if names else record))
        self._attempts(stage, key).unlink(missing_ok=True)

    def keep(self, data: bytes, suffix: str) -> str:
        """Make a blob durable; its name, by its content.

        Raises:
            OSError: as `write_durably`.
        """
        name = hashlib.sha256(data).hexdigest() + suffix
        if not self._whole(name):
            write_durably(self._blob(name), data)
        return name

    def keep_traceback(self, stage: str, key: str, error: BaseException) -> Path:
        """Write the traceback of an unexpected exception; the file.

        Raises:
            OSError: as `write_durably`.
        """
        path = self.root / "tracebacks" / stage / key
        write_durably(path, "".join(traceback.format_exception(error)).encode(errors="replace"))
        return path

    def forget(self, stage: str, key: str) -> None:
        """Remove a record and its count of attempts, so that its row is made again."""
        self._record(stage, key).unlink(missing_ok=True)
        self._attempts(stage, key).unlink(missing_ok=True)

    def blob(self, name: str) -> bytes:
        """The bytes of a blob named in a record."""
        return self._blob(name).read_bytes()

    def on_disk(self, name: str) -> Blob:
        """The same, not read yet."""
        return Blob(self._blob(name))

    def _whole(self, name: str) -> bool:
        try:
            return hashlib.sha256(self.blob(name)).hexdigest() == Path(name).stem
        except FileNotFoundError:
            return False

    def _attempts(self, stage: str, key: str) -> Path:
        return self.root / "attempts" / stage / key

    def begin_attempt(self, stage: str, key: str, run_id: str, limit: int) -> int | None:
        """Count an attempt on disk before it is made, so that one that kills its worker is seen.

        Args:
            stage: name of the stage.
            key: the row's key.
            run_id: names this build; what killed an earlier build whole is not this row's fault, up to a point.
            limit: attempts that one build may make.

        Returns:
            The number of this attempt within the build, from 1; None if there are no more.
        """
        path = self._attempts(stage, key)
        earlier = path.read_text().split() if path.exists() else []
        mine = earlier.count(run_id)
        if mine >= limit or len(earlier) >= ATTEMPTS_OVER_ALL_RUNS:
            return None
        write_durably(path, ("\n".join([*earlier, run_id]) + "\n").encode())
        return mine + 1

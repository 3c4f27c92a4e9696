"""Files that exist completely or not at all, also after a power cut; and bytes that are read only when needed."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Write a file completely or not at all: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full, read-only or gone; nothing is left behind under the final name.
    """
    _write(path, data, durable=True)
    sync(path.parent)


def write_completely(path: Path, data: bytes) -> None:
    """Write a file completely or not at all, as seen by this machine's processes, also if this one is killed.

    After a power cut the file may be missing or empty.

    Raises:
        OSError: as `write_durably`.
    """
    _write(path, data, durable=False)


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk does not say which file
        raise


def sync(path: Path) -> None:
    """Write a file, or the entries of a folder, to the disk, so that they outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Blob:
    """Bytes that stay on disk until they are read: the videos of a dataset are larger than memory.

    They are the bytes of `file` from `start` on.
    """

    file: Path
    start: int = 0

    def __len__(self) -> int:
        return self.file.stat().st_size - self.start

    def read(self) -> bytes:
        """Return all the bytes."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read()

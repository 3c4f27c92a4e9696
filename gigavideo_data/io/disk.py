"""Errors of writing large files, as on a full disk, with the name of the file, its size, and the free space."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from gigavideo_data.errors import RunError


@contextmanager
def writing(path: Path, num_bytes: int, advice: str, part: Path | None = None) -> Iterator[None]:
    """Translate an error of writing `path` into one that names it.

    Args:
        path: a file or folder that is being written.
        num_bytes: its size.
        advice: what has been kept, and what to do next.
        part: a temporary folder, which is removed after an error.

    Raises:
        RunError: it could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if part:
            shutil.rmtree(part, ignore_errors=True)
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(
            f"{path}: cannot be written ({why}): it takes {num_bytes} bytes, the disk has {_free_bytes(path)} left. "
            f"{advice}"
        ) from error


def _free_bytes(path: Path) -> int:
    """Free bytes of the disk of a path, which need not exist."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free

"""Large files written where the disk may be full: what could not be written is said with file and bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from gigavideo_data.errors import RunError


@contextmanager
def writing(path: Path, num_bytes: int, after: str, part: Path | None = None) -> Iterator[None]:
    """Turn what goes wrong while a file or folder is written into an error that names it.

    Args:
        path: what is written.
        num_bytes: that it takes.
        after: what is left, and what to do once there is room.
        part: folder that holds what has been written so far; it is removed.

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
            f"{path}: cannot be written ({why}): it takes {num_bytes} bytes, the disk has {_free(path)} left. {after}"
        ) from error


def _free(path: Path) -> int:
    """Free bytes of the disk that a path is on, whether it is there or not."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free

"""Sums of files. A file is read once per process and sum, as long as it does not change."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_SHA1 = re.compile(r"[0-9a-f]{40}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    return _sum_of(path, "sha256")


def is_damaged(path: Path) -> bool:
    """Whether a file of the Hub client's cache differs from what was downloaded.

    The cache links to files that are named by their sum: SHA-256, or for small ones git's SHA-1. A file that is no link
    to such a name cannot be compared and counts as undamaged.
    """
    name = path.readlink().name if path.is_symlink() else ""
    if SHA256.fullmatch(name):
        return _sum_of(path, "sha256") != name
    if GIT_SHA1.fullmatch(name):
        return _sum_of(path, "git") != name
    return False


def _sum_of(path: Path, kind: str) -> str:
    stat = path.stat()
    return _computed(path.resolve(), kind, stat.st_ino, stat.st_size, stat.st_ctime_ns)


@lru_cache(maxsize=100_000)
def _computed(path: Path, kind: str, inode: int, size: int, changed_ns: int) -> str:  # noqa: ARG001 inode and time: key
    with path.open("rb") as file:
        if kind == "sha256":
            return hashlib.file_digest(file, "sha256").hexdigest()
        start = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return hashlib.file_digest(file, lambda: start).hexdigest()

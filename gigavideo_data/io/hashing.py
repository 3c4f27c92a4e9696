"""Hashes: of JSON values, which name what decides a result, and of files, which are read once per process.

key = content_key({"prompt": "a ball falls", "seed": 3});  sha256_of(Path("data/train-00000-of-00001.parquet"))
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_SHA1 = re.compile(r"[0-9a-f]{40}")


def canonical(value: Any, *, ascii_only: bool = False) -> bytes:
    """The JSON text of a value in one spelling, as UTF-8: sorted keys, no spaces.

    `ascii_only` escapes other letters; ids of rows are hashes of this form.

    Raises:
        ValueError: the value holds NaN or infinity, or text that is not UTF-8.
        TypeError: it is no JSON value.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=ascii_only)
    return text.encode()


def pretty_json(value: Mapping[str, Any]) -> str:
    """The JSON text of a value for people: sorted keys, indented, with a newline at the end."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def content_key(value: Any, *, ascii_only: bool = False) -> str:
    """SHA-256 (32 hexadecimal digits) of the canonical JSON of everything that decides a result."""
    return hashlib.sha256(canonical(value, ascii_only=ascii_only)).hexdigest()[:32]


def fraction_of(value: Any) -> float:
    """A number in [0, 1) that depends on a JSON value alone."""
    return int(content_key(value)[:8], 16) / 2**32


def seed_of(value: Any) -> int:
    """A seed in [0, 2**31) that depends on a JSON value alone."""
    return int(content_key(value)[:8], 16) >> 1


def digest_of(text: str) -> bytes:
    """The first 16 bytes of SHA-256 of a text, which stand for the text in a set."""
    return hashlib.sha256(text.encode()).digest()[:16]


def sha256_of(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes; a file that does not change is read once per process.

    Raises:
        OSError: it cannot be read.
    """
    return _sum_of(path, "sha256")


def blob_id_of(path: Path) -> str:
    """The id (hexadecimal SHA-1) by which git and the Hub identify a small file; read once, as `sha256_of`.

    Raises:
        OSError: it cannot be read.
    """
    return _sum_of(path, "git")


def is_damaged(path: Path) -> bool:
    """Whether a file of the Hub client's cache differs from what was downloaded.

    The cache links to files that are named by their sum: SHA-256, or for small ones git's SHA-1. A file that is no link
    to such a name cannot be compared and counts as undamaged.
    """
    name = path.readlink().name if path.is_symlink() else ""
    if SHA256.fullmatch(name):
        return sha256_of(path) != name
    if GIT_SHA1.fullmatch(name):
        return blob_id_of(path) != name
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

"""Versions of a published dataset: the next version follows from what changed. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from gigavideo_data.errors import RecipeError

TAG = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
FIRST = "v1.0.0"
# Columns that may differ between versions without counting as a changed row.
PROVENANCE = ("video", "source_file", "recipe")


@dataclass(frozen=True)
class Changes:
    """Numbers of rows added, removed and changed between two versions."""

    added: int
    removed: int
    changed: int

    def __str__(self) -> str:
        parts = [f"{number} rows {what}" for what, number in asdict(self).items() if number]
        return ", ".join(parts) or "no row changed"


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> Changes:
    """Compare two versions, each a mapping from row id to a hash of the row."""
    shared = old.keys() & new.keys()
    return Changes(
        added=len(new.keys() - old.keys()),
        removed=len(old.keys() - new.keys()),
        changed=sum(old[name] != new[name] for name in shared),
    )


def newest(tags: Iterable[str]) -> str | None:
    """The highest version among the tags; tags that are no versions are ignored."""
    versions = [match.groups() for tag in tags if (match := TAG.fullmatch(tag))]
    if not versions:
        return None
    return "v" + ".".join(map(str, max(tuple(map(int, parts)) for parts in versions)))


def next_version(tags: Iterable[str], found: Changes) -> str:
    """The next version: major if existing rows were changed or removed, minor if rows were added, else patch."""
    last = newest(tags)
    if last is None:
        return FIRST
    major, minor, patch = map(int, last[1:].split("."))
    if found.removed or found.changed:
        return f"v{major + 1}.0.0"
    return f"v{major}.{minor + 1}.0" if found.added else f"v{major}.{minor}.{patch + 1}"


def validate_tag(tag: str) -> None:
    """Check that a tag is a version.

    Raises:
        RecipeError: it is not.
    """
    if not TAG.fullmatch(tag):
        raise RecipeError(f"--tag {tag}: a version must look like {FIRST}")

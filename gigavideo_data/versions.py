"""Versions of a published set: what the next one is called, by what changed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gigavideo_data.errors import RecipeError

TAG = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
FIRST = "v1.0.0"
# Of a row, what may differ between versions without its values being others.
PROVENANCE = ("video", "source_file", "recipe")


@dataclass(frozen=True)
class Changes:
    """How many rows are new, gone, and of another value."""

    added: int
    removed: int
    changed: int

    def __str__(self) -> str:
        told = [f"{number} rows {what}" for what, number in self._numbers if number]
        return ", ".join(told) or "no row changed"

    @property
    def _numbers(self) -> tuple[tuple[str, int], ...]:
        return ("added", self.added), ("removed", self.removed), ("changed", self.changed)


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> Changes:
    """Compare two sets by the sums of their rows, by id."""
    shared = old.keys() & new.keys()
    return Changes(
        added=len(new.keys() - old.keys()),
        removed=len(old.keys() - new.keys()),
        changed=sum(old[name] != new[name] for name in shared),
    )


def newest(tags: Iterable[str]) -> str | None:
    """The highest version among the tags; others are not looked at."""
    versions = [match.groups() for tag in tags if (match := TAG.fullmatch(tag))]
    if not versions:
        return None
    return "v" + ".".join(map(str, max(tuple(map(int, parts)) for parts in versions)))


def proposed(tags: Iterable[str], found: Changes) -> str:
    """The next version: major if values or rows of known ids changed, minor if rows came, else patch."""
    last = newest(tags)
    if last is None:
        return FIRST
    major, minor, patch = map(int, last[1:].split("."))
    if found.removed or found.changed:
        return f"v{major + 1}.0.0"
    return f"v{major}.{minor + 1}.0" if found.added else f"v{major}.{minor}.{patch + 1}"


def checked(tag: str) -> str:
    """The tag, if it is a version.

    Raises:
        RecipeError: it is not.
    """
    if not TAG.fullmatch(tag):
        raise RecipeError(f"--tag {tag}: a version looks like {FIRST}")
    return tag

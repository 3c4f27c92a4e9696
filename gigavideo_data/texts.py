"""What counts as a prompt: text that shows something."""

from __future__ import annotations


def flaw_of(text: str) -> str | None:
    """Why a text cannot be a prompt; None if it can."""
    if "\0" in text:
        return "has a NUL character"
    if not any(character.isprintable() and not character.isspace() for character in text):
        return "is empty" if not text else "is blank"
    return None

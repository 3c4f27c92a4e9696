"""The rule for a valid prompt: text with at least one visible character."""

from __future__ import annotations


def flaw_of(text: str) -> str | None:
    """Why a text is no valid prompt; None if it is valid."""
    if "\0" in text:
        return "has a NUL character"
    if not any(character.isprintable() and not character.isspace() for character in text):
        return "is empty" if not text else "is blank"
    return None

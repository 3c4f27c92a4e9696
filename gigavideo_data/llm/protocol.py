"""What every text model is: a thing that completes a conversation in a given form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[str, str]  # role and content


@dataclass(frozen=True)
class Completion:
    """A model's text, and the tokens that it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class TextModel(Protocol):
    """Loaded once per worker; several threads may ask at once."""

    def complete(self, messages: list[Message], schema: dict[str, Any], seed: int) -> Completion:
        """Complete a conversation with JSON after a schema.

        Raises:
            RunError: the model cannot be reached or refuses every request: no row would fare better.
            TimeoutError: it was too busy for this one.
        """
        ...

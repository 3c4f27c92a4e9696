"""The protocols of text models, and of the writers that use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[str, str]  # role and content


@dataclass(frozen=True)
class Completion:
    """A model's text, and the number of tokens of prompt and completion."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class TextModel(Protocol):
    """A text model is loaded once per worker; several threads may call it in parallel."""

    def complete(self, messages: list[Message], schema: dict[str, Any], seed: int) -> Completion:
        """Complete a conversation with JSON that follows a JSON schema.

        Raises:
            RowError: the model refused this conversation.
            TimeoutError: it was too busy; the row is tried again.
            RunError: it cannot be reached or refuses every request; the run stops.
        """
        ...


class QuestionWriter(Protocol):
    """Writes the questions on a prompt.

    Attributes:
        both_answers: whether "yes" and "no" must both be expected among the questions of one prompt. Where only one is,
            a judge that leans to it gives high rewards to every video.
    """

    both_answers: bool

    def questions(self, prompt: str, dimension: str, **details: Any) -> dict[str, Any]:
        """Write questions on what a prompt states of a dimension.

        Args:
            prompt: text of the video.
            dimension: its name.
            details: `about`, the definition of the dimension.

        Returns:
            `questions`, a list of mappings: `question`, `expected` ("yes" or "no"), `gate`, and `negated`, the negated
            question. It is empty where the prompt states nothing of the dimension. `tokens` where a model was asked.

        Raises:
            RowError: no usable questions could be written.
        """
        ...


class PromptWriter(QuestionWriter, Protocol):
    """Writes base prompts and their long form too."""

    def prompts(self, dimension: str, count: int, seed: int, split: str, **details: Any) -> dict[str, Any]:
        """Write up to `count` different base prompts for a dimension.

        Args:
            dimension: its name.
            count: number of prompts.
            seed: of the recipe.
            split: train, dev or test.
            details: `about`, the definition and seeds of the dimension, and the recipe's `rules`.

        Returns:
            `prompts` (each with its `objects`), `dropped` (prompt and reason), and `tokens` where a model was asked.

        Raises:
            RowError: no usable prompt could be written.
        """
        ...

    def extend(self, prompt: str, variant: int, seed: int, **details: Any) -> dict[str, Any]:
        """Write the long form of a base prompt.

        Args:
            prompt: the base prompt.
            variant: number of the variant; variants differ in style.
            seed: of the recipe.
            details: the `objects` that the prompt names, and the model `family` that it is written for.

        Returns:
            `prompt`, and `tokens` where a model was asked.

        Raises:
            RowError: the long form lost facts of the prompt.
        """
        ...

"""The protocols of text models, and of the writers that use them."""

from __future__ import annotations

from collections.abc import Sequence
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


class PromptWriter(Protocol):
    """Writes base prompts, their long form, and the questions on them. Records are JSON values.

    Attributes:
        both_answers: whether "yes" and "no" must both be expected among the questions of one prompt. Where only one is,
            a judge that leans to it gives high rewards to every video.
    """

    both_answers: bool

    def prompts(
        self,
        *,
        dimension: str,
        about: dict[str, Any],
        rules: dict[str, Any],
        count: int,
        seed: int,
        split: str,
        used: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Write up to `count` different base prompts for a dimension, those that are new first.

        Args:
            dimension: its name.
            about: its definition and seeds.
            rules: of the recipe: `per_call`, the number of prompts in one call; `likeness`, the similarity from which
                a prompt is dropped as a near duplicate, or None; `sift`, whether impossible prompts are dropped.
            count: number of prompts.
            seed: of the recipe.
            split: train, dev or test.
            used: prompts of earlier datasets, taken only where the writer has no others left; their order does not
                matter.

        Returns:
            `prompts` (each with its `objects`), `dropped` (prompt and reason), and `tokens` where a model was asked.

        Raises:
            RowError: no usable prompt could be written.
        """
        ...

    def extend(
        self,
        *,
        prompt: str,
        objects: list[str],
        variant: int,
        family: str,
        seed: int,
        about: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the long form of a base prompt.

        Args:
            prompt: the base prompt.
            objects: that the prompt names, and the long form must name too.
            variant: number of the variant, 0 for the plain form; variants differ in what the prompt leaves open.
            family: of models, whose style of prompts is used.
            seed: of the recipe.
            about: of a variant, the definition of the dimension that the prompt was written for, which it must keep.

        Returns:
            `prompt`, and `tokens` where a model was asked.

        Raises:
            RowError: the long form lost facts of the prompt.
        """
        ...

    def questions(self, *, prompt: str, dimension: str, about: dict[str, Any]) -> dict[str, Any]:
        """Write questions on what a prompt states of a dimension.

        Args:
            prompt: text of the video.
            dimension: its name.
            about: its definition.

        Returns:
            `questions`, a list of mappings: `question`, `expected` ("yes" or "no"), `gate`, and `negated`, the negated
            question. It is empty where the prompt states nothing of the dimension. `tokens` where a model was asked.

        Raises:
            RowError: no usable questions could be written.
        """
        ...


class SpecialistQuestions(Protocol):
    """Writes the questions that a specialist judge can answer, by rules; see `PromptWriter`."""

    both_answers: bool

    def questions(self, *, prompt: str, dimension: str) -> dict[str, Any]:
        """Write questions on what a base prompt states of the specialist's dimension, as `PromptWriter.questions`."""
        ...


QuestionWriter = PromptWriter | SpecialistQuestions

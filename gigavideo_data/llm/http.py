"""A text model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Any

from gigavideo_data.llm.endpoint import client_of, told_apart
from gigavideo_data.llm.protocol import Completion, Message


class HttpModel:
    """One model of one endpoint."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Prepare the client.

        Args:
            engine: model, temperature and max_tokens; `endpoint`, its base URL.
        """
        self.settings = engine
        self.client = client_of(engine["endpoint"])

    def complete(self, messages: list[Message], schema: dict[str, Any], seed: int) -> Completion:
        """Complete a conversation with JSON after a schema.

        Raises:
            RowError, TimeoutError, RunError: see `told_apart`.
        """
        form: Any = {"type": "json_schema", "json_schema": {"name": schema["title"], "schema": schema, "strict": True}}
        said: Any = messages
        with told_apart(self.settings["model"]):
            response = self.client.chat.completions.create(
                model=self.settings["model"],
                messages=said,
                response_format=form,
                temperature=self.settings["temperature"],
                max_tokens=self.settings["max_tokens"],
                seed=seed,
            )
        usage = response.usage
        text = response.choices[0].message.content if response.choices else None
        return Completion(text or "", usage.prompt_tokens if usage else 0, usage.completion_tokens if usage else 0)

"""A text model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Any

from gigavideo_data.models.llm.base import Completion, Message
from gigavideo_data.models.llm.openai_client import Endpoint


class HttpModel:
    """One model of one endpoint (see `TextModel`)."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Take model, temperature, max_tokens and endpoint (a base URL) from `engine`."""
        self.settings = engine
        self.endpoint = Endpoint(engine["endpoint"], engine["model"], "writer")

    def complete(self, messages: list[Message], schema: dict[str, Any], seed: int) -> Completion:
        """Complete a conversation with JSON that follows a JSON schema.

        Raises:
            RowError, TimeoutError, RunError: see `Endpoint.chat`.
        """
        json_schema = {"name": schema["title"], "schema": schema, "strict": True}
        response_format: Any = {"type": "json_schema", "json_schema": json_schema}
        response = self.endpoint.chat(
            messages,
            response_format=response_format,
            temperature=self.settings["temperature"],
            max_tokens=self.settings["max_tokens"],
            seed=seed,
        )
        usage = response.usage
        prompt_tokens, completion_tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Completion(response.choices[0].message.content or "", prompt_tokens or 0, completion_tokens or 0)

"""A text model in this process, by vLLM; many conversations at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gigavideo_data.models.llm.base import Completion, Message
from gigavideo_data.models.llm.batcher import DynamicBatcher
from gigavideo_data.models.llm.vllm_engine import load, translate_errors

MAX_CONVERSATIONS = 64  # in one batch
# Without free whitespace: a model that may pad with blanks can do so until its tokens are used up.
STRUCTURED_OUTPUTS = {"backend": "xgrammar", "disable_any_whitespace": True}

Request = tuple[list[Message], dict[str, Any], int]


class VllmModel:
    """One model with its own chat template (see `TextModel`)."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Load it; `engine` has temperature, max_tokens, and what `vllm_engine.load` needs."""
        self.settings = engine
        self.batcher: DynamicBatcher[Request, Any] = DynamicBatcher(self._load, MAX_CONVERSATIONS)

    def complete(self, messages: list[Message], schema: dict[str, Any], seed: int) -> Completion:
        """Complete a conversation with JSON that follows a JSON schema.

        Raises:
            RowError, RunError: see `translate_errors`.
        """
        output = self.batcher.submit((messages, schema, seed))
        (completion,) = output.outputs
        return Completion(completion.text, len(output.prompt_token_ids), len(completion.token_ids))

    def _load(self) -> Callable[[list[Request]], list[Any]]:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        llm = load(self.settings, structured_outputs_config=STRUCTURED_OUTPUTS)

        def answer(batch: list[Request]) -> list[Any]:
            sampling = [
                SamplingParams(
                    temperature=self.settings["temperature"],
                    max_tokens=self.settings["max_tokens"],
                    seed=seed,
                    structured_outputs=StructuredOutputsParams(json=schema),
                )
                for _, schema, seed in batch
            ]
            with translate_errors():
                outputs: list[Any] = llm.chat([messages for messages, _, _ in batch], sampling, use_tqdm=False)
            return outputs

        return answer

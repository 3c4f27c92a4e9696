"""A text model in this process, by vLLM; many conversations at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gigavideo_data.llm.in_process import load, told_apart
from gigavideo_data.llm.protocol import Completion, Message
from gigavideo_data.llm.together import Together

AT_ONCE = 64  # conversations
# In the form's own places only: a model that may pad with blanks can do so until its tokens are used up.
FORM = {"backend": "xgrammar", "disable_any_whitespace": True}

Asked = tuple[list[Message], dict[str, Any], int]


class VllmModel:
    """One model, in its own chat template."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Load it.

        Args:
            engine: temperature and max_tokens; for the rest see `in_process.load`.
        """
        self.settings = engine
        self.together: Together[Asked, Any] = Together(self._load, AT_ONCE)

    def complete(self, messages: list[Message], schema: dict[str, Any], seed: int) -> Completion:
        """Complete a conversation with JSON after a schema.

        Raises:
            RowError, RunError: see `told_apart`.
        """
        output = self.together.ask((messages, schema, seed))
        (made,) = output.outputs
        return Completion(made.text, len(output.prompt_token_ids), len(made.token_ids))

    def _load(self) -> Callable[[list[Asked]], list[Any]]:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        llm = load(self.settings, structured_outputs_config=FORM)

        def answer(batch: list[Asked]) -> list[Any]:
            wishes = [
                SamplingParams(
                    temperature=self.settings["temperature"],
                    max_tokens=self.settings["max_tokens"],
                    seed=seed,
                    structured_outputs=StructuredOutputsParams(json=schema),
                )
                for _, schema, seed in batch
            ]
            with told_apart():
                outputs: list[Any] = llm.chat([messages for messages, _, _ in batch], wishes, use_tqdm=False)
            return outputs

        return answer

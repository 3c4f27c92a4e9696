"""A language model as the writer of base prompts, extensions and questions.

Its answers follow a JSON schema and further rules (see `prompts`, `extension`, `questions`). An answer that breaks them
is sent back once with the reason. If the second answer breaks them too, the row is rejected with the reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gigavideo_data.dataset.prompt_text import flaw_of
from gigavideo_data.errors import RowError
from gigavideo_data.io.hashing import content_key
from gigavideo_data.models.llm.base import Completion, Message, TextModel
from gigavideo_data.models.llm.templates import extension, prompts, questions
from gigavideo_data.models.llm.templates.prompts import Draft
from gigavideo_data.models.spec import EngineSpec, loaded_from
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.recipe import Writer

MODELS = {
    "http": ("gigavideo_data.models.llm.http_model", "HttpModel"),
    "vllm": ("gigavideo_data.models.llm.vllm_model", "VllmModel"),
}
TEMPLATES = content_key(
    [
        prompts.WRITE,
        prompts.MORE,
        prompts.USED,
        prompts.FILTER,
        extension.EXTEND,
        [*extension.VARIANTS.values()],
        extension.TESTED,
        extension.KEPT,
        questions.ASK,
    ]
)[:8]
FILTER_BATCH = 50  # prompts in one call that asks which are impossible
EMPTY_CALLS = 3  # calls in a row without a new prompt, after which no more are asked for

Form = TypeVar("Form", bound=BaseModel)


def served(writer: Writer) -> EngineSpec:
    """The spec of a writer behind an endpoint; its revision is not known."""
    identity = writer.model_dump(mode="json", exclude={"endpoint", "revision", "vllm"}) | {"templates": TEMPLATES}
    return EngineSpec(identity, {"endpoint": writer.endpoint})


def loaded(writer: Writer) -> EngineSpec:
    """The spec of a writer that vLLM runs in the workers."""
    identity = writer.model_dump(mode="json", exclude={"endpoint", "vllm"}) | {"templates": TEMPLATES}
    spec = loaded_from(writer.model, identity)
    return EngineSpec(spec.identity, spec.location | {"vllm": writer.vllm.model_dump()})


class LanguageWriter:
    """Writes with any text model (see `PromptWriter`)."""

    both_answers = True

    def __init__(self, engine: dict[str, Any], model: TextModel | None = None) -> None:
        """Load the model that `engine["backend"]` names, unless one is given."""
        if model is None:
            module, name = MODELS[engine["backend"]]
            model = getattr(importlib.import_module(module), name)(engine)
        self.model: TextModel = model

    def prompts(
        self,
        dimension: str,
        about: dict[str, Any],
        rules: dict[str, Any],
        count: int,
        seed: int,
        split: str,
        used: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Write base prompts until there are `count`, or the model writes no new ones (see `PromptWriter`).

        The model sees the used prompts among those that it must not repeat. Used ones fill up the list at the end.

        Raises:
            RowError: no call returned drafts in the right form.
        """
        conversation = _Conversation(self.model, seed, dimension, split)
        accepted: list[Draft] = []
        known = sorted(used, key=lambda text: content_key([seed, text]))
        seen = prompts.Seen(rules["likeness"], known)
        dropped: list[dict[str, str]] = []
        num_empty = 0
        while len(accepted) < count and num_empty < EMPTY_CALLS:
            num_requested = min(rules["per_call"], count - len(accepted))
            messages = prompts.ask(about, num_requested, [*known, *(draft.prompt for draft in accepted)])
            try:
                drafts = conversation.ask(messages, prompts.Drafts, lambda _: []).prompts
            except RowError:  # one bad call does not lose the prompts of the others
                num_empty += 1
                if not accepted and num_empty == EMPTY_CALLS:
                    raise
                continue
            fresh = []
            for draft in drafts:
                reason = prompts.flaw(draft) or seen.double(draft.prompt)
                if reason:
                    dropped.append({"prompt": draft.prompt, "reason": reason})
                else:
                    fresh.append(draft)
                    seen.add(draft.prompt)
            if rules["sift"]:
                fresh, impossible = self._drop_impossible(conversation, about, fresh)
                dropped += [{"prompt": draft.prompt, "reason": Reason.IMPOSSIBLE} for draft in impossible]
            num_empty = 0 if fresh else num_empty + 1
            accepted += fresh[: count - len(accepted)]
        records = [draft.model_dump() for draft in accepted]
        records += [{"prompt": text, "objects": []} for text in known[: count - len(accepted)]]
        return {"prompts": records, "dropped": dropped, "tokens": conversation.tokens}

    def extend(
        self,
        prompt: str,
        objects: list[str],
        variant: int,
        family: str,
        seed: int,
        about: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the long form of a base prompt; of a variant, the model is asked what it lost of the dimension.

        Raises:
            RowError: facts of the prompt were lost twice.
        """
        conversation = _Conversation(self.model, seed, prompt, variant)
        definition = about["definition"] if about and extension.change_of(variant) else ""

        def flaws(answer: extension.Extended) -> list[str]:
            if flaw := flaw_of(answer.prompt):
                return [f"the prompt {flaw}"]
            lost = extension.lost_facts(prompt, answer.prompt, objects)
            if definition and not lost:
                lost = extension.lost_words(prompt, answer.prompt)
            if definition and not lost:
                messages = extension.ask_lost(prompt, answer.prompt, definition)
                lost = conversation.ask(messages, extension.Lost, lambda _: []).lost
            return [f"the extension lost {' and '.join(lost)}"] if lost else []

        messages = extension.ask(prompt, family, variant, definition)
        extended = conversation.ask(messages, extension.Extended, flaws, Reason.LOST_FACTS)
        return {"prompt": " ".join(extended.prompt.split()), "tokens": conversation.tokens}

    def questions(self, prompt: str, dimension: str, about: dict[str, Any]) -> dict[str, Any]:
        """Write the questions on a prompt; none if it does not show the dimension.

        Raises:
            RowError: the questions broke the rules twice.
        """
        conversation = _Conversation(self.model, 0, prompt, dimension)
        answer = conversation.ask(
            questions.ask(prompt, about),
            questions.Questions,
            lambda written: questions.flaws(written.questions, about["combine"]),
            Reason.BAD_QUESTIONS,
        )
        return {"questions": [question.model_dump() for question in answer.questions], "tokens": conversation.tokens}

    @staticmethod
    def _drop_impossible(
        conversation: _Conversation, about: dict[str, Any], drafts: list[Draft]
    ) -> tuple[list[Draft], list[Draft]]:
        """The drafts that a video can show, and those that none can."""
        possible: list[Draft] = []
        impossible: list[Draft] = []
        for start in range(0, len(drafts), FILTER_BATCH):
            batch = drafts[start : start + FILTER_BATCH]
            messages = prompts.ask_possible(about, [draft.prompt for draft in batch])
            numbers = set(conversation.ask(messages, prompts.Verdicts, lambda _: []).impossible)
            for number, draft in enumerate(batch, 1):
                (impossible if number in numbers else possible).append(draft)
        return possible, impossible


class _Conversation:
    """The calls of one row: their seeds, their tokens, and one retry each."""

    def __init__(self, model: TextModel, *names: object) -> None:
        self.model, self.names = model, names
        self.tokens = {"prompt": 0, "completion": 0}
        self.calls = 0

    def ask(
        self,
        messages: list[Message],
        form: type[Form],
        flaws: Callable[[Form], Sequence[str]],
        reason: Reason = Reason.BAD_ANSWER,
    ) -> Form:
        """An answer in the given form and without flaws, at the second attempt at the latest.

        Raises:
            RowError: with `reason`, or bad_form where the answer is not in the form.
        """
        for last in (False, True):
            completion = self._complete(messages, form)
            try:
                answer = form.model_validate_json(completion.text)
                problem, kind = "; ".join(flaws(answer)), reason
            except ValidationError as error:
                problem, kind = _first(error), Reason.BAD_FORM
            if not problem:
                return answer
            if last:
                raise RowError(kind, problem)
            messages = [
                *messages,
                {"role": "assistant", "content": completion.text},
                {"role": "user", "content": f"That cannot be used: {problem}. Answer once more, in the same form."},
            ]
        raise AssertionError("the loop returns or raises")

    def _complete(self, messages: list[Message], form: type[BaseModel]) -> Completion:
        self.calls += 1
        seed = int(content_key([*self.names, self.calls])[:8], 16) >> 1
        completion = self.model.complete(messages, form.model_json_schema(), seed)
        self.tokens["prompt"] += completion.prompt_tokens
        self.tokens["completion"] += completion.completion_tokens
        return completion


def _first(error: ValidationError) -> str:
    mistake = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in mistake["loc"])
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]

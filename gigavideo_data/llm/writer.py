"""A language model as the writer of base prompts, extensions and questions.

What it writes has a form (a JSON schema) and rules (see `prompts`, `extension`, `questions`). What breaks them is sent
back once with the reason; a second time, and the row is rejected with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gigavideo_data import extension, prompts, questions
from gigavideo_data.errors import RowError
from gigavideo_data.hashing import content_key
from gigavideo_data.llm.protocol import Completion, Message, TextModel
from gigavideo_data.prompts import Draft
from gigavideo_data.reasons import Reason
from gigavideo_data.texts import flaw_of

MODELS = {"http": ("gigavideo_data.llm.http", "HttpModel"), "vllm": ("gigavideo_data.llm.vllm", "VllmModel")}
TEMPLATES = content_key(
    [prompts.WRITE, prompts.MORE, prompts.USED, prompts.SIFT, extension.EXTEND, extension.VARIANTS, questions.ASK]
)[:8]
SIFTED = 50  # prompts looked through in one call
EMPTY_CALLS = 3  # calls in a row that bring nothing new, then the writer has run out of ideas

Shape = TypeVar("Shape", bound=BaseModel)


class LanguageWriter:
    """Writes with any text model; see `pipeline` for when."""

    both_answers = True

    def __init__(self, engine: dict[str, Any], model: TextModel | None = None) -> None:
        """Load the model that `engine["backend"]` names, unless one is given."""
        if model is None:
            module, name = MODELS[engine["backend"]]
            model = getattr(importlib.import_module(module), name)(engine)
        self.model: TextModel = model

    def prompts(
        self, dimension: str, about: dict[str, Any], rules: dict[str, Any], count: int, seed: int, split: str
    ) -> dict[str, Any]:
        """Write base prompts until there are `count`, or the model brings nothing new.

        Args:
            dimension: its name.
            about: its definition and seeds.
            rules: per_call, how many to ask for at once; likeness, drafts so like another one fall, or None; sift,
                whether impossible ones are looked for.
            count: how many.
            seed: of the recipe.
            split: train, dev or test.

        Returns:
            `prompts` (each with its objects), `dropped` (prompt and reason: see `prompts.flaw`; duplicate,
            near_duplicate, impossible) and `tokens`.

        Raises:
            RowError: not one call brought anything of the right form.
        """
        asking = _Asking(self.model, seed, dimension, split)
        found: list[Draft] = []
        seen = prompts.Seen(rules["likeness"])
        dropped: list[dict[str, str]] = []
        without = 0
        while len(found) < count and without < EMPTY_CALLS:
            wanted = min(rules["per_call"], count - len(found))
            messages = prompts.ask(about, wanted, [draft.prompt for draft in found])
            try:
                drafts = asking.ask(messages, prompts.Drafts, lambda _: []).prompts
            except RowError:  # one bad call does not lose the list
                without += 1
                if not found and without == EMPTY_CALLS:
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
                fresh, impossible = self._sift(asking, about, fresh)
                dropped += [{"prompt": draft.prompt, "reason": Reason.IMPOSSIBLE} for draft in impossible]
            without = 0 if fresh else without + 1
            found += fresh[: count - len(found)]
        written = [draft.model_dump() for draft in found]
        return {"prompts": written, "dropped": dropped, "tokens": asking.tokens}

    def extend(self, prompt: str, objects: list[str], variant: int, family: str, seed: int) -> dict[str, Any]:
        """Write the long form of a base prompt.

        Raises:
            RowError: facts of the prompt were lost twice.
        """
        asking = _Asking(self.model, seed, prompt, variant)

        def flaws(answer: extension.Extended) -> list[str]:
            if flaw := flaw_of(answer.prompt):
                return [f"the prompt {flaw}"]
            lost = extension.lost_facts(prompt, answer.prompt, objects)
            return [f"the extension lost {' and '.join(lost)}"] if lost else []

        extended = asking.ask(extension.ask(prompt, family, variant), extension.Extended, flaws, Reason.LOST_FACTS)
        return {"prompt": " ".join(extended.prompt.split()), "tokens": asking.tokens}

    def questions(self, prompt: str, dimension: str, about: dict[str, Any]) -> dict[str, Any]:
        """Write the questions on a prompt; none if it does not show the dimension.

        Raises:
            RowError: the questions broke the rules twice.
        """
        asking = _Asking(self.model, 0, prompt, dimension)
        asked = asking.ask(
            questions.ask(prompt, about),
            questions.Questions,
            lambda answer: questions.flaws(answer.questions, about["combine"]),
            Reason.BAD_QUESTIONS,
        )
        return {"questions": [question.model_dump() for question in asked.questions], "tokens": asking.tokens}

    def _sift(self, asking: _Asking, about: dict[str, Any], drafts: list[Draft]) -> tuple[list[Draft], list[Draft]]:
        """Those that can be shown, and those that cannot."""
        good: list[Draft] = []
        bad: list[Draft] = []
        for start in range(0, len(drafts), SIFTED):
            some = drafts[start : start + SIFTED]
            messages = prompts.ask_possible(about, [draft.prompt for draft in some])
            impossible = set(asking.ask(messages, prompts.Verdicts, lambda _: []).impossible)
            for number, draft in enumerate(some, 1):
                (bad if number in impossible else good).append(draft)
        return good, bad


class _Asking:
    """One row's conversation with the model: its seeds, its tokens, and one second chance per question."""

    def __init__(self, model: TextModel, *names: object) -> None:
        self.model, self.names = model, names
        self.tokens = {"prompt": 0, "completion": 0}
        self.calls = 0

    def ask(
        self,
        messages: list[Message],
        shape: type[Shape],
        flaws: Callable[[Shape], Sequence[str]],
        reason: Reason = Reason.BAD_ANSWER,
    ) -> Shape:
        """An answer of a shape without flaws, at the second attempt at the latest.

        Raises:
            RowError: with `reason`, or bad_form where the shape itself was wrong.
        """
        for last in (False, True):
            completion = self._complete(messages, shape)
            try:
                answer = shape.model_validate_json(completion.text)
                wrong, why = "; ".join(flaws(answer)), reason
            except ValidationError as error:
                wrong, why = _first(error), Reason.BAD_FORM
            if not wrong:
                return answer
            if last:
                raise RowError(why, wrong)
            messages = [
                *messages,
                {"role": "assistant", "content": completion.text},
                {"role": "user", "content": f"That cannot be used: {wrong}. Answer once more, in the same form."},
            ]
        raise AssertionError("the loop returns or raises")

    def _complete(self, messages: list[Message], shape: type[BaseModel]) -> Completion:
        self.calls += 1
        seed = int(content_key([*self.names, self.calls])[:8], 16) >> 1
        completion = self.model.complete(messages, shape.model_json_schema(), seed)
        self.tokens["prompt"] += completion.prompt_tokens
        self.tokens["completion"] += completion.completion_tokens
        return completion


def _first(error: ValidationError) -> str:
    mistake = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in mistake["loc"])
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]

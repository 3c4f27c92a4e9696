"""Base prompts: the messages to a language model, and the checks of its drafts. Pure.

A draft lists the objects that it names, so that its extension can be checked for them. The similarity of two prompts is
that of rapidfuzz: the share of equal characters after their words are sorted, so that "a dog chases a cat" and "A cat,
chased by a dog" are similar.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field
from rapidfuzz import fuzz, process

from gigavideo_data.dataset.prompt_text import flaw_of
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.yaml_config import StrictModel

MAX_WORDS = 40
SHOWN_USED = 60  # the latest prompts so far that are shown to the model, which must not repeat them


class Draft(StrictModel):
    """One base prompt and the objects that it names, in its own words."""

    prompt: Annotated[str, Field(min_length=1, max_length=400)]
    objects: Annotated[list[str], Field(min_length=1, max_length=6)]


class Drafts(StrictModel):
    """A model's answer to `ask`."""

    prompts: Annotated[list[Draft], Field(min_length=1)]


class Verdicts(StrictModel):
    """A model's answer to `ask_possible`: the numbers of the prompts that cannot be filmed."""

    impossible: list[int]


WRITE = """You write prompts for text-to-video models. The prompts will test one ability:

{definition}

Examples, to show the kind and not to be repeated:
{seeds}

Rules:
- One English sentence per prompt, {max_words} words at most, concise and visual.
- A video of three to five seconds without sound can show it whole.
- Whether the ability is there must be visible: a model without it would show something else.
- Vary things, places, actors and actions. No two prompts may share both their thing and their action.
- No written words, no real persons, no brands.
- Name in "objects" the things of each prompt, word for word as they stand in it, one to six.
"""
MORE = "Write {count} new prompts."
USED = "These exist already; write nothing near them:\n{used}"
FILTER = """A camera has to film each of these prompts, or an animator has to draw it, in three to five seconds without
sound. The ability that they test:

{definition}

Strange mixtures and broken laws of nature are fine where that ability asks for them. Impossible is a prompt that
cannot be seen (thoughts, sounds, smells), needs more time, contradicts itself, or does not test the ability. Answer
with the numbers of the impossible ones; often there are none.

{numbered}
"""


def ask(about: dict[str, Any], count: int, used: Sequence[str]) -> list[dict[str, str]]:
    """Return messages that ask for base prompts.

    Args:
        about: definition and seeds of the dimension.
        count: the number of prompts.
        used: prompts that exist already.
    """
    seeds = "\n".join(f"- {seed}" for seed in about["seeds"])
    system = WRITE.format(definition=about["definition"].strip(), seeds=seeds, max_words=MAX_WORDS)
    request = MORE.format(count=count)
    if used:
        request += "\n\n" + USED.format(used="\n".join(f"- {text}" for text in used[-SHOWN_USED:]))
    return [{"role": "system", "content": system}, {"role": "user", "content": request}]


def ask_possible(about: dict[str, Any], prompts: Sequence[str]) -> list[dict[str, str]]:
    """Return messages that ask which of the prompts cannot be filmed, by number from 1."""
    numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(prompts, 1))
    return [{"role": "user", "content": FILTER.format(definition=about["definition"].strip(), numbered=numbered)}]


def flaw(draft: Draft) -> Reason | None:
    """Why a draft is rejected: bad_text, too_many_words, several_lines or objects_not_named; None if it is not."""
    if flaw_of(draft.prompt):
        return Reason.BAD_TEXT
    if len(draft.prompt.split()) > MAX_WORDS:
        return Reason.TOO_MANY_WORDS
    if len(draft.prompt.strip().splitlines()) != 1:
        return Reason.SEVERAL_LINES
    text = normalised(draft.prompt)
    if any(not normalised(thing) or f" {normalised(thing)} " not in f" {text} " for thing in draft.objects):
        return Reason.OBJECTS_NOT_NAMED
    return None


def normalised(text: str) -> str:
    """Return the words and digits in lower case with one space between them, so that spelling does not matter."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(re.findall(r"\w+(?:'\w+)?", plain))


class Seen:
    """The prompts so far; finds duplicates of them."""

    def __init__(self, threshold: float | None, texts: Iterable[str] = ()) -> None:
        """Start with some prompts.

        Args:
            threshold: similarity from 0 to 1 from which two prompts are near duplicates; None finds only equal ones.
            texts: the first prompts.
        """
        self.threshold = threshold
        self._plain: set[str] = set()
        self._sorted: list[str] = []  # prompts with sorted words
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a prompt."""
        plain = normalised(text)
        if plain not in self._plain:
            self._plain.add(plain)
            self._sorted.append(words_sorted(plain))

    def double(self, text: str) -> Reason | None:
        """Whether a prompt is a `duplicate` or `near_duplicate` of an earlier one; else None."""
        plain = normalised(text)
        if plain in self._plain:
            return Reason.DUPLICATE
        if self.threshold is None:
            return None
        near = process.extractOne(
            words_sorted(plain), self._sorted, scorer=fuzz.ratio, score_cutoff=self.threshold * 100
        )
        return Reason.NEAR_DUPLICATE if near else None


def words_sorted(plain: str) -> str:
    """The words of a normalised text in alphabetical order."""
    return " ".join(sorted(plain.split()))

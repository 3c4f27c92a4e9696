"""Prompt extension: the messages that ask a language model to extend a base prompt, and the check of the result. Pure.

A dimension tests facts: a number, an order, a camera move, an object. If an extension loses one, a correct video gets a
low score, so the words of the extension are searched for each fact.

A variant changes one property that the prompt leaves open. It must keep every word of the prompt that says something,
since one that it replaces (a coat, a run, a night) may be what the dimension tests. The model is asked too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from pydantic import Field

from gigavideo_data.models.llm.templates.prompts import normalised
from gigavideo_data.recipe.yaml_config import StrictModel


class Extended(StrictModel):
    """A model's answer to `ask`."""

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]


class Lost(StrictModel):
    """A model's answer to `ask_lost`: what the long form lost, one phrase each."""

    lost: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=10)]


@dataclass(frozen=True)
class Style:
    """The style of the prompts that a family of models was trained with: number of words (min, max), and content."""

    words: tuple[int, int]
    tells: str


# By family of the target model. Wan's own prompt extension asks for this content and length; the published examples of
# the others are similar, and shorter for LTX-Video, which expects one paragraph in the order of events.
STYLES = {
    "wan": Style(
        (60, 120),
        "the look of the main subjects (build, clothes, posture, expression), the visual style, where things are to"
        " each other, the size of the shot, and natural motion in simple direct verbs",
    ),
    "hunyuan": Style(
        (50, 110),
        "the main subject and its motion first, then the scene, then style, shot size, light and atmosphere",
    ),
    "cogvideox": Style(
        (60, 120),
        "the scene from the first moment to the last, subjects with their looks and motion, surroundings, light and"
        " mood",
    ),
    "ltx": Style(
        (50, 100),
        "the main action in the first sentence, then motions and gestures, looks, surroundings, camera angle, light and"
        " colours, as one flowing paragraph in the order in which they are seen",
    ),
}

# By the number of the variant: what it changes. The first adds nothing; then come the paper's three kinds.
VARIANTS = {
    "plain": "",
    "lighting": "Set it in another light: an hour of the day or a kind of lamp that the prompt does not suggest.",
    "motion type": "Let what moves do so in another manner, such as slower and heavier, or quick and light, with the"
    " same motions in the same order.",
    "character appearance": "Give the subjects another appearance where the prompt leaves it open: age, build, clothes"
    " or make, with the same kinds and numbers.",
    "visual style": "Choose another visual style: drawn, painted, modelled in clay, or filmed on old stock.",
    "surroundings": "Put it in other surroundings that leave every stated thing and motion as it is.",
}
TESTED = "The prompt tests this ability: {definition} Leave all that it states of it as it is."

EXTEND = """You extend short prompts for a text-to-video model into the long form that it was trained with.

- Tell {tells}.
- {low} to {high} English words, plain prose, one paragraph, no headings, no quotation marks around it.
- Every fact of the prompt stays as it is, in the same words where possible: things, their numbers, colours, what
  happens and in which order, how the camera moves. Add no further subject, motion or camera move of that kind.
- If the prompt says nothing of the camera, it stays still.
{variant}"""
KEPT = """A short prompt for a video was extended. The video will be tested for one ability:

{definition}

Short prompt: {prompt}
Long prompt: {extended}

Name what the short prompt states and the test depends on, but the long prompt leaves out, changes or contradicts:
things, their looks, numbers, motions and their order, relations, camera moves. Additions do not count. Often there is
nothing.
"""


def ask(prompt: str, family: str, variant: int, definition: str = "") -> list[dict[str, str]]:
    """Return messages that ask for the extension of a prompt.

    Args:
        prompt: the base prompt.
        family: of the target model, a key of `STYLES`.
        variant: its number, modulo that of `VARIANTS`; repeated variants differ only by their seed.
        definition: of the dimension that the prompt was written for, which a variant must not touch.
    """
    style = STYLES[family]
    low, high = style.words
    rules = [change_of(variant), TESTED.format(definition=definition.strip()) if definition else ""]
    lines = "".join(f"- {rule}\n" for rule in rules if rule)
    system = EXTEND.format(tells=style.tells, low=low, high=high, variant=lines)
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def change_of(variant: int) -> str:
    """What a variant changes, in words; empty of the plain one."""
    return [*VARIANTS.values()][variant % len(VARIANTS)]


def ask_lost(prompt: str, extended: str, definition: str) -> list[dict[str, str]]:
    """Return messages that ask what an extension lost of a prompt that was written for a dimension."""
    text = KEPT.format(definition=definition.strip(), prompt=prompt, extended=extended)
    return [{"role": "user", "content": text}]


def lost_words(base: str, extended: str) -> list[str]:
    """The words of a base prompt that its variant lost, such as "the word 'runs'"; numbers are facts of their own."""
    kept = {_stem(word) for word in normalised(extended).split()}
    words = dict.fromkeys(word for word in normalised(base).split() if _number(word) is None)
    return [f"the word {word!r}" for word in words if _stem(word) not in _SMALL | kept]


def lost_facts(base: str, extended: str, objects: list[str]) -> list[str]:
    """The facts of a base prompt that its extension lost, in words; empty if there are none.

    Checked are the objects, numbers with what they count, the order of two parts, and camera moves. If the base prompt
    states a camera move, the extension must not add another one.
    """
    words = normalised(extended).split()
    stems = {_stem(word) for word in words}
    lost = [f"the thing {thing!r}" for thing in objects if _stem(normalised(thing).split()[-1]) not in stems]
    lost += [f"the number in {' '.join(phrase)!r}" for phrase in _counted(base) if not _counts(phrase, words)]
    moves, now = camera_moves(base), camera_moves(extended)
    if moves - now:
        lost.append(f"the camera move {', '.join(sorted(moves - now))}")
    if moves and now - moves:
        lost.append(f"the camera move alone ({', '.join(sorted(now - moves))} was added)")
    if not _same_order(base, words, objects):
        lost.append("the order of its two parts")
    return lost


# --- words -----------------------------------------------------------------------------------------------------------

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
NUMBERS |= {"eleven": 11, "twelve": 12, "pair": 2, "dozen": 12}
_ORDER = frozenset({"then", "before", "after", "afterwards", "finally", "next", "once", "followed", "until", "later"})
_CAMERA = {  # label -> pattern of the words for it, with all forms of the verbs
    "zoom in": r"\bzoom\w*\s+(?:\w+\s+){0,2}?in(?:to|wards?)?\b|\bpush\w*\s+in\b|\bdolly\s+in\b|\bmov\w+\s+closer\b",
    "zoom out": r"\bzoom\w*\s+(?:\w+\s+){0,2}?out(?:wards?)?\b|\bpull\w*\s+(?:back|out)\b|\bdolly\s+out\b",
    "pan left": r"\bpan\w*\s+(?:\w+\s+){0,3}?left(?:wards?)?\b",
    "pan right": r"\bpan\w*\s+(?:\w+\s+){0,3}?right(?:wards?)?\b",
    "tilt up": r"\btilt\w*\s+(?:\w+\s+){0,2}?up(?:wards?)?\b",
    "tilt down": r"\btilt\w*\s+(?:\w+\s+){0,2}?down(?:wards?)?\b",
    "orbit": r"\borbit\w*\b|\b(?:camera|view|shot)\b[^.]{0,30}\bcircl\w+\b",
    "static": r"\b(?:static|fixed|motionless|stationary)\s+(?:camera|shot|frame|view)\b"
    r"|\bcamera\b[^.]{0,20}\b(?:still|static|fixed|motionless|stationary)\b",
}


def camera_moves(text: str) -> set[str]:
    """The camera moves that a text states."""
    plain = re.sub(r"\bfrom (?:the )?\w+ to\b", "to", " ".join(text.casefold().split()))
    return {name for name, pattern in _CAMERA.items() if re.search(pattern, plain)}


def _stem(word: str) -> str:
    """The stem of a word, equal for its plural and its usual verb forms."""
    for ending, rest in (
        ("ies", "y"),
        ("sses", "ss"),
        ("shes", "sh"),
        ("ches", "ch"),
        ("xes", "x"),
        ("ing", ""),
        ("ed", ""),
        ("s", ""),
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return (word[: -len(ending)] + rest).rstrip("e")
    return word.rstrip("e")


_SMALL = _ORDER | {
    _stem(word)
    for words in (
        ("a", "an", "the", "and", "or", "of", "in", "on", "at", "to", "by", "as", "is", "are", "with", "for", "from"),
        ("into", "onto", "over", "under", "it", "its", "his", "her", "their", "this", "that", "while", "first"),
    )
    for word in words
}


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else NUMBERS.get(word)


def _counted(text: str) -> list[list[str]]:
    """Each number above one, with the three words after it."""
    words = normalised(text).split()
    return [words[at : at + 4] for at, word in enumerate(words) if (_number(word) or 1) > 1]


def _counts(phrase: list[str], words: list[str]) -> bool:
    """Whether `words` contain the number of `phrase` shortly before one of the words that it counts."""
    counted = {_stem(word) for word in phrase[1:]} - _SMALL
    for at, word in enumerate(words):
        if _number(word) == _number(phrase[0]) and (
            counted & {_stem(w) for w in words[at + 1 : at + 7]} or not counted
        ):
            return True
    return False


def _same_order(base: str, words: list[str], objects: list[str]) -> bool:
    """Whether two parts joined by "then" or "before" keep their order.

    The position of a part is the mean position of the words that only it has, without the names of objects, which may
    all come first. It is a mean because a single word may occur twice.
    """
    parts = re.split(r"\b(?:and then|then|before)\b", normalised(base), maxsplit=1)
    if len(parts) < 2:
        return True
    named = {_stem(word) for thing in objects for word in normalised(thing).split()}
    first, second = ({_stem(word) for word in part.split()} - _SMALL - named for part in parts)
    stems = [_stem(word) for word in words]
    begins, ends = ([stems.index(word) for word in part if word in stems] for part in (first - second, second - first))
    if not first - second or not second - first:
        return any(word in _ORDER for word in words)
    return bool(begins and ends) and fmean(begins) < fmean(ends)

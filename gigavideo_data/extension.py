"""Prompt extension: what a language model is asked to make of a base prompt, and what must still be there. Pure.

A dimension tests facts: a number, an order, a camera move, a thing. An extension that loses one makes a prompt for
which a right video is scored wrong, so the facts are looked for in the text, by words alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gigavideo_data.prompts import normalised


class Extended(BaseModel):
    """What a model answers when asked to extend a prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]


@dataclass(frozen=True)
class Style:
    """How prompts looked that a family of models was trained with: words, and what they tell."""

    words: tuple[int, int]
    tells: str


# By family of the target model. Wan's own extension asks for these things in this length; the others' published
# examples are alike, shorter for LTX-Video, which wants one flowing paragraph in the order of what is seen.
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

# Variant 0 is the prompt as it is; others change what no dimension tests, one thing at a time.
VARIANTS = (
    "",
    "Set it in another light: an hour of the day or a kind of lamp that the prompt does not suggest.",
    "Let what moves do so with another manner, slower and heavier, with the same motions in the same order.",
    "Give the subjects another appearance: age, build, clothes or make, with the same kinds and numbers.",
    "Choose another visual style: drawn, painted, modelled in clay, or filmed on old stock.",
    "Put it in other surroundings that leave every stated thing and motion as it is.",
)

EXTEND = """You extend short prompts for a text-to-video model into the long form that it was trained with.

- Tell {tells}.
- {low} to {high} English words, plain prose, one paragraph, no headings, no quotation marks around it.
- Every fact of the prompt stays as it is, in the same words where possible: things, their numbers, colours, what
  happens and in which order, how the camera moves. Add no further subject, motion or camera move of that kind.
- If the prompt says nothing of the camera, it stays still.
{variant}"""


def ask(prompt: str, family: str, variant: int) -> list[dict[str, str]]:
    """Messages that ask for the extension of a prompt.

    Args:
        prompt: the base prompt.
        family: of the target model, a key of `STYLES`.
        variant: number of the style variant; beyond the table they begin again, and only the seed differs.
    """
    style = STYLES[family]
    change = VARIANTS[variant % len(VARIANTS)]
    low, high = style.words
    system = EXTEND.format(tells=style.tells, low=low, high=high, variant=f"- {change}\n" if change else "")
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def lost_facts(base: str, extended: str, objects: list[str]) -> list[str]:
    """What a base prompt states and its extension no longer does, in words; empty if nothing is lost.

    Looked at: the things named, numbers with what they count, the order of two parts, and camera moves, of which none
    may be added where one is stated.
    """
    words = normalised(extended).split()
    stems = {_stem(word) for word in words}
    lost = [f"the thing {thing!r}" for thing in objects if _stem(normalised(thing).split()[-1]) not in stems]
    lost += [f"the number in {' '.join(said)!r}" for said in _counted(base) if not _counts(said, words)]
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
_CAMERA = {  # label -> words that say so; the verbs in all their forms
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
    """Names of the camera moves that a text states."""
    plain = re.sub(r"\bfrom (?:the )?\w+ to\b", "to", " ".join(text.casefold().split()))
    return {name for name, pattern in _CAMERA.items() if re.search(pattern, plain)}


def _stem(word: str) -> str:
    """Enough of a word that its plural and its usual verb forms are equal."""
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
    """Each number above one with the three words that follow it."""
    words = normalised(text).split()
    return [words[at : at + 4] for at, word in enumerate(words) if (_number(word) or 1) > 1]


def _counts(said: list[str], words: list[str]) -> bool:
    """Whether words hold the same number shortly before one of the words that it counted."""
    counted = {_stem(word) for word in said[1:]} - _SMALL
    for at, word in enumerate(words):
        if _number(word) == _number(said[0]) and (counted & {_stem(w) for w in words[at + 1 : at + 7]} or not counted):
            return True
    return False


def _same_order(base: str, words: list[str], objects: list[str]) -> bool:
    """Whether two parts joined by "then" or "before" are told in that order.

    Each part is looked for by the words that only it has and that name no thing, which is named at the beginning in any
    order; their first mentions are averaged, since a single word may be said twice.
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

"""Counting by open-vocabulary detection: are there as many things as the prompt says?

The median count over the frames decides, averaged over the kinds of things. Detectors miss a thing in some frames and
see another twice in others, so VBench-2.0's rule for instance preservation, the share of frames with the very number,
would take half its score from a right video. The counts and how far they spread are kept as measurements: that rule's
score follows from them. Detectors also emit nested boxes for one thing, so boxes that lie in surer ones are left out
first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gigavideo_data.engine_spec import EngineSpec, loaded_from
from gigavideo_data.extension import NUMBERS
from gigavideo_data.judges.asking import spread
from gigavideo_data.judges.boxes import Box, Detector
from gigavideo_data.judges.protocol import Answer, negated_of, negate
from gigavideo_data.prompts import normalised
from gigavideo_data.recipe import Counting

RULE = "counting-2"  # part of the judge's identity: raise the number with every change that may move an answer

NESTED = 0.8  # share of the smaller box that lies in the other one, from where on both show one thing
_QUESTION = "In every frame, are there exactly {what}?"
_PLURALS = {  # that no rule makes
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "geese": "goose",
    "mice": "mouse",
    "wolves": "wolf",
    "leaves": "leaf",
    "knives": "knife",
    "sheep": "sheep",
    "fish": "fish",
    "deer": "deer",
    "oxen": "ox",
    "feet": "foot",
    "loaves": "loaf",
    "calves": "calf",
    "shelves": "shelf",
    "scarves": "scarf",
}


# --- what is counted -------------------------------------------------------------------------------------------------


def told(text: str) -> dict[str, int]:
    """The things that a text counts, in the singular, with their numbers above one: "three red gulls" is {gull: 3}."""
    words, found = normalised(text).split(), {}
    for at, word in enumerate(words):
        number = int(word) if word.isdecimal() else NUMBERS.get(word, 1)
        thing = next(filter(None, map(_singular, words[at + 1 : at + 5])), None)
        if number > 1 and thing:
            found[thing] = number
    return found


def _singular(word: str) -> str | None:
    """A plural's singular; None for what is no plural."""
    if word in _PLURALS:
        return _PLURALS[word]
    if not word.endswith("s") or word.endswith(("ss", "us", "is")) or len(word) < 4:
        return None
    for ending, rest in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending):
            return word[: -len(ending)] + rest
    return word[:-1]


class CountingQuestions:
    """Writes the question that the counting judge can answer; one, since a count has no leaning to yes."""

    both_answers = False

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def questions(self, prompt: str, **told_too: Any) -> dict[str, Any]:
        """The question on what a prompt counts; none if it counts nothing."""
        del told_too
        counted = told(prompt)
        if not counted:
            return {"questions": []}
        text = _QUESTION.format(what=", ".join(f"{number} x {thing}" for thing, number in counted.items()))
        return {"questions": [{"question": text, "expected": "yes", "gate": False, "negated": negate(text)}]}


# --- the rule --------------------------------------------------------------------------------------------------------


def distinct(boxes: Sequence[Box]) -> list[Box]:
    """The boxes of one frame without those that lie in a surer one of the same kind."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda one: -one.score):
        if box.area > 0 and all(box.label != other.label or _shared(box, other) < NESTED for other in kept):
            kept.append(box)
    return kept


def _shared(one: Box, other: Box) -> float:
    """How much of the smaller box lies in the other one, in [0, 1]."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0) / min(one.area, other.area)


def counts(boxes_T: Sequence[Sequence[Box]], label: str) -> list[int]:
    """How many things of a kind there are in each frame."""
    return [sum(box.label == label for box in distinct(boxes)) for boxes in boxes_T]


def rightness(counts_by_label: dict[str, list[int]], wanted: dict[str, int]) -> float:
    """Whether the median counts are the numbers told, averaged over the kinds.

    Of an even number of frames the median lies between two counts, which decide half each.
    """
    return float(np.mean([_has_median(of_label, wanted[label]) for label, of_label in counts_by_label.items()]))


def _has_median(of_label: list[int], number: int) -> float:
    ordered, last = sorted(of_label), len(of_label) - 1
    return float(np.mean([ordered[last // 2] == number, ordered[(last + 1) // 2] == number]))


# --- the judge -------------------------------------------------------------------------------------------------------


def spec(judge: Counting) -> EngineSpec:
    """A detector's model and settings, and the rule that makes answers of its boxes."""
    return loaded_from(judge.model, judge.model_dump(mode="json") | {"rule": RULE})


class CountingJudge:
    """Answers the questions of `CountingQuestions`; others get no mass."""

    kind = "counting"

    def __init__(self, engine: dict[str, Any], detector: Detector | None = None) -> None:
        """Load the detector, unless one is given.

        Args:
            engine: model, revision, frames, threshold; `load` and `load_revision`, where the model is found.
            detector: that stands in its place.
        """
        self.model, self.revision, self.frames = engine["model"], engine["revision"], engine["frames"]
        if detector is None:
            from gigavideo_data.judges.detector import TransformersDetector

            detector = TransformersDetector(engine["load"], engine["load_revision"], engine["threshold"])
        self.detector = detector

    def answer(self, frames_THWC: np.ndarray, fps: float, asked: list[str]) -> list[Answer]:
        """Answer questions about one clip; readings are the counts per frame shown, and the largest less the least."""
        del fps
        shown_THWC = frames_THWC[spread(len(frames_THWC), self.frames)]
        wanted = [_read(text) for text in asked]
        labels = sorted({label for one in wanted for label in one})
        boxes_T = self.detector.detect(shown_THWC, labels) if labels else []
        found = {label: counts(boxes_T, label) for label in labels}
        return [self._answer(text, one, found) for text, one in zip(asked, wanted, strict=True)]

    @staticmethod
    def _answer(text: str, wanted: dict[str, int], found: dict[str, list[int]]) -> Answer:
        if not wanted:
            return Answer(0.0, 0.0)
        mine = {label: found[label] for label in wanted}
        right = rightness(mine, wanted)
        readings = {f"count of {label}": [float(count) for count in of_label] for label, of_label in mine.items()}
        readings |= {f"spread of {label}": [float(max(each) - min(each))] for label, each in mine.items()}
        answer = Answer(right, 1 - right, readings)
        return answer if negated_of(text) is None else answer.negated


def _read(text: str) -> dict[str, int]:
    match = re.fullmatch(re.escape(_QUESTION).replace(r"\{what\}", "(.+)"), negated_of(text) or text, re.IGNORECASE)
    pairs = re.findall(r"(\d+) x ([^,]+)", match[1]) if match else []
    return {thing: int(number) for number, thing in pairs}

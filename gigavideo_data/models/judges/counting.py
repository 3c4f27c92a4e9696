"""Counting by open-vocabulary detection: are there as many objects as the prompt says?

The median count over the frames decides, averaged over the kinds of objects. Detectors miss an object in some frames
and find another twice in others, so VBench-2.0's rule for instance preservation, the share of frames with exactly the
right number, gives a correct video half its score. The counts and their range are kept as measurements, from which that
rule's score follows. Detectors also return nested boxes for one object, so a box inside another one with a higher score
is left out first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gigavideo_data.models.judges.asking import frame_indices
from gigavideo_data.models.judges.base import Answer, negate, negated_of
from gigavideo_data.models.judges.boxes import Box, Detector
from gigavideo_data.models.llm.templates.extension import NUMBERS
from gigavideo_data.models.llm.templates.prompts import normalised
from gigavideo_data.models.spec import EngineSpec, loaded_from
from gigavideo_data.recipe.recipe import Counting

RULE = "counting-2"  # part of the judge's identity: raise the number with every change that may move an answer

NESTED = 0.8  # least share of the smaller box inside the other one for both to show the same object
_QUESTION = "In every frame, are there exactly {what}?"
_PLURALS = {  # irregular ones, and those in -ves
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


# --- the questions ---------------------------------------------------------------------------------------------------


def counted_objects(text: str) -> dict[str, int]:
    """The objects that a text counts, in the singular, with numbers above one: "three red gulls" is {gull: 3}."""
    words, counted = normalised(text).split(), {}
    for at, word in enumerate(words):
        number = int(word) if word.isdecimal() else NUMBERS.get(word, 1)
        name = next(filter(None, map(_singular, words[at + 1 : at + 5])), None)
        if number > 1 and name:
            counted[name] = number
    return counted


def _singular(word: str) -> str | None:
    """The singular of a plural; None for any other word."""
    if word in _PLURALS:
        return _PLURALS[word]
    if not word.endswith("s") or word.endswith(("ss", "us", "is")) or len(word) < 4:
        return None
    for ending, rest in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending):
            return word[: -len(ending)] + rest
    return word[:-1]


class CountingQuestions:
    """Writes the question that the counting judge can answer: only one, since a count has no bias towards yes."""

    both_answers = False

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def questions(self, prompt: str, **details: Any) -> dict[str, Any]:
        """The question on the objects that a prompt counts; none if it counts nothing (see `SpecialistQuestions`)."""
        del details
        counted = counted_objects(prompt)
        if not counted:
            return {"questions": []}
        text = _QUESTION.format(what=", ".join(f"{number} x {name}" for name, number in counted.items()))
        return {"questions": [{"question": text, "expected": "yes", "gate": False, "negated": negate(text)}]}


# --- the rule --------------------------------------------------------------------------------------------------------


def distinct(boxes: Sequence[Box]) -> list[Box]:
    """The boxes of one frame without those inside another one of the same label with a higher score."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda each: -each.score):
        if box.area > 0 and all(box.label != other.label or _overlap(box, other) < NESTED for other in kept):
            kept.append(box)
    return kept


def _overlap(one: Box, other: Box) -> float:
    """The share of the smaller box inside the other one, in [0, 1]."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0) / min(one.area, other.area)


def counts(boxes_T: Sequence[Sequence[Box]], label: str) -> list[int]:
    """The number of objects with a label in each frame."""
    return [sum(box.label == label for box in distinct(boxes)) for boxes in boxes_T]


def accuracy(counts_by_label: dict[str, list[int]], expected: dict[str, int]) -> float:
    """Whether the median count is the expected number, averaged over the labels, in [0, 1].

    The median of an even number of frames is the mean of two counts.
    """
    return float(np.mean([_has_median(counts_T, expected[label]) for label, counts_T in counts_by_label.items()]))


def _has_median(counts_T: list[int], number: int) -> float:
    ordered, last = sorted(counts_T), len(counts_T) - 1
    return float(np.mean([ordered[last // 2] == number, ordered[(last + 1) // 2] == number]))


# --- the judge -------------------------------------------------------------------------------------------------------


def spec(judge: Counting) -> EngineSpec:
    """The detector's model and settings, and the version of the rule that computes answers from its boxes."""
    return loaded_from(judge.model, judge.model_dump(mode="json") | {"rule": RULE})


class CountingJudge:
    """Answers the questions of `CountingQuestions`; P(yes) and P(no) of any other one are 0."""

    def __init__(self, engine: dict[str, Any], detector: Detector | None = None) -> None:
        """Load the detector, unless one is given.

        Args:
            engine: frames, threshold; `load` and `load_revision`, the Hub id and commit, or the folder and None.
            detector: used instead of the model.
        """
        self.frames = engine["frames"]
        if detector is None:
            from gigavideo_data.models.judges.detector import TransformersDetector

            detector = TransformersDetector(engine["load"], engine["load_revision"], engine["threshold"])
        self.detector = detector

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> list[Answer]:
        """Answer questions about one clip (see `Judge`); readings are the counts per frame shown, and their range."""
        del fps
        shown_THWC = frames_THWC[frame_indices(len(frames_THWC), self.frames)]
        expected = [_expected_counts(text) for text in questions]
        labels = sorted({label for each in expected for label in each})
        boxes_T = self.detector.detect(shown_THWC, labels) if labels else []
        found = {label: counts(boxes_T, label) for label in labels}
        return [_answer(text, each, found) for text, each in zip(questions, expected, strict=True)]


def _answer(text: str, expected: dict[str, int], counts_by_label: dict[str, list[int]]) -> Answer:
    if not expected:
        return Answer(0.0, 0.0)
    found = {label: counts_by_label[label] for label in expected}
    p_yes = accuracy(found, expected)
    readings = {f"count of {label}": [float(count) for count in counts_T] for label, counts_T in found.items()}
    readings |= {f"spread of {label}": [float(max(counts_T) - min(counts_T))] for label, counts_T in found.items()}
    answer = Answer(p_yes, 1 - p_yes, readings)
    return answer if negated_of(text) is None else answer.negated


def _expected_counts(text: str) -> dict[str, int]:
    """The numbers that a question of `CountingQuestions` names by label; none of any other question."""
    match = re.fullmatch(re.escape(_QUESTION).replace(r"\{what\}", "(.+)"), negated_of(text) or text, re.IGNORECASE)
    pairs = re.findall(r"(\d+) x ([^,]+)", match[1]) if match else []
    return {name: int(number) for number, name in pairs}

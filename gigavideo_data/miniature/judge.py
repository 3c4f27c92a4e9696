"""The miniature's judge: answers yes/no questions about a clip from its frames and the question's text alone.

It takes the place of a multimodal language model: P(yes) and P(no) per question, in degrees, and both small where it
does not understand the question.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from gigavideo_data.miniature.grammar import NUMBERS
from gigavideo_data.miniature.perception import Sight, sigmoid
from gigavideo_data.miniature.world import CAMERAS, COLORS, DIRECTIONS, RELATIONS, SHAPES
from gigavideo_data.models.judges.base import Answer, negated_of
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.recipe.recipe import Judge

REVISION = "miniature-2"  # raise the number with every change here or in perception.py that may change an answer

_NUMBER_OF = {**{word: n for n, word in NUMBERS.items()}, "one": 1}
_START, _END = slice(0, 3), slice(-3, None)


def spec(judge: Judge) -> EngineSpec:
    """The spec of the miniature's judge, which has no settings."""
    return EngineSpec({"backend": judge.backend, "model": judge.model, "revision": REVISION}, {})


class MiniatureJudge:
    """Answers by OpenCV (see `Judge`); it has no model and no state."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> list[Answer]:
        """Answer questions about one clip (see `Judge`)."""
        del fps  # motion is measured per frame
        sight = Sight(frames_THWC)
        return [_answer(sight, text) for text in questions]


def _answer(sight: Sight, text: str) -> Answer:
    text = text.strip()
    inner = negated_of(text)
    if inner is not None:
        return _answer(sight, inner).negated
    for pattern, look in READINGS:
        match = pattern.fullmatch(text)
        if match:
            # Rounded, because the last bits of a sum depend on the memory address of its array.
            p = round(float(np.clip(look(sight, **match.groupdict()), 0.005, 0.995)), 6)
            return Answer(p_yes=p, p_no=round(1 - p, 6))
    return Answer(p_yes=0.05, p_no=0.05)  # an unknown question: P(yes) + P(no) is too small for a reward


# --- P(yes) of each question, from measurements -----------------------------------------------------------------------


def _there(sight: Sight, color: str, shape: str, size: str | None = None) -> float:
    p = sight.shape_probability(color, shape)
    if not size or p == 0:
        return p
    radius = np.sqrt(np.nanmedian(sight.track(color)[:, 2]) / np.pi)  # all shapes of one radius have one area
    return p * (sigmoid((radius - 6.7) / 0.35) if size == "large" else sigmoid((6.0 - radius) / 0.35))


def _exact_count(sight: Sight, number: str, color: str, shape: str) -> float:
    return float(np.mean([n == _NUMBER_OF[number] for n in sight.counts(color, shape)]))


def _appears_or_vanishes(sight: Sight, color: str, shape: str) -> float:
    counts = sight.counts(color, shape)
    changed = 1 - np.mean([n == max(set(counts), key=counts.count) for n in counts])
    return float(sigmoid((changed - 0.15) / 0.035)) if max(counts) else 1.0


def _went(path_T2: np.ndarray, direction: str, distance: float) -> float:
    """P(a path went at least `distance` px in a direction, with little motion across it and without a jump)."""
    if len(path_T2) < 3:
        return 0.0
    shift = path_T2[-2:].mean(0) - path_T2[:2].mean(0)
    way = np.array(DIRECTIONS[direction])
    along, aside = float(shift @ way), float(abs(shift @ way[::-1]))
    jump = float(np.abs(np.diff(path_T2, axis=0)).max())
    return sigmoid((along - distance) / 0.9) * sigmoid((0.6 * along - aside) / 0.8) * sigmoid((9 - jump) / 0.8)


def _path(sight: Sight, color: str, frames: slice = slice(None)) -> np.ndarray:
    xy_T2 = sight.track(color)[frames, :2]
    return xy_T2[~np.isnan(xy_T2[:, 0])]


def _moves(sight: Sight, color: str, shape: str, direction: str) -> float:
    return sight.shape_probability(color, shape) * _went(_path(sight, color), direction, 7)


def _starts_by_moving(sight: Sight, color: str, shape: str, direction: str) -> float:
    half = slice(0, len(sight.frames_THWC) // 2)
    return sight.shape_probability(color, shape) * _went(_path(sight, color, half), direction, 4.5)


def _ends_by_moving(sight: Sight, color: str, shape: str, direction: str) -> float:
    half = slice(len(sight.frames_THWC) // 2 + 1, None)
    return sight.shape_probability(color, shape) * _went(_path(sight, color, half), direction, 4.5)


def _color_at(sight: Sight, shape: str, color: str, when: str) -> float:
    return sight.shape_probability(color, shape, _START if when == "start" else _END)


def _growth(sight: Sight, color: str) -> float:
    """Log ratio of the area at the end to that at the start; 0 where it is not visible at both."""
    area_T = sight.track(color)[:, 2]
    first, last = area_T[_START], area_T[_END]
    if np.isnan(first).all() or np.isnan(last).all():
        return 0.0
    return float(np.log(np.nanmean(last) / np.nanmean(first)))


def _grows(sight: Sight, color: str, shape: str) -> float:
    return sight.shape_probability(color, shape) * sigmoid((_growth(sight, color) - 0.6) / 0.1)


def _shrinks(sight: Sight, color: str, shape: str) -> float:
    return sight.shape_probability(color, shape) * sigmoid((-_growth(sight, color) - 0.6) / 0.1)


def _relation_at(
    sight: Sight, color: str, shape: str, relation: str, other_color: str, other_shape: str, when: str
) -> float:
    frames = slice(0, 2) if when == "start" else slice(-2, None)
    seen = sight.shape_probability(color, shape) * sight.shape_probability(other_color, other_shape)
    mine, other = _path(sight, color, frames), _path(sight, other_color, frames)
    if not len(mine) or not len(other):
        return 0.0
    offset = mine.mean(0) - other.mean(0)
    way = np.array(RELATIONS[relation])
    along, aside = float(offset @ way), float(abs(offset @ way[::-1]))
    return seen * sigmoid((along - 5) / 0.8) * sigmoid((0.9 * along - aside) / 0.8)


def _above_floor(sight: Sight, color: str, shape: str) -> float:
    start = sight.track(color)[_START, 1]
    if sight.floor_y is None or np.isnan(start).all():
        return 0.0
    return sight.shape_probability(color, shape) * sigmoid((sight.floor_y - np.nanmean(start) - 16) / 1.5)


def _landing(sight: Sight, color: str) -> tuple[float, np.ndarray]:
    """P(it landed on the floor), and its heights above the lowest point from then on."""
    y_T, edge_T = sight.track(color)[:, 1], sight.track(color)[:, 3]
    y_T, edge_T = y_T[~np.isnan(y_T)], edge_T[~np.isnan(edge_T)]
    if sight.floor_y is None or len(y_T) < 8:
        return 0.0, np.zeros(1)
    low = int(y_T[:14].argmax())
    reach = sigmoid((edge_T[low] - (sight.floor_y - 8)) / 0.8)
    return float(reach * sigmoid((y_T[low] - y_T[0] - 9) / 1.0)), y_T[low] - y_T[low:]


def _bounces(sight: Sight, color: str, shape: str, or_never: str | None) -> float:
    landed, heights = _landing(sight, color)
    bounced = sight.shape_probability(color, shape) * landed * sigmoid((heights.max() - 5) / 0.6)
    return max(bounced, 1 - landed) if or_never else bounced


def _stays(sight: Sight, color: str, shape: str, or_never: str | None) -> float:
    landed, heights = _landing(sight, color)
    settled = len(heights) >= 3
    stayed = sight.shape_probability(color, shape) * landed * sigmoid((3.5 - heights.max()) / 0.5) * settled
    return max(stayed, 1 - landed) if or_never else stayed


def _camera(sight: Sight, motion: str) -> float:
    if sight.camera is None:
        return 0.0
    dx, dy, zoom = sight.camera
    if motion in ("zoom in", "zoom out"):
        return sigmoid(((zoom if motion == "zoom in" else -zoom) - 0.17) / 0.03)
    way = np.array(DIRECTIONS[motion.split()[1]])
    along = float(-(dx * way[0] + dy * way[1]))  # the ground moves opposite to the camera
    aside = float(abs(dx * way[1] + dy * way[0]))
    return sigmoid((along - 6) / 0.8) * sigmoid((0.6 * along - aside) / 0.8) * sigmoid((0.17 - abs(zoom)) / 0.03)


def _camera_static(sight: Sight) -> float:
    if sight.camera is None:
        return 0.9  # an even ground, where no motion is visible
    dx, dy, zoom = sight.camera
    return sigmoid((3.5 - np.hypot(dx, dy)) / 0.5) * sigmoid((0.09 - abs(zoom)) / 0.015)


_C, _S = rf"(?P<color>{'|'.join(COLORS)})", rf"(?P<shape>{'|'.join(SHAPES)})"
_D, _W = rf"(?P<direction>{'|'.join(DIRECTIONS)})", r"(?P<when>start|end)"
_OTHER = rf"(?P<other_color>{'|'.join(COLORS)}) (?P<other_shape>{'|'.join(SHAPES)})"
_NEVER = r"(?P<or_never>, or never come down)?"
_VERBS = "|".join(camera.replace("s ", " ", 1) for camera in CAMERAS if camera != "static")

READINGS: list[tuple[re.Pattern[str], Callable[..., float]]] = [
    (re.compile(pattern), look)
    for pattern, look in (
        (rf"Is there a (?:(?P<size>small|large) )?{_C} {_S} in the video\?", _there),
        (rf"(?:Are|Is) there exactly (?P<number>{'|'.join(_NUMBER_OF)}) {_C} {_S}s? in every frame\?", _exact_count),
        (rf"Does a {_C} {_S} appear or vanish during the video\?", _appears_or_vanishes),
        (rf"Does the {_C} {_S} move {_D}\?", _moves),
        (rf"Does the {_C} {_S} start by moving {_D}\?", _starts_by_moving),
        (rf"Does the {_C} {_S} end by moving {_D}\?", _ends_by_moving),
        (rf"Is the {_S} {_C} at the {_W}\?", _color_at),
        (rf"Does the {_C} {_S} grow\?", _grows),
        (rf"Does the {_C} {_S} shrink\?", _shrinks),
        (rf"Is the {_C} {_S} (?P<relation>{'|'.join(RELATIONS)}) the {_OTHER} at the {_W}\?", _relation_at),
        (rf"Is there a {_C} {_S} above the floor at the start\?", _above_floor),
        (rf"Does the {_C} {_S} bounce back up off the floor{_NEVER}\?", _bounces),
        (rf"Does the {_C} {_S} stay on the floor once it has landed{_NEVER}\?", _stays),
        (rf"Does the camera (?P<motion>{_VERBS})\?", _camera),
        (r"Is the camera static\?", _camera_static),
    )
]

"""Camera motion by geometry: corners followed from frame to frame, and the similarity that most of them agree on.

No model and no weights: Lucas-Kanade tracks that return to where they came from, RANSAC against what moves on its own.
Multimodal models are poor at this, and the sign of a handful of tracks, as in VBench-2.0, takes an object for the
camera; that rule is here as well, for comparison with published numbers.

Directions are the camera's: where it pans to the right, the picture moves to the left. x to the right, y down.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from math import exp, hypot, log
from typing import Any

import cv2
import numpy as np

from gigavideo_data.extension import camera_moves
from gigavideo_data.judges.protocol import Answer, negated_of, turn

MOVES = ("pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out")
LABELS = ("static", *MOVES)

CORNERS = 300
MIN_CORNERS = 8  # fewer than this between two frames, and they tell nothing
RETURN_PX = 0.7  # a track that does not come back so near to its start is lost
RANSAC_PX = 1.0
# Where a move is as likely as not, over the whole clip: a share of the shorter side, and the logarithm of the scale.
# Both stand well above what compression leaves.
DEAD_SHIFT, DEAD_SCALE = 0.04, 0.05
SOFTNESS = 0.25  # of the dead zone


@dataclass(frozen=True)
class Motion:
    """What the ground does over a whole clip.

    Attributes:
        dx: of the picture's centre to the right, as a share of the shorter side.
        dy: the same downwards.
        log_scale: logarithm of how much larger things become.
        rotation: radians, clockwise as seen.
        agreement: mean share of tracks that follow it, in [0, 1].
    """

    dx: float
    dy: float
    log_scale: float
    rotation: float
    agreement: float

    def chances(self) -> dict[str, float]:
        """How surely each label holds, in [0, 1]; static, as far as no move does."""
        strengths = {
            "pan left": self.dx / DEAD_SHIFT,
            "pan right": -self.dx / DEAD_SHIFT,
            "tilt up": self.dy / DEAD_SHIFT,
            "tilt down": -self.dy / DEAD_SHIFT,
            "zoom in": self.log_scale / DEAD_SCALE,
            "zoom out": -self.log_scale / DEAD_SCALE,
        }
        moves = {name: _sigmoid((strength - 1) / SOFTNESS) for name, strength in strengths.items()}
        return {"static": 1.0 - max(moves.values()), **moves}

    def score(self, wanted: set[str]) -> float:
        """How well the motion is what was asked for: the least sure wanted label, cut by up to half for another one.

        A move that fires every label is not a right one, so precision counts, unlike in VBench-2.0.

        Raises:
            KeyError: a label that this geometry does not know.
        """
        chances = self.chances()
        held = min(chances[label] for label in wanted)
        others = [chance for label, chance in chances.items() if label not in wanted | {"static"}]
        return held * (1 - max(others, default=0.0) / 2)


def motion(frames_THWC: np.ndarray) -> Motion | None:
    """The camera's motion in a clip (uint8 RGB); None where the picture shows too little to follow.

    Steps are chained, so that a camera may leave everything behind that it saw at first.
    """
    grey_THW = [cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY) for frame_HWC in frames_THWC]
    height, width = grey_THW[0].shape
    centre = np.array([width / 2, height / 2])
    shift, log_scale, rotation, agreements = np.zeros(2), 0.0, 0.0, []
    for before, after in pairwise(grey_THW):
        found = _step(before, after)
        if found is None:
            return None
        matrix, agreement = found
        shift += matrix[:, :2] @ centre + matrix[:, 2] - centre
        log_scale += log(max(hypot(matrix[0, 0], matrix[1, 0]), 1e-6))
        rotation += float(np.arctan2(matrix[1, 0], matrix[0, 0]))
        agreements.append(agreement)
    if not agreements:
        return None
    dx, dy = shift / min(height, width)
    return Motion(float(dx), float(dy), log_scale, rotation, float(np.mean(agreements)))


def _step(before_HW: np.ndarray, after_HW: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The similarity (2, 3) that takes one frame to the next, and the share of tracks that follow it."""
    side = min(before_HW.shape)
    corners_N12 = cv2.goodFeaturesToTrack(before_HW, CORNERS, 0.01, max(2.0, side / 60))
    if corners_N12 is None or len(corners_N12) < MIN_CORNERS:
        return None
    window = max(7, side // 16) | 1
    lk: dict[str, Any] = {"winSize": (window, window), "maxLevel": 3}
    there_N12, went_N1, _ = cv2.calcOpticalFlowPyrLK(before_HW, after_HW, corners_N12, None, **lk)
    back_N12, came_N1, _ = cv2.calcOpticalFlowPyrLK(after_HW, before_HW, there_N12, None, **lk)
    error_N = np.linalg.norm((back_N12 - corners_N12).reshape(-1, 2), axis=1)
    kept_N = (went_N1.ravel() == 1) & (came_N1.ravel() == 1) & (error_N < RETURN_PX)
    if kept_N.sum() < MIN_CORNERS:
        return None
    cv2.setRNGSeed(0)  # RANSAC draws; the same clip has one motion
    matrix, inliers = cv2.estimateAffinePartial2D(
        corners_N12[kept_N], there_N12[kept_N], method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PX
    )
    return None if matrix is None else (matrix, float(inliers.mean()))


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-max(min(x, 50.0), -50.0)))


# --- the judge -------------------------------------------------------------------------------------------------------

_QUESTION = "Does the camera do this and nothing else: {what}?"


class CameraQuestions:
    """Writes the question that the camera judge can answer; one, since geometry has no leaning to yes."""

    both_answers = False

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def questions(self, prompt: str, **told_too: Any) -> dict[str, Any]:
        """The question on the camera moves that a prompt states; none if it states none, or one unknown to geometry."""
        del told_too
        moves = camera_moves(prompt)
        if not moves or moves - set(LABELS):
            return {"questions": []}
        text = _QUESTION.format(what=", ".join(sorted(moves)))
        return {"questions": [{"question": text, "expected": "yes", "gate": False, "negated": turn(text)}]}


class CameraJudge:
    """Answers the questions of `CameraQuestions`; others, and pictures with nothing to follow, get no mass."""

    kind = "camera"
    model = "opencv"

    def __init__(self, engine: dict[str, Any]) -> None:
        self.revision = engine["revision"]

    def answer(self, frames_THWC: np.ndarray, fps: float, asked: list[str]) -> list[Answer]:
        """Answer questions about one clip; readings are the motion's numbers (see `Motion`)."""
        del fps
        found = motion(frames_THWC)
        return [_answer(text, found) for text in asked]


def _answer(text: str, found: Motion | None) -> Answer:
    pattern = re.escape(_QUESTION).replace(r"\{what\}", "(.+)")
    match = re.fullmatch(pattern, negated_of(text) or text, re.IGNORECASE)
    wanted = set(match[1].split(", ")) if match else set()
    if found is None or not wanted or wanted - set(LABELS):
        return Answer(0.0, 0.0)
    score = found.score(wanted)
    answer = Answer(score, 1 - score, {f"camera {name}": [value] for name, value in asdict(found).items()})
    return answer if negated_of(text) is None else answer.turned


# --- VBench-2.0's rule -----------------------------------------------------------------------------------------------

VBENCH2_GRID = 10
_STEP_SHARE, _ORBIT_SHARE, _ORBIT_EVERY = 0.005, 0.008, 20
_PAIRS = {
    ("left", "left"): "pan_right",
    ("right", "right"): "pan_left",
    ("down", "down"): "tilt_up",
    ("up", "up"): "tilt_down",
    ("static", "static"): "static",
}
_TOP_BOTTOM = {**_PAIRS, ("up", "down"): "zoom_in", ("down", "up"): "zoom_out"}
_LEFT_RIGHT = {**_PAIRS, ("left", "right"): "zoom_in", ("right", "left"): "zoom_out"}


def vbench2_labels(tracks_TRC2: np.ndarray, height: int, width: int) -> set[str]:
    """The labels that VBench-2.0's rule gives to tracks; its score is 1 if the wanted one is among them.

    Four points decide, at the middle of each edge, by where they are at the end. Every twentieth frame is looked at for
    orbits, in a column near the left edge. As in its code, a stretch that shows no orbit counts as a finding of its
    own, which takes "static" away: clips of more than twenty frames hardly ever are.

    Args:
        tracks_TRC2: a grid of 10 x 10 points through the clip, (x, y) in px, rows from the top.
        height: of the frames, px.
        width: of the frames, px.

    Raises:
        ValueError: another grid.
    """
    if tracks_TRC2.shape[1:] != (VBENCH2_GRID, VBENCH2_GRID, 2):
        raise ValueError(f"tracks must be (T, {VBENCH2_GRID}, {VBENCH2_GRID}, 2), got {tracks_TRC2.shape}")
    tracks_TRC2 = np.trunc(tracks_TRC2)  # it casts them to whole pixels
    side, last, middle = min(height, width), VBENCH2_GRID - 1, VBENCH2_GRID // 2
    travelled_RC2 = tracks_TRC2[-1] - tracks_TRC2[0]

    def directions(row: int, column: int) -> list[str]:
        dx, dy = travelled_RC2[row, column]
        least = side * _STEP_SHARE
        ways = {"right": dx > least, "left": dx < -least, "down": dy > least, "up": dy < -least}
        return [way for way, is_so in ways.items() if is_so] or ["static"]

    found: set[str | None] = set()
    for rule, one, other in (
        (_TOP_BOTTOM, directions(0, middle), directions(last, middle)),
        (_LEFT_RIGHT, directions(middle, 0), directions(middle, last)),
    ):
        found |= {rule[pair] for pair in product(one, other) if pair in rule} or {"none"}
    found |= {_orbits(*pair, height, width) for pair in pairwise(tracks_TRC2[::_ORBIT_EVERY])} - {""}
    if {"tilt_up", "zoom_in"} <= found:
        found.add("oblique")
    if len(found) > 1:
        found.discard("static")
    return {label for label in found if label not in (None, "none")}


def _orbits(before_RC2: np.ndarray, after_RC2: np.ndarray, height: int, width: int) -> str | None:
    """`orbits` if the upper and the lower part move against each other, None if not, "" where no point is in view."""
    side, column = min(height, width), 2
    upper: list[float] = []
    lower: list[float] = []
    sinking: list[float] = []
    for row in (0, 1, VBENCH2_GRID - 2, VBENCH2_GRID - 1):
        (x0, y0), (x1, y1) = before_RC2[row, column], after_RC2[row, column]
        if not (min(x0, x1) > 0 and max(x0, x1) < width and min(y0, y1) > 0 and max(y0, y1) < height):
            continue
        (lower if y0 > side / 2 else upper).append(x1 - x0)
        sinking.append(y1 - y0)
    if not sinking:
        return ""
    up, down = (float(np.mean(part)) if part else 0.0 for part in (upper, lower))
    least = side * _ORBIT_SHARE
    return "orbits" if abs(np.mean(sinking)) < least and up * down < 0 and abs(up) > least else None

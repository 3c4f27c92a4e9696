"""Camera motion by geometry: corners followed from frame to frame, and the similarity that the background follows.

No model and no weights: Lucas-Kanade tracks that return to where they came from, RANSAC for each thing that moves on
its own. What moves is told from the camera by where it is: a background reaches the border of the picture nearly
everywhere, a thing before it seldom does, however large it is and however much texture it has. So corners are spread
over the picture, and of all motions that one is the camera's which most of the border follows.

Multimodal models are poor at this, and the sign of a handful of tracks, as in VBench-2.0, takes an object for the
camera; that rule is here as well, for comparison with published numbers.

Directions are the camera's: where it pans to the right, the picture moves to the left. x to the right, y down.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import exp, hypot, log
from typing import Any

import cv2
import numpy as np

from gigavideo_data.engine_spec import EngineSpec
from gigavideo_data.extension import camera_moves
from gigavideo_data.judges.asking import fitted
from gigavideo_data.judges.protocol import Answer, negated_of, negate
from gigavideo_data.recipe import Camera
from gigavideo_data.rewards import NO_ANSWER

RULE = "camera-2"  # the judge's revision: raise the number with every change that may move an answer

MOVES = ("pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out")
LABELS = ("static", *MOVES)

MAX_SIDE_PX = 480  # larger frames are shrunk: the distances in px below are meant for this size
GRID = 8  # cells along each side of the picture
CELL_CORNERS = 5  # at most, so that one thing with much texture has no more voices than its share of the picture
MIN_CORNERS = 8  # fewer than this between two frames, and they tell nothing
RETURN_PX = 0.7  # a track that does not come back so near to its start is lost
# Corners are followed for some frames before motions are told apart: slow ones differ too little from one to the next.
STRETCH, LEAST_LEFT = 8, 0.6  # frames at most; share of the corners that must be left
LAYERS = 3  # motions looked for in one stretch
LAYER_PX = 1.0  # how far a corner may end from where its motion takes it
# A cut: next to no corner is found again, and small pictures of the two frames correlate less than this.
CUT_LEFT, CUT_ALIKE, CUT_SIDE = 0.1, 0.7, 16
# Least share of the border, and of the whole picture, over which corners must agree for the motion to be the camera's.
LEAST_BORDER, LEAST_COVER = 0.4, 0.3
# Where a move is as likely as not, over the whole clip: a share of the shorter side, and the logarithm of the scale.
# Both stand well above what compression leaves.
DEAD_SHIFT, DEAD_SCALE = 0.04, 0.05
SOFTNESS = 0.25  # of the dead zone


@dataclass(frozen=True)
class Motion:
    """What the background does over a whole clip.

    Attributes:
        dx: of the picture's centre to the right, as a share of the shorter side.
        dy: the same downwards.
        log_scale: logarithm of how much larger things become.
        rotation: radians, clockwise as seen.
        agreement: mean share of tracks that follow it, in [0, 1].
        border: mean share of the cells along the border that follow it, among those with corners.
        cover: how widely the corners that follow it are spread; 1 where they are all over the picture.
    """

    dx: float
    dy: float
    log_scale: float
    rotation: float
    agreement: float
    border: float
    cover: float

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


@dataclass(frozen=True)
class Unknown:
    """Why a clip's camera cannot be told.

    Attributes:
        reason: cut; nothing_to_follow, where the picture shows too little; background_unclear, where no motion is that
            of enough of the border or of the picture.
        value: number of the frame where it shows, from 0; of an unclear background, the share of the border.
    """

    reason: str
    value: float


@dataclass(frozen=True)
class _Stretch:
    """The background's motion over a few frames: `matrix` (2, 3) takes the first to the last; see `Motion`."""

    num_steps: int
    matrix: np.ndarray
    agreement: float
    border: float
    cover: float


def motion(frames_THWC: np.ndarray) -> Motion | Unknown:
    """The camera's motion in a clip (uint8 RGB), or why it cannot be told.

    Stretches are chained, so that a camera may leave everything behind that it saw at first.
    """
    _, whole_height, whole_width, _ = frames_THWC.shape
    height, width = fitted(whole_height, whole_width, MAX_SIDE_PX)
    grey_THW = [_grey(frame_HWC, height, width) for frame_HWC in frames_THWC]
    stretches: list[_Stretch] = []
    at = 0
    while at < len(grey_THW) - 1:
        found = _stretch(grey_THW[at : at + STRETCH + 1])
        if isinstance(found, str):
            return Unknown(found, at + 1)
        stretches.append(found)
        at += found.num_steps
    if not stretches:
        return Unknown("nothing_to_follow", 0)
    centre, shift, log_scale, rotation = np.array([width / 2, height / 2]), np.zeros(2), 0.0, 0.0
    for one in stretches:
        shift += one.matrix[:, :2] @ centre + one.matrix[:, 2] - centre
        log_scale += log(max(hypot(one.matrix[0, 0], one.matrix[1, 0]), 1e-6))
        rotation += float(np.arctan2(one.matrix[1, 0], one.matrix[0, 0]))
    dx, dy = shift / min(height, width)
    steps = [one.num_steps for one in stretches]
    agreement, border, cover = (
        float(np.average([getattr(one, name) for one in stretches], weights=steps))
        for name in ("agreement", "border", "cover")
    )
    if border < LEAST_BORDER or cover < LEAST_COVER:
        return Unknown("background_unclear", border)
    return Motion(float(dx), float(dy), log_scale, rotation, agreement, border, cover)


def _grey(frame_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    if grey_HW.shape == (height, width):
        return grey_HW
    return cv2.resize(grey_HW, (width, height), interpolation=cv2.INTER_AREA)


def _stretch(grey_THW: list[np.ndarray]) -> _Stretch | str:
    """The background from the first frame on for as long as enough corners are left; or why it cannot be told."""
    corners_N2 = _corners(grey_THW[0])
    starts_N2, ends_N2, num_steps = corners_N2, corners_N2, 0
    if len(corners_N2) < MIN_CORNERS:
        return "nothing_to_follow"
    for before_HW, after_HW in pairwise(grey_THW):
        there_N2, kept_N = _followed(before_HW, after_HW, ends_N2)
        if num_steps and kept_N.sum() < LEAST_LEFT * len(corners_N2):
            break
        if kept_N.mean() < CUT_LEFT and _likeness(before_HW, after_HW) < CUT_ALIKE:
            return "cut"
        starts_N2, ends_N2, num_steps = starts_N2[kept_N], there_N2[kept_N], num_steps + 1
        if len(ends_N2) < MIN_CORNERS:
            break
    layers = _layers(starts_N2, ends_N2)
    if not layers:
        return "nothing_to_follow"
    cells_N = _cells(starts_N2, grey_THW[0].shape)
    matrix, follows_N = max(layers, key=lambda layer: _held(cells_N, layer[1]))
    border, _ = _held(cells_N, follows_N)
    cover = _cover(starts_N2[follows_N], grey_THW[0].shape)
    return _Stretch(num_steps, matrix, float(follows_N.mean()), border, cover)


def _corners(grey_HW: np.ndarray) -> np.ndarray:
    """Corners (x, y) in px, the sharpest of each cell of a grid."""
    found_N12 = cv2.goodFeaturesToTrack(grey_HW, 0, 0.002, max(2.0, min(grey_HW.shape) / 60))
    if found_N12 is None:
        return np.zeros((0, 2), np.float32)
    found_N2 = found_N12.reshape(-1, 2)  # the sharpest first
    cells_N = _cells(found_N2, grey_HW.shape)
    order_N = np.argsort(cells_N, kind="stable")
    sorted_N = cells_N[order_N]
    rank_N = np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
    return found_N2[np.sort(order_N[rank_N < CELL_CORNERS])]


def _followed(before_HW: np.ndarray, after_HW: np.ndarray, points_N2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points are in the next frame, and which of them were found again within it."""
    height, width = before_HW.shape
    window = max(7, min(height, width) // 16) | 1
    lk: dict[str, Any] = {"winSize": (window, window), "maxLevel": 3}
    points_N12 = points_N2[:, None]
    there_N12, went_N1, _ = cv2.calcOpticalFlowPyrLK(before_HW, after_HW, points_N12, None, **lk)
    back_N12, came_N1, _ = cv2.calcOpticalFlowPyrLK(after_HW, before_HW, there_N12, None, **lk)
    error_N = np.linalg.norm((back_N12 - points_N12).reshape(-1, 2), axis=1)
    there_N2 = there_N12.reshape(-1, 2)
    within_N = ((there_N2 >= 0) & (there_N2 < (width, height))).all(axis=1)
    return there_N2, (went_N1.ravel() == 1) & (came_N1.ravel() == 1) & (error_N < RETURN_PX) & within_N


def _layers(starts_N2: np.ndarray, ends_N2: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Similarities (2, 3), the next one from the corners that follow none before it, with who follows each."""
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    rest_N = np.ones(len(starts_N2), dtype=bool)
    while len(layers) < LAYERS and rest_N.sum() >= MIN_CORNERS:
        cv2.setRNGSeed(0)  # RANSAC draws; the same clip has one motion
        matrix, _ = cv2.estimateAffinePartial2D(
            starts_N2[rest_N], ends_N2[rest_N], method=cv2.RANSAC, ransacReprojThreshold=LAYER_PX
        )
        if matrix is None:
            break
        moved_N2 = starts_N2 @ matrix[:, :2].T + matrix[:, 2]
        follows_N = np.linalg.norm(moved_N2 - ends_N2, axis=1) < LAYER_PX
        layers.append((matrix, follows_N))
        rest_N &= ~follows_N
    return layers


def _cells(points_N2: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Number of the grid's cell that each point lies in, row by row."""
    columns_N, rows_N = np.clip(points_N2 * GRID / (size[1], size[0]), 0, GRID - 1).astype(int).T
    return rows_N * GRID + columns_N


_ROWS, _COLUMNS = np.divmod(np.arange(GRID**2), GRID)
_BORDER = np.isin(_ROWS, (0, GRID - 1)) | np.isin(_COLUMNS, (0, GRID - 1))


def _held(cells_N: np.ndarray, follows_N: np.ndarray) -> tuple[float, float]:
    """The shares of the cells with corners, along the border and anywhere, in which half of them or more follow."""
    total = np.bincount(cells_N, minlength=GRID**2)
    following = np.bincount(cells_N[follows_N], minlength=GRID**2)
    held = (following > 0) & (2 * following >= total)
    return float(held[_BORDER].sum() / max(1, (total[_BORDER] > 0).sum())), float(held.sum() / (total > 0).sum())


def _cover(points_N2: np.ndarray, size: tuple[int, ...]) -> float:
    """How widely points are spread: the root of their covariance's determinant; 1 for points all over the picture."""
    if len(points_N2) < MIN_CORNERS:
        return 0.0
    determinant = float(np.linalg.det(np.cov(points_N2.T)))
    return 12 * max(determinant, 0.0) ** 0.5 / (size[0] * size[1])


def _likeness(before_HW: np.ndarray, after_HW: np.ndarray) -> float:
    """Correlation of two frames made very small, in [-1, 1]."""
    before, after = (
        cv2.resize(grey_HW, (CUT_SIDE, CUT_SIDE), interpolation=cv2.INTER_AREA).astype(float)
        for grey_HW in (before_HW, after_HW)
    )
    before, after = before - before.mean(), after - after.mean()
    return float((before * after).sum() / max((before**2).sum() * (after**2).sum(), 1e-12) ** 0.5)


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
        return {"questions": [{"question": text, "expected": "yes", "gate": False, "negated": negate(text)}]}


def spec(judge: Camera) -> EngineSpec:
    """The camera judge has no settings."""
    return EngineSpec({"backend": judge.backend, "model": "opencv", "revision": RULE}, {})


class CameraJudge:
    """Answers the questions of `CameraQuestions`; others, and clips whose camera cannot be told, get no mass."""

    kind = "camera"
    model = "opencv"

    def __init__(self, engine: dict[str, Any]) -> None:
        self.revision = engine["revision"]

    def answer(self, frames_THWC: np.ndarray, fps: float, asked: list[str]) -> list[Answer]:
        """Answer questions about one clip; readings are the motion's numbers (see `Motion`), or why there are none."""
        del fps
        found = motion(frames_THWC)
        return [_answer(text, found) for text in asked]


def _answer(text: str, found: Motion | Unknown) -> Answer:
    pattern = re.escape(_QUESTION).replace(r"\{what\}", "(.+)")
    match = re.fullmatch(pattern, negated_of(text) or text, re.IGNORECASE)
    wanted = set(match[1].split(", ")) if match else set()
    if not wanted or wanted - set(LABELS):
        return Answer(0.0, 0.0)
    if isinstance(found, Unknown):
        return Answer(0.0, 0.0, {NO_ANSWER + found.reason: [found.value]})
    score = found.score(wanted)
    answer = Answer(score, 1 - score, {f"camera {name}": [value] for name, value in asdict(found).items()})
    return answer if negated_of(text) is None else answer.negated

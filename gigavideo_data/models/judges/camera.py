"""Camera motion by geometry: corners are tracked from frame to frame, and a similarity is fitted to the background.

No model and no weights: Lucas-Kanade tracks with a forward-backward check, and RANSAC once for each independent motion.
The background is the motion that most of the border follows: a background reaches nearly all of the border, and an
object rarely does, however large it is and however much texture it has. So corners are spread over the whole picture.

Multimodal models are poor at this, and a rule on the sign of a few tracks, as in VBench-2.0, takes an object for the
camera.

Directions are those of the camera: where it pans to the right, the picture moves to the left. x points right, y down.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import exp, hypot, log
from typing import Any

import cv2
import numpy as np

from gigavideo_data.models.judges.asking import fit_within
from gigavideo_data.models.judges.base import Answer, negate, negated_of
from gigavideo_data.models.llm.templates.extension import camera_moves
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.recipe.recipe import Camera
from gigavideo_data.scoring.rewards import NO_ANSWER

RULE = "camera-2"  # the judge's revision: raise the number with every change that may change an answer

MOVES = ("pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out")
LABELS = ("static", *MOVES)

MAX_SIDE_PX = 480  # larger frames are shrunk: the distances in px below apply to this size
GRID = 8  # cells along each side of the picture
CELL_CORNERS = 5  # most corners of a cell, so that an object with much texture counts no more than its area
MIN_CORNERS = 8  # fewer corners between two frames decide nothing
RETURN_PX = 0.7  # a track that, followed backward, ends farther from its start is lost
# Corners are tracked over several frames before motions are separated: slow ones differ too little between two frames.
SEGMENT_FRAMES, MIN_TRACKED = 8, 0.6  # most frames of a segment; least share of its corners that must still be tracked
MAX_MOTIONS = 3  # independent motions fitted in one segment
INLIER_PX = 1.0  # largest distance of a corner from where a motion takes it
# A cut: a smaller share of corners is tracked than this, and thumbnails of the two frames correlate less than this.
CUT_TRACKED, CUT_CORRELATION, CUT_SIDE_PX = 0.1, 0.7, 16
# Least share of the border, and least cover of the whole picture, that must follow the camera's motion.
MIN_BORDER, MIN_COVER = 0.4, 0.3
# Where P(move) is 0.5, over the whole clip: shift as a share of the shorter side, and the logarithm of the scale.
# Both are well above the noise of compression.
HALF_SHIFT, HALF_LOG_SCALE = 0.04, 0.05
SOFTNESS = 0.25  # width of the sigmoid, as a share of those


@dataclass(frozen=True)
class Motion:
    """The motion of the background over a whole clip.

    Attributes:
        dx: shift of the picture's centre to the right, as a share of the shorter side.
        dy: the same downwards.
        log_scale: natural logarithm of the magnification.
        rotation: radians, clockwise.
        agreement: mean share of tracks that follow it, in [0, 1].
        border: mean share of the cells along the border that follow it, among those with corners, in [0, 1].
        cover: how widely the corners that follow it are spread; 1 where they cover the whole picture.
    """

    dx: float
    dy: float
    log_scale: float
    rotation: float
    agreement: float
    border: float
    cover: float

    def probabilities(self) -> dict[str, float]:
        """P(label) of each label, in [0, 1]; `static` is 1 less the largest of the others."""
        strengths = {
            "pan left": self.dx / HALF_SHIFT,
            "pan right": -self.dx / HALF_SHIFT,
            "tilt up": self.dy / HALF_SHIFT,
            "tilt down": -self.dy / HALF_SHIFT,
            "zoom in": self.log_scale / HALF_LOG_SCALE,
            "zoom out": -self.log_scale / HALF_LOG_SCALE,
        }
        moves = {name: _sigmoid((strength - 1) / SOFTNESS) for name, strength in strengths.items()}
        return {"static": 1.0 - max(moves.values()), **moves}

    def score(self, expected: set[str]) -> float:
        """The least probability of the expected labels, reduced by up to half where another move is likely.

        A motion that has every label is not the right one, so precision counts, unlike in VBench-2.0.

        Raises:
            KeyError: a label that is not one of `LABELS`.
        """
        probabilities = self.probabilities()
        least = min(probabilities[label] for label in expected)
        others = [p for label, p in probabilities.items() if label not in expected | {"static"}]
        return least * (1 - max(others, default=0.0) / 2)


@dataclass(frozen=True)
class Unknown:
    """Why the motion of a clip's camera is not known.

    Attributes:
        reason: cut; nothing_to_follow, where too few corners are found; background_unclear, where no motion is followed
            by enough of the border or of the picture.
        value: number of the frame, from 0; of an unclear background, the share of the border.
    """

    reason: str
    value: float


@dataclass(frozen=True)
class _Segment:
    """The background's motion over `num_steps` frames: `matrix` (2, 3) maps the first to the last; see `Motion`."""

    num_steps: int
    matrix: np.ndarray
    agreement: float
    border: float
    cover: float


def motion(frames_THWC: np.ndarray) -> Motion | Unknown:
    """The camera's motion in a clip (uint8 RGB), or why it is not known.

    Segments are chained, so the camera may move past everything that the first frame shows.
    """
    _, full_height, full_width, _ = frames_THWC.shape
    height, width = fit_within(full_height, full_width, MAX_SIDE_PX)
    grey_THW = [_grey(frame_HWC, height, width) for frame_HWC in frames_THWC]
    segments: list[_Segment] = []
    start = 0
    while start < len(grey_THW) - 1:
        segment = _segment(grey_THW[start : start + SEGMENT_FRAMES + 1])
        if isinstance(segment, str):
            return Unknown(segment, start + 1)
        segments.append(segment)
        start += segment.num_steps
    if not segments:
        return Unknown("nothing_to_follow", 0)
    centre, shift, log_scale, rotation = np.array([width / 2, height / 2]), np.zeros(2), 0.0, 0.0
    for one in segments:
        shift += one.matrix[:, :2] @ centre + one.matrix[:, 2] - centre
        log_scale += log(max(hypot(one.matrix[0, 0], one.matrix[1, 0]), 1e-6))
        rotation += float(np.arctan2(one.matrix[1, 0], one.matrix[0, 0]))
    dx, dy = shift / min(height, width)
    steps = [one.num_steps for one in segments]
    agreement, border, cover = (
        float(np.average([getattr(one, name) for one in segments], weights=steps))
        for name in ("agreement", "border", "cover")
    )
    if border < MIN_BORDER or cover < MIN_COVER:
        return Unknown("background_unclear", border)
    return Motion(float(dx), float(dy), log_scale, rotation, agreement, border, cover)


def _grey(frame_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    if grey_HW.shape == (height, width):
        return grey_HW
    return cv2.resize(grey_HW, (width, height), interpolation=cv2.INTER_AREA)


def _segment(grey_THW: list[np.ndarray]) -> _Segment | str:
    """The background's motion from the first frame on, while enough corners are tracked; or why it is not known."""
    corners_N2 = _corners(grey_THW[0])
    starts_N2, ends_N2, num_steps = corners_N2, corners_N2, 0
    if len(corners_N2) < MIN_CORNERS:
        return "nothing_to_follow"
    for before_HW, after_HW in pairwise(grey_THW):
        moved_N2, tracked_N = _track(before_HW, after_HW, ends_N2)
        if num_steps and tracked_N.sum() < MIN_TRACKED * len(corners_N2):
            break
        if tracked_N.mean() < CUT_TRACKED and _correlation(before_HW, after_HW) < CUT_CORRELATION:
            return "cut"
        starts_N2, ends_N2, num_steps = starts_N2[tracked_N], moved_N2[tracked_N], num_steps + 1
        if len(ends_N2) < MIN_CORNERS:
            break
    motions = _motions(starts_N2, ends_N2)
    if not motions:
        return "nothing_to_follow"
    cells_N = _cells(starts_N2, grey_THW[0].shape)
    matrix, follows_N = max(motions, key=lambda each: _shares(cells_N, each[1]))
    border, _ = _shares(cells_N, follows_N)
    cover = _cover(starts_N2[follows_N], grey_THW[0].shape)
    return _Segment(num_steps, matrix, float(follows_N.mean()), border, cover)


def _corners(grey_HW: np.ndarray) -> np.ndarray:
    """Corners (x, y) in px: the sharpest ones of each cell of the grid."""
    found_N12 = cv2.goodFeaturesToTrack(grey_HW, 0, 0.002, max(2.0, min(grey_HW.shape) / 60))
    if found_N12 is None:
        return np.zeros((0, 2), np.float32)
    found_N2 = found_N12.reshape(-1, 2)  # the sharpest first
    cells_N = _cells(found_N2, grey_HW.shape)
    order_N = np.argsort(cells_N, kind="stable")
    sorted_N = cells_N[order_N]
    rank_N = np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
    return found_N2[np.sort(order_N[rank_N < CELL_CORNERS])]


def _track(before_HW: np.ndarray, after_HW: np.ndarray, points_N2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points' positions in the next frame, and which of them were tracked there and back."""
    height, width = before_HW.shape
    window = max(7, min(height, width) // 16) | 1
    lk: dict[str, Any] = {"winSize": (window, window), "maxLevel": 3}
    points_N12 = points_N2[:, None]
    moved_N12, forward_N1, _ = cv2.calcOpticalFlowPyrLK(before_HW, after_HW, points_N12, None, **lk)
    back_N12, backward_N1, _ = cv2.calcOpticalFlowPyrLK(after_HW, before_HW, moved_N12, None, **lk)
    error_N = np.linalg.norm((back_N12 - points_N12).reshape(-1, 2), axis=1)
    moved_N2 = moved_N12.reshape(-1, 2)
    within_N = ((moved_N2 >= 0) & (moved_N2 < (width, height))).all(axis=1)
    return moved_N2, (forward_N1.ravel() == 1) & (backward_N1.ravel() == 1) & (error_N < RETURN_PX) & within_N


def _motions(starts_N2: np.ndarray, ends_N2: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Similarities (2, 3), each fitted to the corners that follow none before it; and the mask of those that follow."""
    motions: list[tuple[np.ndarray, np.ndarray]] = []
    rest_N = np.ones(len(starts_N2), dtype=bool)
    while len(motions) < MAX_MOTIONS and rest_N.sum() >= MIN_CORNERS:
        cv2.setRNGSeed(0)  # RANSAC samples at random; the same clip must give the same motion
        matrix, _ = cv2.estimateAffinePartial2D(
            starts_N2[rest_N], ends_N2[rest_N], method=cv2.RANSAC, ransacReprojThreshold=INLIER_PX
        )
        if matrix is None:
            break
        moved_N2 = starts_N2 @ matrix[:, :2].T + matrix[:, 2]
        follows_N = np.linalg.norm(moved_N2 - ends_N2, axis=1) < INLIER_PX
        motions.append((matrix, follows_N))
        rest_N &= ~follows_N
    return motions


def _cells(points_N2: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The number of each point's cell in the grid, counted row by row."""
    columns_N, rows_N = np.clip(points_N2 * GRID / (size[1], size[0]), 0, GRID - 1).astype(int).T
    return rows_N * GRID + columns_N


_ROWS, _COLUMNS = np.divmod(np.arange(GRID**2), GRID)
_BORDER = np.isin(_ROWS, (0, GRID - 1)) | np.isin(_COLUMNS, (0, GRID - 1))


def _shares(cells_N: np.ndarray, follows_N: np.ndarray) -> tuple[float, float]:
    """The share of cells, along the border and anywhere, in which at least half of the corners follow a motion."""
    total = np.bincount(cells_N, minlength=GRID**2)
    following = np.bincount(cells_N[follows_N], minlength=GRID**2)
    follows = (following > 0) & (2 * following >= total)
    return float(follows[_BORDER].sum() / max(1, (total[_BORDER] > 0).sum())), float(follows.sum() / (total > 0).sum())


def _cover(points_N2: np.ndarray, size: tuple[int, ...]) -> float:
    """How widely points are spread: the root of their covariance's determinant; 1 for points in the whole picture."""
    if len(points_N2) < MIN_CORNERS:
        return 0.0
    determinant = float(np.linalg.det(np.cov(points_N2.T)))
    return 12 * max(determinant, 0.0) ** 0.5 / (size[0] * size[1])


def _correlation(before_HW: np.ndarray, after_HW: np.ndarray) -> float:
    """The correlation of thumbnails of two frames, in [-1, 1]."""
    before, after = (
        cv2.resize(grey_HW, (CUT_SIDE_PX, CUT_SIDE_PX), interpolation=cv2.INTER_AREA).astype(float)
        for grey_HW in (before_HW, after_HW)
    )
    before, after = before - before.mean(), after - after.mean()
    return float((before * after).sum() / max((before**2).sum() * (after**2).sum(), 1e-12) ** 0.5)


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-max(min(x, 50.0), -50.0)))


# --- the judge -------------------------------------------------------------------------------------------------------

_QUESTION = "Does the camera do this and nothing else: {what}?"


class CameraQuestions:
    """Writes the question that the camera judge can answer: only one, since geometry has no bias towards yes."""

    both_answers = False

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def questions(self, prompt: str, **details: Any) -> dict[str, Any]:
        """The question on the camera moves that a prompt states (see `SpecialistQuestions`).

        There is none if it states no move, or one that is not in `LABELS`.
        """
        del details
        moves = camera_moves(prompt)
        if not moves or moves - set(LABELS):
            return {"questions": []}
        text = _QUESTION.format(what=", ".join(sorted(moves)))
        return {"questions": [{"question": text, "expected": "yes", "gate": False, "negated": negate(text)}]}


def spec(judge: Camera) -> EngineSpec:
    """The spec of the camera judge, which has no settings."""
    return EngineSpec({"backend": judge.backend, "model": "opencv", "revision": RULE}, {})


class CameraJudge:
    """Answers the questions of `CameraQuestions`.

    P(yes) and P(no) are 0 for any other question, and for a clip whose camera motion is not known.
    """

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> list[Answer]:
        """Answer questions about one clip (see `Judge`); readings are those of `Motion`, or the reason of `Unknown`."""
        del fps
        found = motion(frames_THWC)
        return [_answer(text, found) for text in questions]


def _answer(text: str, found: Motion | Unknown) -> Answer:
    pattern = re.escape(_QUESTION).replace(r"\{what\}", "(.+)")
    match = re.fullmatch(pattern, negated_of(text) or text, re.IGNORECASE)
    expected = set(match[1].split(", ")) if match else set()
    if not expected or expected - set(LABELS):
        return Answer(0.0, 0.0)
    if isinstance(found, Unknown):
        return Answer(0.0, 0.0, {NO_ANSWER + found.reason: [found.value]})
    score = found.score(expected)
    answer = Answer(score, 1 - score, {f"camera {name}": [value] for name, value in asdict(found).items()})
    return answer if negated_of(text) is None else answer.negated

"""The measurements of the miniature's judge: coloured blobs, their shapes and paths, the floor, the camera's motion.

Everything is measured in decoded frames by colour, moments and sparse optical flow; the renderer's state is not used.
Moments change little with soft edges. Units: px and frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from gigavideo_data.miniature.world import COLORS

MIN_AREA = 10.0  # px; smaller specks are compression noise
CHROMA_EDGE = 50.0  # distance from grey, in RGB levels, at which a pixel is half an object's
ASPECTS = {"circle": 0.0, "bar": 0.55, "pillar": -0.55}  # log of width over height; 0.69 for sharp edges at 2 : 1
FLOOR_STEP = 12.0  # grey levels between the floor and what is above it, over four rows


@dataclass(frozen=True)
class Blob:
    """One connected patch of one colour in one frame.

    Attributes:
        x: centre of mass.
        y: centre of mass, downwards.
        area: sum of the soft mask.
        width: standard deviation of its mass along x.
        height: the same along y.
    """

    x: float
    y: float
    area: float
    width: float
    height: float

    @property
    def aspect(self) -> float:
        """Log of width over height."""
        return float(np.log(self.width / self.height))

    @property
    def solidity(self) -> float:
        """Area over that of a filled rectangle or ellipse of this width and height: 1, less where scattered."""
        return self.area / (12.3 * self.width * self.height)


@dataclass(frozen=True)
class Sight:
    """The measurements of one clip. frames_THWC is uint8 RGB."""

    frames_THWC: np.ndarray

    @cached_property
    def blobs(self) -> dict[str, list[list[Blob]]]:
        """Per colour and frame: the blobs, largest first."""
        return {color: [_blobs(alpha_HW) for alpha_HW in alpha_THW] for color, alpha_THW in self._alpha.items()}

    @cached_property
    def _alpha(self) -> dict[str, np.ndarray]:
        """Per colour: how much each pixel belongs to an object of it, (T, H, W) in [0, 1]."""
        rgb = self.frames_THWC.astype(np.float32)
        chroma = rgb - rgb.mean(-1, keepdims=True)
        strength = np.linalg.norm(chroma, axis=-1)
        names = list(COLORS)
        anchors = np.array([COLORS[name] for name in names], np.float32)
        anchors -= anchors.mean(1, keepdims=True)
        anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
        likeness = np.exp(14 * (chroma @ anchors.T) / np.maximum(strength, 1)[..., None])
        share = likeness / likeness.sum(-1, keepdims=True)
        solid = sigmoid((strength - CHROMA_EDGE) / 9)
        return {name: share[..., i] * solid for i, name in enumerate(names)}

    @cached_property
    def camera(self) -> tuple[float, float, float] | None:
        """(dx, dy, log scale) of the ground over the whole clip; None where the ground shows nothing to follow."""
        grey_THW = [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), None, fx=4, fy=4) for f in self.frames_THWC]
        colored_THW = np.sum(list(self._alpha.values()), axis=0) > 0.15
        total = np.zeros(3)
        for before, after, colored in zip(grey_THW, grey_THW[1:], colored_THW, strict=False):
            step = _ground_step(before, after, colored)
            if step is None:
                return None
            total += step
        return float(total[0]), float(total[1]), float(total[2])

    @cached_property
    def floor_y(self) -> float | None:
        """Top of the floor: the strongest step of brightness in the lower half that runs across the picture."""
        row_H = np.median(self.frames_THWC.astype(np.float32).mean(-1), axis=(0, 2))
        step_H = np.abs(row_H[4:] - row_H[:-4])
        lower = len(step_H) // 2
        y = lower + int(step_H[lower:].argmax())
        return y + 2.5 if step_H[y] > FLOOR_STEP else None

    def track(self, color: str) -> np.ndarray:
        """(T, 4) x, y, area and lowest edge of a colour's largest blob; NaN where there is none."""
        rows = [
            (b[0].x, b[0].y, b[0].area, b[0].y + 1.8 * b[0].height) if b else (np.nan,) * 4 for b in self.blobs[color]
        ]
        return np.array(rows)

    def shape_probability(self, color: str, shape: str, frames: slice = slice(None)) -> float:
        """P(the colour's largest blob has that shape and is there), over some frames."""
        seen = [b[0] for b in self.blobs[color][frames] if b]
        if not seen:
            return 0.0
        # Speed smears a thing along its way: the calmer half of the frames tells its shape.
        centre_T2 = np.array([(b.x, b.y) for b in seen])
        speed_T = np.abs(np.gradient(centre_T2, axis=0)).sum(1) if len(seen) > 1 else np.zeros(1)
        calm = [seen[t] for t in np.argsort(speed_T, kind="stable")[: len(seen) // 2 + 1]]
        aspect = np.median([b.aspect for b in calm])
        off = {name: ((aspect - mean) / 0.1) ** 2 / 2 for name, mean in ASPECTS.items()}
        likeness = {name: np.exp(min(off.values()) - value) for name, value in off.items()}
        solid = sigmoid((np.median([b.solidity for b in calm]) - 0.6) / 0.04)
        present = len(seen) / len(self.blobs[color][frames])
        return float(present * solid * likeness[shape] / sum(likeness.values()))

    def counts(self, color: str, shape: str) -> list[int]:
        """Per frame: how many blobs of that colour could have that shape."""
        return [sum(abs(b.aspect - ASPECTS[shape]) < 0.35 for b in blobs) for blobs in self.blobs[color]]


def sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def _blobs(alpha_HW: np.ndarray) -> list[Blob]:
    count, labels = cv2.connectedComponents((alpha_HW > 0.5).astype(np.uint8), connectivity=4)
    ys, xs = np.mgrid[: alpha_HW.shape[0], : alpha_HW.shape[1]]
    blobs = []
    for label in range(1, count):
        # The soft rim of a blob counts, its neighbours do not.
        rim = cv2.dilate((labels == label).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        mass = np.where(rim & ((labels == label) | (labels == 0)), alpha_HW, 0)
        area = float(mass.sum())
        if area < MIN_AREA:
            continue
        x, y = float((mass * xs).sum() / area), float((mass * ys).sum() / area)
        width, height = (float(np.sqrt((mass * d**2).sum() / area + 1e-6)) for d in (xs - x, ys - y))
        blobs.append(Blob(x, y, area, width, height))
    return sorted(blobs, key=lambda b: -b.area)


def _ground_step(before: np.ndarray, after: np.ndarray, colored_HW: np.ndarray) -> np.ndarray | None:
    """(dx, dy, log scale) between two frames, from corners of the ground that Lucas-Kanade follows."""
    objects = cv2.dilate(colored_HW.astype(np.uint8), np.ones((5, 5), np.uint8))
    ground = cv2.resize(1 - objects, before.shape[::-1], interpolation=cv2.INTER_NEAREST)
    if before[ground > 0].size == 0 or before[ground > 0].std() < 9:
        return None
    points = cv2.goodFeaturesToTrack(before, 80, 0.02, 7, mask=ground)
    if points is None or len(points) < 8:
        return None
    # A zoom's flow is followed on a smooth texture too: by the default threshold too few points were left.
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, None, winSize=(25, 25), maxLevel=2, minEigThreshold=1e-5
    )
    ok = found[:, 0] == 1
    if ok.sum() < 8:
        return None
    centre = (np.array(before.shape[::-1]) - 1) / 2  # so that a zoom about the middle has no shift
    motion, _ = cv2.estimateAffinePartial2D(points[ok, 0] - centre, moved[ok, 0] - centre, ransacReprojThreshold=1.5)
    if motion is None:
        return None
    return np.array([motion[0, 2] / 4, motion[1, 2] / 4, np.log(np.hypot(motion[0, 0], motion[1, 0]))])

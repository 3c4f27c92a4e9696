"""The miniature's judge with gradients, for training on its reward.

An answer depends on a few measurements: position, area, width and height of a colour's largest blob in each frame.
P(yes) is computed by `judge.READINGS`, unchanged. Its derivative along each measurement is found by finite differences,
and that of a measurement along the pixels by torch. So a new reading needs no code here.

The gradient is 0 where the judge is discontinuous or saturated: counts, whether a blob exists, the position of the
floor, camera motion (optical flow), and P(yes) outside (0.005, 0.995). The probability is the judge's there too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
import torch

from gigavideo_data.miniature.judge import READINGS
from gigavideo_data.miniature.perception import CHROMA_EDGE, Blob, Sight
from gigavideo_data.miniature.world import COLORS
from gigavideo_data.models.judges.base import negated_of
from gigavideo_data.models.judges.soft import with_gradient

MEASURES = ("x", "y", "area", "width", "height")
STEP = 1e-6  # of the finite differences, px; readings are float64
LIMITS = (0.005, 0.995)  # the judge's smallest and largest P(yes)
UNKNOWN = (0.05, 0.05)  # its P(yes) and P(no) for an unknown question


class SoftMiniatureJudge:
    """See `SoftJudge`; it has no model and no state."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def probabilities(self, frames_THWC: torch.Tensor, fps: float, questions: list[str]) -> torch.Tensor:
        """P(yes) and P(no), (Q, 2): the answers of `MiniatureJudge` about the same frames, before rounding."""
        del fps  # motion is measured per frame
        sight = _FloatSight(frames_THWC.detach().cpu().numpy())
        alpha = dict(zip(COLORS, _alpha(frames_THWC).unbind(-1), strict=True))
        return torch.stack([_ask(sight, alpha, text.strip()).to(frames_THWC) for text in questions])


@dataclass(frozen=True)
class _FloatSight(Sight):
    """Float frames; only optical flow needs whole levels."""

    @cached_property
    def camera(self) -> tuple[float, float, float] | None:
        return Sight(self.frames_THWC.round().astype(np.uint8)).camera


def _ask(sight: Sight, alpha: dict[str, torch.Tensor], text: str) -> torch.Tensor:
    inner = negated_of(text)
    if inner is not None:
        return _ask(sight, alpha, inner).flip(0)
    for pattern, look in READINGS:
        match = pattern.fullmatch(text)
        if match:
            names = match.groupdict()
            p = _read(sight, alpha, partial(look, sight, **names), [c for c in COLORS if c in names.values()])
            return torch.stack([p, 1 - p])
    return torch.tensor(UNKNOWN)


def _read(sight: Sight, alpha: dict[str, torch.Tensor], look: Callable[[], float], colors: list[str]) -> torch.Tensor:
    """P(yes), with its gradient along the largest blobs of the colours in the question."""
    found = float(look())
    p = torch.tensor(found).clamp(*LIMITS)
    if not LIMITS[0] < found < LIMITS[1]:
        return p
    seen = [(color, t) for color in colors for t, blobs in enumerate(sight.blobs[color]) if blobs]
    if not seen or not alpha[colors[0]].requires_grad:
        return p
    slopes_N5 = [[_slope(look, found, sight.blobs[color][t], name) for name in MEASURES] for color, t in seen]
    measures_N5 = torch.stack([_measured(alpha[color][t]) for color, t in seen])
    return with_gradient(p, torch.tensor(slopes_N5).to(measures_N5), measures_N5)


def _slope(look: Callable[[], float], here: float, blobs: list[Blob], name: str) -> float:
    """The derivative of P(yes) along one measurement of the largest of a frame's blobs.

    It is the smaller of the two one-sided differences, and 0 where their signs differ: a discontinuity (of a count, or
    where another frame becomes the median) has no derivative.
    """
    largest, sides = blobs[0], []
    for step in (STEP, -STEP):
        blobs[0] = replace(largest, **{name: getattr(largest, name) + step})  # `look` reads this list
        sides.append((float(look()) - here) / step)
    blobs[0] = largest
    return min(sides, key=abs) if sides[0] * sides[1] > 0 else 0.0


def _alpha(frames_THWC: torch.Tensor) -> torch.Tensor:
    """How much each pixel belongs to an object of each colour, (T, H, W, colours) in [0, 1], as `Sight` has it."""
    anchors_KC = torch.tensor(list(COLORS.values())).to(frames_THWC)
    anchors_KC = anchors_KC - anchors_KC.mean(1, keepdim=True)
    anchors_KC = anchors_KC / anchors_KC.norm(dim=1, keepdim=True)
    chroma = frames_THWC - frames_THWC.mean(-1, keepdim=True)
    strength = chroma.norm(dim=-1, keepdim=True)
    share = torch.softmax(14 * (chroma @ anchors_KC.T) / strength.clamp(min=1), -1)
    return share * torch.sigmoid((strength - CHROMA_EDGE) / 9)


def _measured(alpha_HW: torch.Tensor) -> torch.Tensor:
    """The `MEASURES` of the largest blob, (5,); there must be one."""
    mass_HW = alpha_HW * torch.from_numpy(_largest(alpha_HW.detach().cpu().numpy())).to(alpha_HW)
    ys, xs = torch.meshgrid(*(torch.arange(side).to(alpha_HW) for side in alpha_HW.shape), indexing="ij")
    area = mass_HW.sum()
    x, y = (mass_HW * xs).sum() / area, (mass_HW * ys).sum() / area
    width, height = (((mass_HW * d**2).sum() / area + 1e-6).sqrt() for d in (xs - x, ys - y))
    return torch.stack([x, y, area, width, height])


def _largest(alpha_HW: np.ndarray) -> np.ndarray:
    """The mask of the largest blob, with its soft rim and without its neighbours, as in perception."""
    count, labels = cv2.connectedComponents((alpha_HW > 0.5).astype(np.uint8), connectivity=4)
    masks = []
    for label in range(1, count):
        rim = cv2.dilate((labels == label).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        masks.append(rim & ((labels == label) | (labels == 0)))
    return max(masks, key=lambda mask: float(alpha_HW[mask].sum()))

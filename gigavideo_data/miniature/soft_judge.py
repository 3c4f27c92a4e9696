"""The miniature's judge with gradients, for training on its reward.

A question reads a few measurements: place, area, width and height of a colour's largest blob in each frame. P(yes) is
what `judge.READINGS` make of them, untouched. Its slope along each measurement is found by small steps to either side;
from a measurement to the pixels the way is torch's. So a new reading has its gradient without another word.

Nothing pulls where the judge leaps or is sure: what is counted, whether a blob is there at all, where the floor is, how
the camera moves (optical flow), and P(yes) beyond 0.005 or 0.995. The probability is the judge's there too, its
gradient 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
import torch

from gigavideo_data.judges.protocol import negated_of
from gigavideo_data.judges.soft import sloped
from gigavideo_data.miniature.judge import READINGS
from gigavideo_data.miniature.perception import CHROMA_EDGE, Blob, Sight
from gigavideo_data.miniature.world import COLORS

MEASURES = ("x", "y", "area", "width", "height")
STEP = 1e-6  # of a measurement, px; readings are float64
SURE = (0.005, 0.995)  # where the judge cuts off
NO_MASS = (0.05, 0.05)  # what it says to a question that it does not understand


class SoftMiniatureJudge:
    """See `SoftJudge`. Needs no model and no state."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def probabilities(self, frames_THWC: torch.Tensor, fps: float, asked: list[str]) -> torch.Tensor:
        """P(yes) and P(no), (Q, 2): what `MiniatureJudge` answers about the same frames, before it rounds."""
        del fps  # this judge counts in frames
        sight = _FloatSight(frames_THWC.detach().cpu().numpy())
        alpha = dict(zip(COLORS, _alpha(frames_THWC).unbind(-1), strict=True))
        return torch.stack([_ask(sight, alpha, text.strip()).to(frames_THWC) for text in asked])


@dataclass(frozen=True)
class _FloatSight(Sight):
    """Frames of any levels, not only whole ones, which optical flow alone insists on."""

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
            told = match.groupdict()
            p = _read(sight, alpha, partial(look, sight, **told), [c for c in COLORS if c in told.values()])
            return torch.stack([p, 1 - p])
    return torch.tensor(NO_MASS)


def _read(sight: Sight, alpha: dict[str, torch.Tensor], look: Callable[[], float], colors: list[str]) -> torch.Tensor:
    """P(yes), with its gradient along the largest blobs of the colours that are asked about."""
    found = float(look())
    p = torch.tensor(found).clamp(*SURE)
    if not SURE[0] < found < SURE[1]:
        return p
    seen = [(color, t) for color in colors for t, blobs in enumerate(sight.blobs[color]) if blobs]
    if not seen or not alpha[colors[0]].requires_grad:
        return p
    slopes_N5 = [[_slope(look, found, sight.blobs[color][t], name) for name in MEASURES] for color, t in seen]
    measures_N5 = torch.stack([_measured(alpha[color][t]) for color, t in seen])
    return sloped(p, torch.tensor(slopes_N5).to(measures_N5), measures_N5)


def _slope(look: Callable[[], float], here: float, blobs: list[Blob], name: str) -> float:
    """How P(yes) goes with one measurement of the largest of a frame's blobs.

    Of the two sides the gentler one counts, and neither where they disagree: a leap (of a count, or where another frame
    becomes the median) is no slope.
    """
    largest, sides = blobs[0], []
    for step in (STEP, -STEP):
        blobs[0] = replace(largest, **{name: getattr(largest, name) + step})  # the sight is asked again with this one
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
    """The `MEASURES` of the largest blob, (5,), which must be there."""
    mass_HW = alpha_HW * torch.from_numpy(_largest(alpha_HW.detach().cpu().numpy())).to(alpha_HW)
    ys, xs = torch.meshgrid(*(torch.arange(side).to(alpha_HW) for side in alpha_HW.shape), indexing="ij")
    area = mass_HW.sum()
    x, y = (mass_HW * xs).sum() / area, (mass_HW * ys).sum() / area
    width, height = (((mass_HW * d**2).sum() / area + 1e-6).sqrt() for d in (xs - x, ys - y))
    return torch.stack([x, y, area, width, height])


def _largest(alpha_HW: np.ndarray) -> np.ndarray:
    """Where the largest blob lies, with its soft rim but without its neighbours, as perception cuts it out."""
    count, labels = cv2.connectedComponents((alpha_HW > 0.5).astype(np.uint8), connectivity=4)
    masks = []
    for label in range(1, count):
        rim = cv2.dilate((labels == label).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        masks.append(rim & ((labels == label) | (labels == 0)))
    return max(masks, key=lambda mask: float(alpha_HW[mask].sum()))

"""A judge that gradients flow through: it is shown frames as a decoder makes them and says how sure it is, in torch."""

from __future__ import annotations

from typing import Protocol

import torch


class SoftJudge(Protocol):
    """The differentiable side of a judge: the same questions, the same probabilities."""

    def probabilities(self, frames_THWC: torch.Tensor, fps: float, asked: list[str]) -> torch.Tensor:
        """P(yes) and P(no) of each question, (Q, 2) float32, differentiable in the frames.

        Args:
            frames_THWC: float RGB from 0 to 255, as uint8 frames are but not rounded.
            fps: Hz.
            asked: the questions' texts.
        """
        ...


def sloped(value: torch.Tensor, slope: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """A value (0-d) whose gradient in `at` is `slope`, wherever the two were found."""
    return value.detach() + (slope.detach() * (at - at.detach())).sum()

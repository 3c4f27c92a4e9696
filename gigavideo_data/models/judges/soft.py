"""The protocol of differentiable judges, whose probabilities have a gradient in the pixels."""

from __future__ import annotations

from typing import Protocol

import torch


class SoftJudge(Protocol):
    """A differentiable judge answers the same questions with the same probabilities as its `Judge`."""

    def probabilities(self, frames_THWC: torch.Tensor, fps: float, questions: list[str]) -> torch.Tensor:
        """P(yes) and P(no) of each question, (Q, 2) float32, differentiable in the frames.

        Args:
            frames_THWC: float RGB in [0, 255], not rounded.
            fps: Hz.
            questions: texts.
        """
        ...


def with_gradient(value: torch.Tensor, slope: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """The value (0-d) with the gradient `slope` in `at`; both may come from another graph or from no graph."""
    return value.detach() + (slope.detach() * (at - at.detach())).sum()

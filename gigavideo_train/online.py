"""The reward of what a model is about to make: its estimate is decoded and judged within the step.

One clip at a time, and with gradients the way back through judge and decoder is gone at once, down to the latents: what
a step holds of them is one clip's worth, whatever its batch.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from gigavideo_data import rewards
from gigavideo_data.engines import load_engine
from gigavideo_data.judges.soft import SoftJudge, sloped
from gigavideo_train.scoring import Row, Scoring


class Scorer:
    """A judge beside a pipeline's decoder, both on one device."""

    def __init__(self, scoring: Scoring, family: ModuleType, pipeline: Any, device: torch.device) -> None:
        self.scoring, self.family, self.pipeline = scoring, family, pipeline
        self.judge: SoftJudge = load_engine("soft judge", scoring.judge | scoring.found_at)
        pipeline.vae.to(device)

    def rewards(self, latents_BCFHW: torch.Tensor, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Score clips by the questions of their rows.

        Args:
            latents_BCFHW: normalised, as the transformer sees them.
            rows: one per clip, for questions and frame rate.

        Returns:
            reward_B in [0, 1], differentiable in the latents if they are to be, and known_B: a clip that cannot be
            scored is not known, and stands there as 0 without gradient.
        """
        found = [self._reward(latents_CFHW, row) for latents_CFHW, row in zip(latents_BCFHW, rows, strict=True)]
        known_B = torch.tensor([reward is not None for reward in found], device=latents_BCFHW.device)
        nothing = latents_BCFHW.new_zeros(())
        return torch.stack([nothing if reward is None else reward for reward in found]), known_B

    def _reward(self, latents_CFHW: torch.Tensor, row: Row) -> torch.Tensor | None:
        at_CFHW = latents_CFHW.detach().requires_grad_(latents_CFHW.requires_grad)
        reward = self._judged(self.family.decode(self.pipeline, at_CFHW), row)
        if reward is None or not reward.requires_grad:
            return reward
        (slope_CFHW,) = torch.autograd.grad(reward, at_CFHW)
        return sloped(reward, slope_CFHW, latents_CFHW)

    def _judged(self, frames_THWC: torch.Tensor, row: Row) -> torch.Tensor | None:
        """As `units` sums up stored rewards: the mean over the dimensions trained that could be scored."""
        dimensions = self.scoring.dimensions
        asked = [answer for answer in row["answers"] if answer["dimension"] in dimensions]
        if not asked:
            return None
        p_Q2 = self.judge.probabilities(255 * frames_THWC, row["fps"], [answer["question"] for answer in asked])
        p_Q2 = p_Q2.to(frames_THWC)
        answers = [answer | {"p_yes": p[0], "p_no": p[1]} for answer, p in zip(asked, p_Q2, strict=True)]
        weight, total = 0.0, frames_THWC.new_zeros(())
        for name, share in dimensions.items():
            mine = [answer for answer in answers if answer["dimension"] == name]
            # Its arithmetic is that of tensors too, and so it keeps their gradients.
            reward = rewards.score(mine, self.scoring.combine[name], self.scoring.min_mass)
            if reward.value is not None:
                weight, total = weight + share, total + share * reward.value
        return total / weight if weight else None

"""The reward of what a model is about to make: its estimate is decoded and judged within the step.

With gradients, the way back through the judge is gone clip by clip, and that through the decoder as soon as its clips
are judged, down to the latents: what a step holds of them does not grow with its batch.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from gigavideo_data.models.judges.soft import SoftJudge, sloped
from gigavideo_data.models.registry import load_engine
from gigavideo_data.scoring import rewards
from gigavideo_train.judging.judges import Row, Scoring


class Scorer:
    """A judge beside a pipeline's decoder, both on one device; `decode_batch` clips are decoded at a time."""

    def __init__(
        self, scoring: Scoring, family: ModuleType, pipeline: Any, device: torch.device, decode_batch: int
    ) -> None:
        self.scoring, self.family, self.pipeline, self.decode_batch = scoring, family, pipeline, decode_batch
        self.judge: SoftJudge = load_engine("soft judge", scoring.judge | scoring.found_at)
        pipeline.vae.to(device)
        if device.type == "cpu" and decode_batch > 1:
            for module in pipeline.vae.modules():
                if isinstance(module, torch.nn.Conv3d):  # with the channels last, a batch decodes in half the time
                    module.weight.data = module.weight.data.to(memory_format=torch.channels_last_3d)

    def rewards(self, latents_BCFHW: torch.Tensor, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Score clips by the questions of their rows.

        Args:
            latents_BCFHW: normalised, as the transformer sees them.
            rows: one per clip, for questions and frame rate.

        Returns:
            reward_B in [0, 1], differentiable in the latents if they are to be, and known_B: a clip that cannot be
            scored is not known, and stands there as 0 without gradient.
        """
        found: list[torch.Tensor | None] = []
        for at in range(0, len(rows), self.decode_batch):
            part = slice(at, at + self.decode_batch)
            found += self._rewards(latents_BCFHW[part], rows[part])
        known_B = torch.tensor([reward is not None for reward in found], device=latents_BCFHW.device)
        nothing = latents_BCFHW.new_zeros(())
        return torch.stack([nothing if reward is None else reward for reward in found]), known_B

    def _rewards(self, latents_BCFHW: torch.Tensor, rows: list[Row]) -> list[torch.Tensor | None]:
        at_BCFHW = latents_BCFHW.detach().requires_grad_(latents_BCFHW.requires_grad)
        frames_BTHWC = self.family.decode(self.pipeline, at_BCFHW)
        slopes_BTHWC = torch.zeros_like(frames_BTHWC)
        rewards = []
        for frames_THWC, slope_THWC, row in zip(frames_BTHWC, slopes_BTHWC, rows, strict=True):
            shown_THWC = frames_THWC.detach().requires_grad_(frames_THWC.requires_grad)
            reward = self._judged(shown_THWC, row)
            if reward is not None and reward.requires_grad:
                slope_THWC.copy_(*torch.autograd.grad(reward, shown_THWC))
            rewards.append(reward)
        if not frames_BTHWC.requires_grad:
            return rewards
        (slope_BCFHW,) = torch.autograd.grad(frames_BTHWC, at_BCFHW, slopes_BTHWC)
        return [
            reward if reward is None else sloped(reward, slope_CFHW, latents_CFHW)
            for reward, slope_CFHW, latents_CFHW in zip(rewards, slope_BCFHW, latents_BCFHW, strict=True)
        ]

    def _judged(self, frames_THWC: torch.Tensor, row: Row) -> torch.Tensor | None:
        """As `units` takes stored rewards: on the row's own dimension, or the mean over several."""
        dimensions = self.scoring.dimensions_of(row)
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

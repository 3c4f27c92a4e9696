"""Online rewards: decode the model's estimate of the clean clip and judge it within the training step.

For gradients, the backward pass through the judge runs clip by clip, and the one through the decoder right after its
clips are judged. Only the gradient with respect to the latents is kept, so memory does not grow with the batch.
"""

from __future__ import annotations

from typing import Any

import torch

from gigavideo_data.models.judges.soft import SoftJudge, with_gradient
from gigavideo_data.models.registry import load_engine
from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring import rewards
from gigavideo_train.judging.judges import Scoring
from gigavideo_train.models.base import Family


class Scorer:
    """A judge and the decoder of a pipeline, both on one device; `decode_batch` clips are decoded together."""

    def __init__(
        self, scoring: Scoring, family: Family, pipeline: Any, device: torch.device, decode_batch: int
    ) -> None:
        self.scoring, self.family, self.pipeline, self.decode_batch = scoring, family, pipeline, decode_batch
        self.judge: SoftJudge = load_engine("soft judge", scoring.judge | scoring.location)
        pipeline.vae.to(device)
        if device.type == "cpu" and decode_batch > 1:
            for module in pipeline.vae.modules():
                if isinstance(module, torch.nn.Conv3d):  # with channels last, a batch decodes in half the time
                    module.weight.data = module.weight.data.to(memory_format=torch.channels_last_3d)

    def rewards(self, latents_BCFHW: torch.Tensor, rows: list[DatasetRow]) -> tuple[torch.Tensor, torch.Tensor]:
        """Score clips by the questions of their rows.

        Args:
            latents_BCFHW: normalised as the transformer sees them.
            rows: one per clip, for questions and frame rate.

        Returns:
            reward_B in [0, 1], differentiable where the latents require gradients, and known_B, bool. The reward of a
            clip that cannot be scored is 0, without a gradient.
        """
        results: list[torch.Tensor | None] = []
        for start in range(0, len(rows), self.decode_batch):
            part = slice(start, start + self.decode_batch)
            results += self._rewards(latents_BCFHW[part], rows[part])
        known_B = torch.tensor([reward is not None for reward in results], device=latents_BCFHW.device)
        zero = latents_BCFHW.new_zeros(())
        return torch.stack([zero if reward is None else reward for reward in results]), known_B

    def _rewards(self, latents_BCFHW: torch.Tensor, rows: list[DatasetRow]) -> list[torch.Tensor | None]:
        leaf_BCFHW = latents_BCFHW.detach().requires_grad_(latents_BCFHW.requires_grad)
        frames_BTHWC = self.family.decode(self.pipeline, leaf_BCFHW)
        frame_grads_BTHWC = torch.zeros_like(frames_BTHWC)
        rewards = []
        for frames_THWC, frame_grad_THWC, row in zip(frames_BTHWC, frame_grads_BTHWC, rows, strict=True):
            judged_THWC = frames_THWC.detach().requires_grad_(frames_THWC.requires_grad)
            reward = self._reward(judged_THWC, row)
            if reward is not None and reward.requires_grad:
                frame_grad_THWC.copy_(*torch.autograd.grad(reward, judged_THWC))
            rewards.append(reward)
        if not frames_BTHWC.requires_grad:
            return rewards
        (latent_grads_BCFHW,) = torch.autograd.grad(frames_BTHWC, leaf_BCFHW, frame_grads_BTHWC)
        return [
            reward if reward is None else with_gradient(reward, latent_grad_CFHW, latents_CFHW)
            for reward, latent_grad_CFHW, latents_CFHW in zip(rewards, latent_grads_BCFHW, latents_BCFHW, strict=True)
        ]

    def _reward(self, frames_THWC: torch.Tensor, row: DatasetRow) -> torch.Tensor | None:
        """The reward on the row's own dimension, or the mean over several; as for stored rewards (`data.samples`)."""
        dimensions = self.scoring.dimensions_of(row)
        questions = [answer for answer in row["answers"] if answer["dimension"] in dimensions]
        if not questions:
            return None
        p_Q2 = self.judge.probabilities(255 * frames_THWC, row["fps"], [each["question"] for each in questions])
        p_Q2 = p_Q2.to(frames_THWC)
        answers = [each | {"p_yes": p[0], "p_no": p[1]} for each, p in zip(questions, p_Q2, strict=True)]
        weight, total = 0.0, frames_THWC.new_zeros(())
        for name, share in dimensions.items():
            own = [answer for answer in answers if answer["dimension"] == name]
            # The arithmetic also works on tensors, and so keeps their gradients.
            reward = rewards.score(own, self.scoring.combine[name], self.scoring.min_mass)
            if reward.value is not None:
                weight, total = weight + share, total + share * reward.value
        return total / weight if weight else None

"""What one pass costs: the loss of each unit, by strategy and realism term."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.judging.online import Scorer
from gigavideo_train.losses import flow, objectives
from gigavideo_train.losses.inputs import Inputs, Noised
from gigavideo_train.models.base import Condition

Velocity = Callable[[torch.Tensor, torch.Tensor, Condition], torch.Tensor]  # of noisy latents, sigma, what is told


@dataclass(frozen=True)
class Losses:
    """Per-unit losses (B,), where they were found, and the shapes of what was passed forward.

    Attributes:
        loss_B: each unit's part of Eq. 5, weighed and scaled.
        match_B: the matching term, or the preference loss for `dpo`; online the reward is in it.
        kl_B: the realism term, 0 where there is no real clip.
        reward_B: found online, 0 for a clip that could not be scored.
        known_B: which clips could be; none is asked offline.
        forwards: samples by the shape of their latents, those that have a way back.
    """

    loss_B: torch.Tensor
    match_B: torch.Tensor
    kl_B: torch.Tensor
    reward_B: torch.Tensor
    known_B: torch.Tensor
    forwards: Counter[torch.Size]


def losses(
    inputs: Inputs, velocity: Velocity, reference: Velocity, scorer: Scorer | None, config: TrainConfig
) -> Losses:
    """Losses of one pass.

    Args:
        inputs: on the device.
        velocity: of the model.
        reference: of the model as it was before training; `dpo` asks it.
        scorer: of the online strategies.
        config: of the run.
    """
    clip = inputs.clip
    predicted = velocity(clip.noisy_BCFHW, clip.sigma_B, clip.told)
    match_B = objectives.matching(predicted, flow.target(clip.clean_BCFHW, clip.noise_BCFHW))
    forwards = Counter({clip.clean_BCFHW.shape[1:]: len(inputs.units)})
    kl_B = reward_B = torch.zeros_like(match_B)
    known_B = torch.zeros_like(match_B, dtype=torch.bool)
    if inputs.loser:
        match_B = _preference(match_B, clip, inputs.loser, velocity, reference, config)
        forwards[inputs.loser.clean_BCFHW.shape[1:]] += len(inputs.units)
    if scorer:
        reward_B, known_B = _scored(inputs, velocity, scorer, config)
        if config.strategy == "backprop-online":
            match_B = objectives.backprop(match_B, reward_B, config.backprop_eta)
            forwards[clip.clean_BCFHW.shape[1:]] += len(inputs.units)
        else:
            match_B = objectives.reweighted(match_B, reward_B)
    if inputs.real and config.kl == "moment":  # on the twin's own forward pass
        estimate = flow.tweedie(predicted, clip.noisy_BCFHW, clip.sigma_B)
        kl_B = objectives.kl_moment(estimate, inputs.real.clean_BCFHW, clip.sigma_B)
    elif inputs.real:
        kl_B = _realism(inputs.real, velocity, config)
        forwards[inputs.real.clean_BCFHW.shape[1:]] += len(inputs.units)
    loss_B = inputs.scale_B * (inputs.weight_B * match_B + config.lambda_kl * kl_B)
    return Losses(loss_B, match_B.detach(), kl_B.detach(), reward_B.detach(), known_B, forwards)


def _preference(
    winner_B: torch.Tensor,
    winner: Noised,
    loser: Noised,
    velocity: Velocity,
    reference: Velocity,
    config: TrainConfig,
) -> torch.Tensor:
    def error_B(of: Velocity, clip: Noised) -> torch.Tensor:
        predicted = of(clip.noisy_BCFHW, clip.sigma_B, clip.told)
        return objectives.matching(predicted, flow.target(clip.clean_BCFHW, clip.noise_BCFHW))

    loser_B = error_B(velocity, loser)
    with torch.no_grad():
        before_B, before_loser_B = error_B(reference, winner), error_B(reference, loser)
    return objectives.preference(winner_B, loser_B, before_B, before_loser_B, config.dpo_beta)


def _scored(
    inputs: Inputs, velocity: Velocity, scorer: Scorer, config: TrainConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards of what the model makes, and which are known.

    Asked at the sample's own noise level, or the highest that can be judged, on the same line to the same noise.
    """
    clip = inputs.clip
    judged_B = clip.sigma_B.clamp(max=objectives.ONLINE_MAX_SIGMA)
    judged = flow.interpolate(clip.clean_BCFHW, clip.noise_BCFHW, judged_B)
    with torch.set_grad_enabled(config.strategy == "backprop-online" and torch.is_grad_enabled()):
        estimate = flow.tweedie(velocity(judged, judged_B, clip.told), judged, judged_B)
        reward_B, known_B = scorer.rewards(estimate, [unit.row for unit in inputs.units])
        # Every process goes the way back through this pass, also where no clip of it could be scored.
        return reward_B + 0.0 * estimate.flatten(1).sum(1), known_B


def _realism(real: Noised, velocity: Velocity, config: TrainConfig) -> torch.Tensor:
    predicted = velocity(real.noisy_BCFHW, real.sigma_B, real.told)
    if config.estimate == "endpoint":
        estimate = flow.endpoint(predicted, real.noise_BCFHW)
    else:
        estimate = flow.tweedie(predicted, real.noisy_BCFHW, real.sigma_B)
    if config.kl == "gaussian":
        return objectives.kl_gaussian(estimate, real.clean_BCFHW)
    return objectives.kl_softmax(estimate, real.clean_BCFHW, config.temperature)

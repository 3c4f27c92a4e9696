"""The loss of each sample of a forward pass, by strategy and realism term."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.judging.online import Scorer
from gigavideo_train.losses import flow, nft, objectives
from gigavideo_train.losses.inputs import Inputs, Noised
from gigavideo_train.models.base import Velocity


@dataclass(frozen=True)
class Losses:
    """Losses per sample (B,), on the device of the inputs, and the shapes of the forward passes.

    Attributes:
        loss_B: each sample's part of Eq. 5, weighted and scaled.
        match_B: the matching term, or the loss of `dpo` or `nft`; for online strategies it includes the reward.
        kl_B: the realism term; 0 where there is no real clip.
        reward_B: computed online; 0 for a clip that could not be scored.
        known_B: whether a clip could be scored; False without an online strategy.
        change_B: for `nft`, |v_theta - v_old| / |v - v_old|; 0 elsewhere.
        distance_B: for `nft` with a first model other than v_old, |v_theta - v_first| / |v - v_first|; 0 elsewhere.
        forwards: number of samples passed forward with a backward pass, by the shape of their latents.
    """

    loss_B: torch.Tensor
    match_B: torch.Tensor
    kl_B: torch.Tensor
    reward_B: torch.Tensor
    known_B: torch.Tensor
    change_B: torch.Tensor
    distance_B: torch.Tensor
    forwards: Counter[torch.Size]


def losses(
    inputs: Inputs,
    velocity: Velocity,
    reference: Velocity | None,
    scorer: Scorer | None,
    config: TrainConfig,
    first: Velocity | None = None,
) -> Losses:
    """Compute the losses of one pass.

    Args:
        inputs: on the device of the model.
        velocity: of the model.
        reference: of the model before training; used by `dpo`, `nft` and `loss_guidance`.
        scorer: of the online strategies.
        config: of the run.
        first: of the model before the first round, used by `nft`; None where it is `reference`.
    """
    clip = inputs.clip
    predicted = velocity(clip.noisy_BCFHW, clip.sigma_B, clip.condition)
    target = _target(clip, reference, config)
    match_B = objectives.matching(predicted, target)
    forwards = Counter({clip.clean_BCFHW.shape[1:]: len(inputs.samples)})
    kl_B = reward_B = change_B = distance_B = torch.zeros_like(match_B)
    known_B = torch.zeros_like(match_B, dtype=torch.bool)
    if inputs.loser:
        assert reference
        match_B = _preference(match_B, clip, inputs.loser, velocity, reference, config)
        forwards[inputs.loser.clean_BCFHW.shape[1:]] += len(inputs.samples)
    if config.strategy == "nft":
        assert reference
        with torch.no_grad():
            old = reference(clip.noisy_BCFHW, clip.sigma_B, clip.condition)
            change_B = nft.relative_change(predicted, old, target)
            anchor = old
            if first:
                anchor = first(clip.noisy_BCFHW, clip.sigma_B, clip.condition)
                distance_B = nft.relative_change(predicted, anchor, target)
        match_B = nft.loss(predicted, old, target, inputs.advantage_B, config.nft_beta)
        match_B = match_B + nft.anchor(predicted, anchor, config.nft_kappa)
    if scorer:
        reward_B, known_B = _online_rewards(inputs, velocity, scorer, config)
        if config.strategy == "backprop-online":
            match_B = objectives.backprop(match_B, reward_B, config.backprop_eta)
            forwards[clip.clean_BCFHW.shape[1:]] += len(inputs.samples)
        else:
            match_B = objectives.reweighted(match_B, reward_B)
    if inputs.real and config.kl == "moment":  # uses the forward pass of the twin
        estimate = flow.tweedie(predicted, clip.noisy_BCFHW, clip.sigma_B)
        kl_B = objectives.kl_moment(estimate, inputs.real.clean_BCFHW, clip.sigma_B)
    elif inputs.real:
        kl_B = _realism(inputs.real, velocity, reference, config)
        forwards[inputs.real.clean_BCFHW.shape[1:]] += len(inputs.samples)
    loss_B = inputs.scale_B * (inputs.weight_B * match_B + config.lambda_kl * kl_B)
    return Losses(loss_B, match_B.detach(), kl_B.detach(), reward_B.detach(), known_B, change_B, distance_B, forwards)


def _target(clip: Noised, reference: Velocity | None, config: TrainConfig) -> torch.Tensor:
    """The velocity to predict; with `loss_guidance`, that for which the guided prediction is noise - clean."""
    target = flow.target(clip.clean_BCFHW, clip.noise_BCFHW)
    if config.loss_guidance is None:
        return target
    assert reference
    assert clip.unconditional
    with torch.no_grad():
        unconditional = reference(clip.noisy_BCFHW, clip.sigma_B, clip.unconditional)
    return flow.guided_target(target, unconditional, config.loss_guidance)


def _preference(
    winner_B: torch.Tensor,
    winner: Noised,
    loser: Noised,
    velocity: Velocity,
    reference: Velocity,
    config: TrainConfig,
) -> torch.Tensor:
    """The DPO loss (B,); `winner_B` is the matching error of the model on the winners."""
    loser_B = _matching_error(velocity, loser)
    with torch.no_grad():
        reference_winner_B, reference_loser_B = (_matching_error(reference, clip) for clip in (winner, loser))
    return objectives.preference(winner_B, loser_B, reference_winner_B, reference_loser_B, config.dpo_beta)


def _matching_error(velocity: Velocity, clip: Noised) -> torch.Tensor:
    predicted = velocity(clip.noisy_BCFHW, clip.sigma_B, clip.condition)
    return objectives.matching(predicted, flow.target(clip.clean_BCFHW, clip.noise_BCFHW))


def _online_rewards(
    inputs: Inputs, velocity: Velocity, scorer: Scorer, config: TrainConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards (B,) of the model's estimates, and which of them are known (B,) bool.

    Estimates are made at the sample's own noise level, or at the highest one that can be judged if that is lower, with
    the same noise.
    """
    clip = inputs.clip
    sigma_B = clip.sigma_B.clamp(max=objectives.ONLINE_MAX_SIGMA)
    noisy = flow.interpolate(clip.clean_BCFHW, clip.noise_BCFHW, sigma_B)
    with torch.set_grad_enabled(config.strategy == "backprop-online" and torch.is_grad_enabled()):
        estimate = flow.tweedie(velocity(noisy, sigma_B, clip.condition), noisy, sigma_B)
        reward_B, known_B = scorer.rewards(estimate, [sample.row for sample in inputs.samples])
        # Every process must run the backward of this pass, even if none of its clips could be scored.
        return reward_B + 0.0 * estimate.flatten(1).sum(1), known_B


def _realism(real: Noised, velocity: Velocity, reference: Velocity | None, config: TrainConfig) -> torch.Tensor:
    """The realism term (B,) on a forward pass of the real clips."""

    def estimate(velocity_BCFHW: torch.Tensor) -> torch.Tensor:
        if config.estimate == "endpoint":
            return flow.endpoint(velocity_BCFHW, real.noise_BCFHW)
        return flow.tweedie(velocity_BCFHW, real.noisy_BCFHW, real.sigma_B)

    predicted = estimate(velocity(real.noisy_BCFHW, real.sigma_B, real.condition))
    if config.kl == "softmax":
        return objectives.kl_softmax(predicted, real.clean_BCFHW, config.temperature)
    clean = real.clean_BCFHW
    if config.loss_guidance is not None:
        clean = estimate(_target(real, reference, config))
    return objectives.kl_gaussian(predicted, clean)

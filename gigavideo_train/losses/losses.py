"""The loss of each sample of a pass, by strategy and realism term, in parts that share no forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce

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

    @classmethod
    def of(cls, loss_B: torch.Tensor, forwards: Counter[torch.Size], **terms: torch.Tensor) -> Losses:
        """A part with these terms, detached; the others are 0."""
        zero_B = torch.zeros_like(loss_B, requires_grad=False)
        others = dict.fromkeys(("match_B", "kl_B", "reward_B", "change_B", "distance_B"), zero_B)
        detached = {name: term_B.detach() for name, term_B in terms.items()}
        return cls(loss_B, forwards=forwards, **{**others, "known_B": zero_B.bool(), **detached})

    def detached(self) -> Losses:
        """The same values without a gradient."""
        return replace(self, loss_B=self.loss_B.detach())

    def __add__(self, other: Losses) -> Losses:
        """The losses of both parts of a pass."""
        return Losses(
            self.loss_B + other.loss_B,
            self.match_B + other.match_B,
            self.kl_B + other.kl_B,
            self.reward_B + other.reward_B,
            self.known_B | other.known_B,
            self.change_B + other.change_B,
            self.distance_B + other.distance_B,
            self.forwards + other.forwards,
        )


def combined(parts: Iterable[Losses]) -> Losses:
    """The losses of a pass from its parts."""
    return reduce(Losses.__add__, parts)


def losses(
    inputs: Inputs,
    velocity: Velocity,
    reference: Velocity | None,
    scorer: Scorer | None,
    config: TrainConfig,
    first: Velocity | None = None,
) -> Losses:
    """Compute the losses of one pass at once; arguments as for `loss_parts`."""
    return combined(loss_parts(inputs, velocity, reference, scorer, config, first))


def loss_parts(
    inputs: Inputs,
    velocity: Velocity,
    reference: Velocity | None,
    scorer: Scorer | None,
    config: TrainConfig,
    first: Velocity | None = None,
) -> Iterator[Losses]:
    """Compute the losses of one pass in parts, whose sum they are.

    No two parts share a forward pass. A caller that goes back through each part before it asks for the next one keeps
    the activations of one forward pass instead of two. The two passes of `dpo` are one part: its loss is not a sum of
    them.

    Args:
        inputs: on the device of the model.
        velocity: of the model.
        reference: of the model before training; used by `dpo`, `nft` and `loss_guidance`.
        scorer: of the online strategies.
        config: of the run.
        first: of the model before the first round, used by `nft`; None where it is `reference`.
    """
    yield _clip(inputs, velocity, reference, scorer, config, first)
    if scorer and config.strategy == "backprop-online":
        yield _reward(inputs, velocity, scorer, config)
    if inputs.real and config.kl != "moment":  # that one uses the forward pass of the twin
        yield _real(inputs, inputs.real, velocity, reference, config)


def _clip(
    inputs: Inputs,
    velocity: Velocity,
    reference: Velocity | None,
    scorer: Scorer | None,
    config: TrainConfig,
    first: Velocity | None,
) -> Losses:
    """The part of the samples' own clips."""
    clip = inputs.clip
    predicted = velocity(clip.noisy_BCFHW, clip.sigma_B, clip.condition)
    target = _target(clip, reference, config)
    match_B = objectives.matching(predicted, target)
    forwards = Counter({clip.clean_BCFHW.shape[1:]: len(inputs.samples)})
    terms: dict[str, torch.Tensor] = {}
    if inputs.loser:
        assert reference
        match_B = _preference(match_B, clip, inputs.loser, velocity, reference, config)
        forwards[inputs.loser.clean_BCFHW.shape[1:]] += len(inputs.samples)
    if config.strategy == "nft":
        assert reference
        with torch.no_grad():
            old = reference(clip.noisy_BCFHW, clip.sigma_B, clip.condition)
            terms["change_B"] = nft.relative_change(predicted, old, target)
            anchor = old
            if first:
                anchor = first(clip.noisy_BCFHW, clip.sigma_B, clip.condition)
                terms["distance_B"] = nft.relative_change(predicted, anchor, target)
        match_B = nft.loss(predicted, old, target, inputs.advantage_B, config.nft_beta)
        match_B = match_B + nft.anchor(predicted, anchor, config.nft_kappa)
    if scorer and config.strategy == "reweight-online":
        terms["reward_B"], terms["known_B"] = _online_rewards(inputs, velocity, scorer, config)
        match_B = objectives.reweighted(match_B, terms["reward_B"])
    loss_B = inputs.weight_B * match_B
    if inputs.real and config.kl == "moment":
        estimate = flow.tweedie(predicted, clip.noisy_BCFHW, clip.sigma_B)
        terms["kl_B"] = objectives.kl_moment(estimate, inputs.real.clean_BCFHW, clip.sigma_B)
        loss_B = loss_B + config.lambda_kl * terms["kl_B"]
    return Losses.of(inputs.scale_B * loss_B, forwards, match_B=match_B, **terms)


def _reward(inputs: Inputs, velocity: Velocity, scorer: Scorer, config: TrainConfig) -> Losses:
    """The part of the reward through which `backprop-online` goes back; its estimate takes a forward pass."""
    reward_B, known_B = _online_rewards(inputs, velocity, scorer, config)
    match_B = objectives.backprop(torch.zeros_like(reward_B), reward_B, config.backprop_eta)
    forwards = Counter({inputs.clip.clean_BCFHW.shape[1:]: len(inputs.samples)})
    loss_B = inputs.scale_B * inputs.weight_B * match_B
    return Losses.of(loss_B, forwards, match_B=match_B, reward_B=reward_B, known_B=known_B)


def _real(inputs: Inputs, real: Noised, velocity: Velocity, reference: Velocity | None, config: TrainConfig) -> Losses:
    """The part of the real clips: the realism term."""
    kl_B = _realism(real, velocity, reference, config)
    forwards = Counter({real.clean_BCFHW.shape[1:]: len(inputs.samples)})
    return Losses.of(inputs.scale_B * config.lambda_kl * kl_B, forwards, kl_B=kl_B)


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

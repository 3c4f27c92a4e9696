"""The reward above which samples are kept, for each dimension. Plain arithmetic without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gigavideo_train.config import TrainConfig


def thresholds(rewards: Mapping[str, Sequence[float]], default: float, config: TrainConfig) -> dict[str, float]:
    """The threshold of each dimension.

    Args:
        rewards: of the scored samples of each dimension, at least one; captions are a dimension of their own.
        default: where the settings name none.
        config: of the run.
    """
    if config.tau_quantile is not None:
        return {name: quantile(each, config.tau_quantile) for name, each in rewards.items()}
    if isinstance(config.tau, dict):
        return {name: config.tau.get(name, default) for name in rewards}
    return dict.fromkeys(rewards, default if config.tau is None else config.tau)


def quantile(rewards: Sequence[float], share: float) -> float:
    """The largest reward of the lowest `share` of the rewards, but below the highest reward: some are above it.

    Many equal rewards may be the highest ones. If all rewards are equal, the result is 0, so that a reward of 0 is
    never above it.
    """
    ordered = sorted(rewards)
    below = [reward for reward in ordered if reward < ordered[-1]]
    return min(ordered[math.ceil(share * len(ordered)) - 1], below[-1] if below else 0.0)

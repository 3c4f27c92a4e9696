"""How useful the videos of a dataset are to a training with the defaults of gv-train: who is kept, with which weight.

The trainer uses the same threshold, normalisation and effective sample size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring.groups import default_tau


def reward_threshold(rows: Iterable[DatasetRow]) -> float:
    """The reward above which a sample is kept (see `groups.default_tau`)."""
    return default_tau({answer["readout"] for row in rows for answer in row["answers"]})


def mean_one(weights: Sequence[float]) -> list[float]:
    """The weights divided by their mean; unchanged if it is 0."""
    total = sum(weights)
    return [weight / (total / len(weights)) for weight in weights] if total > 0 else list(weights)


def effective_size(weights: Collection[float]) -> float:
    """The effective sample size (sum w)^2 / sum w^2; 0 without weights."""
    squares = sum(weight * weight for weight in weights)
    return sum(weights) ** 2 / squares if squares else 0.0


def default_weights(rows: Iterable[DatasetRow], dimensions: Collection[str]) -> list[float]:
    """The weights of the samples that `gv-train` keeps by default: strategy `reweight`, reward `own`.

    A sample is a generated or imported video of the train split with a reward above the threshold; a real clip is part
    of the sample of its twin. The weight is the reward, with mean 1 over all kept samples of a source and dimension.

    Args:
        rows: of all splits.
        dimensions: of the dataset.
    """
    train = [row for row in rows if row["split"] == "train"]
    threshold = reward_threshold(train)
    groups: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for row in train:
        reward, dimension = row["reward"], row["dimension"]
        known = dimension is None or dimension in dimensions
        if row["source"] != "real" and known and reward is not None and reward > threshold:
            groups[row["source"], dimension].append(reward)
    return [weight for rewards in groups.values() for weight in mean_one(rewards)]

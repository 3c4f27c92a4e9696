"""Turn the rows of a dataset into training samples: each is kept with a weight, or dropped with a reason.

A sample is one synthetic row, or a paired sample: a twin (the generated counterpart of a real clip) and the real clip,
which has no reward of its own. Offline strategies differ only in which samples they keep and in the weights. Plain
arithmetic without torch.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.recipe.dimensions.catalogue import suggest_dimension
from gigavideo_data.recipe.yaml_config import suggest
from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring.rewards import CAPTIONS
from gigavideo_data.scoring.training_weights import effective_size, mean_one, reward_threshold
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.advantages import Scored, Spread, advantages, spreads
from gigavideo_train.data.thresholds import thresholds

ModelHash = tuple[str | None, str | None]  # revision of a model, and content hash of its adapter
NO_SPREAD = "no spread"  # all rewards of the group are equal, or it has a single sample
CHECK_FAILED = "judge check failed"
Branch = Literal["ps", "pr"]  # Eq. 3: prompts written for a dimension; Eq. 4: captions of real clips


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        row: the generated video's row.
        real: the real clip's row, for a paired sample.
        reward: in [0, 1]: the row's column `reward`, or the mean over dimensions (`TrainConfig.reward`); None if the
            row could not be scored.
        weight: w, the factor of the matching term.
        scale: the factor of all terms: the share of the branch's lambda over the branch's share of the samples.
        loser: for `dpo`, the row with the lower reward.
        advantage: for `nft`, in [-1, 1]; None for a pair that has only its realism term, whose weight is 0.
    """

    row: DatasetRow
    real: DatasetRow | None = None
    reward: float | None = None
    weight: float = 1.0
    scale: float = 1.0
    loser: DatasetRow | None = None
    advantage: float | None = None

    @property
    def id(self) -> str:
        """The id of the generated video; for a preference the ids of winner and loser."""
        return self.row["id"] if self.loser is None else f"{self.row['id']}>{self.loser['id']}"

    @property
    def branch(self) -> Branch:
        return "ps" if self.row["source"] == "synthetic" else "pr"

    @property
    def group(self) -> tuple[str, str | None]:
        """Branch and dimension: weights are normalised over all kept samples with the same ones."""
        return self.branch, self.row["dimension"]


@dataclass(frozen=True)
class Selection:
    """Kept samples and why others were dropped.

    Attributes:
        samples: in a fixed order.
        dropped: (source, dimension, reason) -> number.
        tau: dimension -> the reward above which its samples are kept; empty where the strategy keeps all.
    """

    samples: list[Sample]
    dropped: Counter[tuple[str, str, str]]
    tau: dict[str, float] = field(default_factory=dict)

    @property
    def effective_size(self) -> float:
        """The effective sample size (sum w)^2 / sum w^2."""
        return effective_size([sample.weight for sample in self.samples])


def select(
    rows: Iterable[DatasetRow],
    targets: Iterable[str],
    config: TrainConfig,
    model: ModelHash | None = None,
    unchecked: Collection[str] = (),
) -> Selection:
    """Select and weight the training samples.

    Args:
        rows: of one split, without their clips.
        targets: the dataset's dimensions with rows, trained where the config names none.
        config: of the run.
        model: the model to start from. `nft` keeps only samples that it generated; None keeps those of all models.
        unchecked: dimensions to leave out because their judge sanity check failed.

    Raises:
        DatasetError: no sample is kept, or a dimension is not in the dataset.
        RecipeError: a dimension with a weight is not trained.
    """
    rows = list(rows)
    kept, dropped, tau = _kept(rows, _dimensions(rows, list(targets), config), config, model, unchecked)
    if not kept:
        reasons = [f"{n} {reason} ({source})" for (source, reason), n in _by_reason(dropped).items()]
        raise DatasetError(
            f"nothing to train on: of {len(_pair_up(rows))} samples {', '.join(reasons) or 'none'}. Lower tau, name "
            "other --dimensions, or build a dataset on which the base model sometimes succeeds."
        )
    return Selection(_with_scales(kept, config), dropped, tau if config.uses_tau else {})


def held_out(
    rows: list[DatasetRow],
    targets: Iterable[str],
    config: TrainConfig,
    model: ModelHash | None = None,
    unchecked: Collection[str] = (),
) -> list[Sample]:
    """Select and weight samples of the validation split; at most `validate_samples`, the first by id."""
    dimensions = _weights_of(list(config.dimensions or targets), config)
    kept, *_ = _kept(rows, dimensions, config, model, unchecked)
    return _with_scales(kept[: config.validate_samples], config)


def _kept(
    rows: list[DatasetRow],
    dimensions: dict[str, float],
    config: TrainConfig,
    model: ModelHash | None,
    unchecked: Collection[str],
) -> tuple[list[Sample], Counter[tuple[str, str, str]], dict[str, float]]:
    """Kept samples ordered by id, with weights, and the rest as in `Selection`."""
    dropped: Counter[tuple[str, str, str]] = Counter()
    kept = []
    checked = {name: factor for name, factor in dimensions.items() if name not in unchecked}
    samples = [replace(sample, reward=_reward(sample.row, checked, config)) for sample in _pair_up(rows)]
    tau = _thresholds([sample for sample in samples if sample.row["dimension"] in {None, *checked}], rows, config)
    for sample in samples:
        failed = sample.row["dimension"] in dimensions.keys() - checked.keys()
        reason = CHECK_FAILED if failed else _why_dropped(sample, checked, tau, config, model)
        if reason is None:
            kept.append(sample)
        else:
            dropped[sample.row["source"], sample.row["dimension"] or CAPTIONS, reason] += 1
    if config.strategy == "dpo":
        return _preferences(kept, config.dpo_margin), dropped, tau
    if config.strategy == "nft":
        return _with_advantages(kept, dropped, config), dropped, tau
    return _weighted(kept, config), dropped, tau


def _dimensions(rows: list[DatasetRow], targets: list[str], config: TrainConfig) -> dict[str, float]:
    """The trained dimensions, each with its a_d."""
    with_rewards = [row for row in rows if row["dimension"] is None or config.reward == "mean"]
    present = {row["dimension"] for row in rows if row["dimension"] is not None}
    present |= {reward["dimension"] for row in with_rewards for reward in row["rewards"]}
    trained = list(config.dimensions or targets)
    for name in config.dimension_weights:
        if name not in trained:
            raise RecipeError(f"dimension_weights: {name!r} is not trained; {suggest(name, trained)}")
    for name in config.tau if isinstance(config.tau, dict) else ():
        if name not in (*trained, CAPTIONS):
            raise RecipeError(f"tau: {name!r} is not trained; {suggest(name, [*trained, CAPTIONS])}")
    for name in config.dimensions or ():
        if name not in present:
            known = suggest_dimension(name, present) if present else "there are no rewards in the dataset"
            raise DatasetError(f"no row was written for {name!r}, and no twin scored on it; {known}")
    return _weights_of(trained, config)


def _weights_of(dimensions: list[str], config: TrainConfig) -> dict[str, float]:
    return {name: config.dimension_weights.get(name, 1.0) for name in dimensions}


def _pair_up(rows: list[DatasetRow]) -> list[Sample]:
    real = {row["pair_id"]: row for row in rows if row["source"] == "real"}
    heads = sorted((row for row in rows if row["source"] != "real"), key=lambda row: row["id"])
    return [Sample(row, real.get(row["pair_id"]) if row["pair_id"] else None) for row in heads]


def _reward(row: DatasetRow, dimensions: Mapping[str, float], config: TrainConfig) -> float | None:
    """The column `reward`; or sum a_d r_d / sum a_d over the trained dimensions that could be scored."""
    if config.reward == "own":
        return row["reward"]
    own = [reward for reward in row["rewards"] if reward["dimension"] in dimensions]
    known = [(dimensions[r["dimension"]], r["value"]) for r in own if r["value"] is not None]
    return sum(a * value for a, value in known) / sum(a for a, _ in known) if known else None


def _thresholds(samples: list[Sample], rows: list[DatasetRow], config: TrainConfig) -> dict[str, float]:
    """The threshold of each dimension with a scored sample; where the settings name none, that of the rows."""
    rewards: dict[str, list[float]] = defaultdict(list)
    for scored in _scored(samples, config):
        rewards[scored.dimension].append(scored.reward)
    return thresholds(rewards, reward_threshold(rows), config)


def spread(
    rows: Iterable[DatasetRow],
    targets: Iterable[str],
    config: TrainConfig,
    model: ModelHash | None = None,
    unchecked: Collection[str] = (),
) -> list[Spread]:
    """What the groups of samples of each trained dimension offer to learn from, scored samples with low rewards too.

    For `nft` these are groups of samples that the model to start from generated, as in `select`.
    """
    rows = list(rows)
    trained = _dimensions(rows, list(targets), config)
    dimensions = {name: factor for name, factor in trained.items() if name not in unchecked}
    samples = [replace(sample, reward=_reward(sample.row, dimensions, config)) for sample in _pair_up(rows)]
    used = [
        sample
        for sample in samples
        if sample.row["dimension"] in {None, *dimensions} and not _of_other_model(sample.row, config, model)
    ]
    return spreads(_scored(used, config), _thresholds(used, rows, config))


def _scored(samples: Iterable[Sample], config: TrainConfig) -> list[Scored]:
    """The samples with a reward, in their groups; twins are a dimension of their own."""
    return [
        Scored(sample.row[config.group_by], sample.row["dimension"] or CAPTIONS, sample.reward)
        for sample in samples
        if sample.reward is not None
    ]


def _with_advantages(
    samples: list[Sample], dropped: Counter[tuple[str, str, str]], config: TrainConfig
) -> list[Sample]:
    """Set advantages. A sample without one is dropped; a pair without one keeps only its realism term."""
    known = [sample for sample in samples if sample.reward is not None]
    found = {sample.id: a for sample, a in zip(known, advantages(_scored(known, config)), strict=True)}
    kept = []
    for sample in samples:
        advantage = found.get(sample.id)
        if advantage is not None:
            kept.append(replace(sample, advantage=advantage))
        elif sample.real is not None:
            kept.append(replace(sample, weight=0.0))
        else:
            reason = "unscorable" if sample.reward is None else NO_SPREAD
            dropped[sample.row["source"], sample.row["dimension"] or CAPTIONS, reason] += 1
    return kept


def _why_dropped(
    sample: Sample,
    dimensions: Mapping[str, float],
    tau: Mapping[str, float],
    config: TrainConfig,
    model: ModelHash | None,
) -> str | None:
    if sample.row["dimension"] is not None and sample.row["dimension"] not in dimensions:
        return "other_dimension"
    if config.strategy == "sft" or config.online:
        return None
    if config.strategy == "nft":
        return "other_model" if _of_other_model(sample.row, config, model) else None
    if sample.reward is None:
        return "unscorable"
    if config.strategy == "dpo":  # a sample with a low reward can be the loser
        return None if sample.branch == "ps" else "no second sample"
    threshold = tau[sample.row["dimension"] or CAPTIONS]
    return None if sample.reward > threshold else f"reward at most {threshold:g}"


def model_hash(row: DatasetRow) -> ModelHash:
    """The content of the model that generated a row; its names do not matter, as the same files may have another."""
    used = row["generator"]
    if used is None:
        return None, None
    return used["revision"], used["adapter"] and used["adapter"].rpartition("@")[2]


def _of_other_model(row: DatasetRow, config: TrainConfig, model: ModelHash | None) -> bool:
    """Whether `nft` has no v_old for a row."""
    return config.strategy == "nft" and model is not None and model_hash(row) != model


def _preferences(samples: list[Sample], margin: float) -> list[Sample]:
    """Preferences: two samples of one prompt and generator whose rewards differ by at least the margin."""
    by_setting = defaultdict(list)
    for sample in samples:
        settings = {key: value for key, value in (sample.row["generator"] or {}).items() if key != "seed"}
        by_setting[sample.row["prompt"], str(sorted(settings.items(), key=str))].append(sample)
    pairs = []
    for same in by_setting.values():
        for a, b in itertools.combinations(same, 2):
            assert a.reward is not None
            assert b.reward is not None
            winner, loser = (a, b) if a.reward > b.reward else (b, a)
            if abs(a.reward - b.reward) >= margin:
                pairs.append(replace(winner, loser=loser.row))
    return sorted(pairs, key=lambda sample: sample.id)


def _weighted(samples: list[Sample], config: TrainConfig) -> list[Sample]:
    """Set the weight of each sample; weight_map=group drops samples that are the only one of their prompt."""
    if config.strategy in ("sft", "sft-filtered") or config.online:
        return samples
    groups = defaultdict(list)
    for sample in samples:
        groups[sample.group].append(sample)
    weighted = []
    for group in groups.values():
        rewards = [sample.reward or 0.0 for sample in group]
        if config.weight_map == "linear":
            weights: list[float | None] = list(rewards)
        elif config.weight_map == "exp":
            weights = list(_exponential(rewards, config.weight_beta, config.weight_clip))
        else:
            weights = _within_prompt([sample.row["prompt_id"] for sample in group], rewards, config.weight_beta)
        pairs = [(sample, w) for sample, w in zip(group, weights, strict=True) if w is not None]
        factors = [w for _, w in pairs]
        factors = mean_one(factors) if config.normalize == "mean1" else factors
        weighted += [replace(sample, weight=w) for (sample, _), w in zip(pairs, factors, strict=True)]
    assert all(sample.weight >= 0 for sample in weighted), "a negative weight would maximise the loss"
    return sorted((sample for sample in weighted if sample.weight > 0), key=lambda sample: sample.id)


def _exponential(rewards: list[float], beta: float, clip: float) -> list[float]:
    """exp(clip(z / beta)) with z the z-scored reward; 1 where all rewards are equal."""
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards)) or 1.0
    return [math.exp(max(-clip, min(clip, (r - mean) / std / beta))) for r in rewards]


def _within_prompt(prompts: list[str], rewards: list[float], beta: float) -> list[float | None]:
    """Softmax over the samples of one prompt, times their number; None for the only sample of a prompt."""
    members = defaultdict(list)
    for at, prompt in enumerate(prompts):
        members[prompt].append(at)
    weights: list[float | None] = [None] * len(rewards)
    for same in members.values():
        if len(same) > 1:
            powers = [math.exp((rewards[at] - max(rewards[i] for i in same)) / beta) for at in same]
            for at, power in zip(same, powers, strict=True):
                weights[at] = len(same) * power / sum(powers)
    return weights


def _with_scales(samples: list[Sample], config: TrainConfig) -> list[Sample]:
    """Eq. 5: the branches have the shares of their lambdas in an epoch, whatever their numbers of samples."""
    counts = Counter(sample.branch for sample in samples)
    lambdas = {"ps": config.lambda_ps, "pr": config.lambda_pr}
    total = sum(lambdas[branch] for branch in counts)
    factor = {branch: lambdas[branch] / total * len(samples) / number for branch, number in counts.items()}
    return [replace(sample, scale=factor[sample.branch]) for sample in samples]


def _by_reason(dropped: Counter[tuple[str, str, str]]) -> Counter[tuple[str, str]]:
    """Dropped samples by source and reason, summed over dimensions."""
    total: Counter[tuple[str, str]] = Counter()
    for (source, _, reason), number in dropped.items():
        total[source, reason] += number
    return total

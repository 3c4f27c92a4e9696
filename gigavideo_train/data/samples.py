"""From a dataset's rows to what is trained on: units, kept or dropped with a reason, each with its weight.

A unit is one synthetic row, or a twin with its real clip, which has no reward of its own. Strategies differ in which
units they keep and in their weights, in nothing else. Plain arithmetic: no torch.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.recipe.dimensions.catalogue import hint
from gigavideo_data.recipe.yaml_config import suggest
from gigavideo_data.scoring.rewards import CAPTIONS
from gigavideo_train.config import TrainConfig

Row = dict[str, Any]
Branch = Literal["ps", "pr"]  # Eq. 3: prompts written for a weakness; Eq. 4: captions of real clips


@dataclass(frozen=True)
class Unit:
    """What one sample of training is.

    Attributes:
        row: the generated video's row.
        real: the real clip's row, for a pair.
        reward: in [0, 1]: the row's column `reward`, or the mean that `TrainConfig.reward` asks for; None if it could
            not be scored.
        weight: w, of the matching term.
        scale: the branch's factor, of all terms: its lambda's share over its share of the units.
        loser: `dpo` only: the row to prefer `row` to.
    """

    row: Row
    real: Row | None = None
    reward: float | None = None
    weight: float = 1.0
    scale: float = 1.0
    loser: Row | None = None

    @property
    def id(self) -> str:
        """The generated video's id; for a preference both ids, winner first."""
        return self.row["id"] if self.loser is None else f"{self.row['id']}>{self.loser['id']}"

    @property
    def branch(self) -> Branch:
        return "ps" if self.row["source"] == "synthetic" else "pr"

    @property
    def group(self) -> tuple[str, str | None]:
        """Weights are normalised over all kept units of a branch and dimension."""
        return self.branch, self.row["dimension"]


@dataclass(frozen=True)
class Selection:
    """The kept units in a fixed order, and what was dropped: (source, dimension, reason) -> number of units."""

    units: list[Unit]
    dropped: Counter[tuple[str, str, str]]

    @property
    def effective_size(self) -> float:
        """(sum w)^2 / sum w^2: how many equally weighted units would be as noisy."""
        weights = [unit.weight for unit in self.units]
        return sum(weights) ** 2 / sum(w * w for w in weights)


def select(rows: Iterable[Row], targets: Iterable[str], config: TrainConfig) -> Selection:
    """Keep and weigh units.

    Args:
        rows: of one split, without their clips.
        targets: the dataset's dimensions, trained on where the config names none.
        config: strategy, threshold, weight map, lambdas.

    Raises:
        DatasetError: nothing is left to train on, or a dimension is not in the dataset.
        RecipeError: a weight is given to a dimension that is not trained.
    """
    rows = list(rows)
    kept, dropped = _kept(rows, _dimensions(rows, list(targets), config), config)
    if not kept:
        raise DatasetError(
            f"nothing to train on: of {len(_units(rows))} units "
            + (", ".join(f"{n} {reason} ({source})" for (source, _, reason), n in _sum_up(dropped).items()) or "none")
            + ". Lower tau, name other --dimensions, or build a dataset on which the base sometimes succeeds."
        )
    return Selection(_scaled(kept, config), dropped)


def held_out(rows: list[Row], targets: Iterable[str], config: TrainConfig) -> list[Unit]:
    """Units of the validation split, kept and weighed among themselves; the first ones if there are too many."""
    dimensions = _weights_of(list(config.dimensions or targets), config)
    kept, _ = _kept(rows, dimensions, config)
    return _scaled(kept[: config.validate_units], config)


def _kept(
    rows: list[Row], dimensions: dict[str, float], config: TrainConfig
) -> tuple[list[Unit], Counter[tuple[str, str, str]]]:
    """Kept units in the order of their ids, with weights, and what was dropped as in `Selection`."""
    tau = _threshold(rows) if config.tau is None else config.tau
    dropped: Counter[tuple[str, str, str]] = Counter()
    kept = []
    for unit in (replace(unit, reward=_reward(unit.row, dimensions, config)) for unit in _units(rows)):
        reason = _why_dropped(unit, dimensions, tau, config)
        if reason is None:
            kept.append(unit)
        else:
            dropped[unit.row["source"], unit.row["dimension"] or CAPTIONS, reason] += 1
    return _preferences(kept, config.dpo_margin) if config.strategy == "dpo" else _weighed(kept, config), dropped


def _dimensions(rows: list[Row], targets: list[str], config: TrainConfig) -> dict[str, float]:
    """The dimensions trained, each with its a_d."""
    averaged = [row for row in rows if row["dimension"] is None or config.reward == "mean"]
    present = {row["dimension"] for row in rows if row["dimension"] is not None}
    present |= {reward["dimension"] for row in averaged for reward in row["rewards"]}
    wanted = list(config.dimensions or targets)
    for name in config.dimension_weights:
        if name not in wanted:
            raise RecipeError(f"dimension_weights: {name!r} is not trained; {suggest(name, wanted)}")
    for name in config.dimensions or ():
        if name not in present:
            known = hint(name, present) if present else "there are no rewards in the dataset"
            raise DatasetError(f"no row was written for {name!r}, and no twin scored on it; {known}")
    return _weights_of(wanted, config)


def _weights_of(dimensions: list[str], config: TrainConfig) -> dict[str, float]:
    return {name: config.dimension_weights.get(name, 1.0) for name in dimensions}


def _units(rows: list[Row]) -> list[Unit]:
    real = {row["pair_id"]: row for row in rows if row["source"] == "real"}
    heads = sorted((row for row in rows if row["source"] != "real"), key=lambda row: row["id"])
    return [Unit(row, real.get(row["pair_id"]) if row["pair_id"] else None) for row in heads]


def _reward(row: Row, dimensions: Mapping[str, float], config: TrainConfig) -> float | None:
    """The column `reward`; or R = sum a_d r_d / sum a_d over the dimensions trained that could be scored."""
    if config.reward == "own":
        own: float | None = row["reward"]
        return own
    known = [(dimensions[r["dimension"]], r["value"]) for r in row["rewards"] if r["dimension"] in dimensions]
    known = [(a, value) for a, value in known if value is not None]
    return sum(a * value for a, value in known) / sum(a for a, _ in known) if known else None


def _threshold(rows: list[Row]) -> float:
    """0.5 for soft rewards; hard ones, read from the judge's words, are right or wrong already."""
    readouts = {answer["readout"] for row in rows for answer in row["answers"]}
    return 0.0 if readouts == {"text"} else 0.5


def _why_dropped(unit: Unit, dimensions: Mapping[str, float], tau: float, config: TrainConfig) -> str | None:
    if unit.row["dimension"] is not None and unit.row["dimension"] not in dimensions:
        return "other_dimension"
    if config.strategy == "sft" or config.online:
        return None
    if unit.reward is None:
        return "unscorable"
    if config.strategy == "dpo":  # a low reward is the loser that is needed
        return None if unit.branch == "ps" else "no second sample"
    return None if unit.reward > tau else f"reward at most {tau:g}"


def _preferences(units: list[Unit], margin: float) -> list[Unit]:
    """Pairs of samples of one prompt and one generator setting whose rewards differ by the margin, winner first."""
    alike = defaultdict(list)
    for unit in units:
        settings = {key: value for key, value in (unit.row["generator"] or {}).items() if key != "seed"}
        alike[unit.row["prompt"], str(sorted(settings.items(), key=str))].append(unit)
    pairs = []
    for same in alike.values():
        for a, b in itertools.combinations(same, 2):
            assert a.reward is not None
            assert b.reward is not None
            winner, loser = (a, b) if a.reward > b.reward else (b, a)
            if abs(a.reward - b.reward) >= margin:
                pairs.append(replace(winner, loser=loser.row))
    return sorted(pairs, key=lambda unit: unit.id)


def _weighed(units: list[Unit], config: TrainConfig) -> list[Unit]:
    """Each unit with its w; `group` drops units that stand alone."""
    if config.strategy in ("sft", "sft-filtered") or config.online:
        return units
    groups = defaultdict(list)
    for unit in units:
        groups[unit.group].append(unit)
    weighed = []
    for group in groups.values():
        rewards = [unit.reward or 0.0 for unit in group]
        if config.weight_map == "linear":
            weights: list[float | None] = list(rewards)
        elif config.weight_map == "exp":
            weights = list(_exponential(rewards, config.weight_beta, config.weight_clip))
        else:
            weights = _within_prompt([unit.row["prompt_id"] for unit in group], rewards, config.weight_beta)
        pairs = [(unit, w) for unit, w in zip(group, weights, strict=True) if w is not None]
        total = sum(w for _, w in pairs)
        divisor = total / len(pairs) if config.normalize == "mean1" and total > 0 else 1.0
        weighed += [replace(unit, weight=w / divisor) for unit, w in pairs]
    assert all(unit.weight >= 0 for unit in weighed), "a negative weight would ascend the loss"
    return sorted((unit for unit in weighed if unit.weight > 0), key=lambda unit: unit.id)


def _exponential(rewards: list[float], beta: float, clip: float) -> list[float]:
    """Exp of the z-scored reward over beta, clipped; 1 where all rewards are equal."""
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards)) or 1.0
    return [math.exp(max(-clip, min(clip, (r - mean) / std / beta))) for r in rewards]


def _within_prompt(prompts: list[str], rewards: list[float], beta: float) -> list[float | None]:
    """Softmax over the samples of one prompt, times their number; None for a sample without siblings."""
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


def _scaled(units: list[Unit], config: TrainConfig) -> list[Unit]:
    """Eq. 5: an epoch weighs the branches by their lambdas, whatever their numbers of units."""
    counts = Counter(unit.branch for unit in units)
    lambdas = {"ps": config.lambda_ps, "pr": config.lambda_pr}
    total = sum(lambdas[branch] for branch in counts)
    factor = {branch: lambdas[branch] / total * len(units) / number for branch, number in counts.items()}
    return [replace(unit, scale=factor[unit.branch]) for unit in units]


def _sum_up(dropped: Counter[tuple[str, str, str]]) -> Counter[tuple[str, str, str]]:
    """Dropped units by source and reason, dimensions together."""
    total: Counter[tuple[str, str, str]] = Counter()
    for (source, _, reason), number in dropped.items():
        total[source, "", reason] += number
    return total

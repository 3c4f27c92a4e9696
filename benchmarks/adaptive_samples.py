"""How much an adaptive `samples_per_prompt` raises the training signal of `nft` per clip, by the rewards of a dataset.

    python -m benchmarks.adaptive_samples DATASET [--dimension motion_order_understanding]

The dataset has the same number of samples of each prompt. An adaptive build makes some of its rows, which the rewards
of the first ones select, so no clip is made here. Which samples come first is chance: the numbers are means over random
orders. Nothing is trained.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.proof.runs import FOCUS
from gigavideo_data.dataset.reader import read_manifest, read_rows
from gigavideo_data.io.terminal import words
from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring.groups import Outcome, has_spread, outcome

TAU = 0.5
RESAMPLES = 2000
MAX_FIRST = 4
ORDERS = 50  # of the samples of each prompt
Rewards = list[float | None]  # of the clips of one prompt; None where one could not be scored
Rule = Callable[[list[float]], bool]  # from the first rewards of a prompt: whether it gets more clips


def differ(rewards: list[float]) -> bool:
    """The rule of a build."""
    return outcome(rewards, TAU) is Outcome.DIFFERENT


def right_and_wrong(rewards: list[float]) -> bool:
    """A stricter rule: one reward above tau and one not."""
    return 0 < sum(reward > TAU for reward in rewards) < len(rewards)


def nowhere(rewards: list[float]) -> bool:  # noqa: ARG001 - a rule
    """No prompt gets more clips."""
    return False


RULES: dict[str, Rule] = {"rewards differ": differ, "right and wrong ones": right_and_wrong, "nowhere": nowhere}


@dataclass(frozen=True)
class Signal:
    """What the clips of one prompt offer to `nft`: numbers that add up over prompts.

    Attributes:
        clips: their number.
        groups: 1 if their rewards differ.
        compared: clips with a reward in a group whose rewards differ.
        squares: sum of squared differences of the rewards to their mean: at the start, the gradient of `nft` is a sum
            over clips that is proportional to these differences.
    """

    clips: int
    groups: int
    compared: int
    squares: float


def signal(rewards: Rewards) -> Signal:
    """Measure the clips of one prompt."""
    known = [reward for reward in rewards if reward is not None]
    if not known or not has_spread(known):
        return Signal(len(rewards), 0, 0, 0.0)
    mean = sum(known) / len(known)
    return Signal(len(rewards), 1, len(known), sum((reward - mean) ** 2 for reward in known))


def made(rewards: Rewards, num_first: int, rule: Rule) -> Rewards:
    """The clips of one prompt that an adaptive build makes."""
    first = [reward for reward in rewards[:num_first] if reward is not None]
    return rewards if rule(first) else rewards[:num_first]


def per_clip(signals_PK: np.ndarray) -> np.ndarray:
    """Groups, compared clips and squares per clip; P prompts, K the fields of `Signal`."""
    totals_K = signals_PK.sum(-2)
    return totals_K[..., 1:] / totals_K[..., :1]


def compare(adaptive_PK: np.ndarray, fixed_PK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratios per clip, adaptive over fixed, each with its 95 % interval, bootstrapped over prompts."""
    rng = np.random.default_rng(0)
    drawn_RP = rng.integers(0, len(fixed_PK), (RESAMPLES, len(fixed_PK)))
    ratios_RK = per_clip(adaptive_PK[drawn_RP]) / per_clip(fixed_PK[drawn_RP])
    low_K, high_K = np.quantile(ratios_RK, (0.025, 0.975), axis=0)
    return per_clip(adaptive_PK) / per_clip(fixed_PK), low_K, high_K


def by_prompt(rows: Sequence[DatasetRow], dimension: str) -> list[Rewards]:
    """The rewards of each base prompt of a dimension, with all variants."""
    groups: dict[str, Rewards] = defaultdict(list)
    for row in rows:
        if row["dimension"] == dimension and row["source"] == "synthetic":
            groups[row["prompt_id"]].append(row["reward"])
    return list(groups.values())


def shuffled(prompts: list[Rewards]) -> list[list[Rewards]]:
    """The prompts in random orders of their samples."""
    rng = random.Random(0)
    return [[rng.sample(rewards, len(rewards)) for rewards in prompts] for _ in range(ORDERS)]


def table(prompts: list[Rewards]) -> list[str]:
    """One row for each number of first clips and each rule; groups, compared clips and signal per clip."""
    fixed_PK = _signals([prompts])
    num_clips = max(map(len, prompts))
    groups, compared, squares = per_clip(fixed_PK)
    lines = [
        "| first | more | more where | clips | groups | compared | signal |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| {num_clips} | 0 | - | {fixed_PK[:, 0].sum():.0f} | {groups:.3f} | {compared:.3f} | {squares:.4f} |",
    ]
    orders = shuffled(prompts)
    for num_first in range(2, min(num_clips, MAX_FIRST + 1)):
        for name, rule in RULES.items():
            chosen = [[made(rewards, num_first, rule) for rewards in order] for order in orders]
            adaptive_PK = _signals(chosen)
            ratios = zip(*compare(adaptive_PK, fixed_PK), strict=True)
            cells = [str(num_first), str(num_clips - num_first), name, f"{adaptive_PK[:, 0].sum():.0f}"]
            cells += [f"{at:.2f} ({low:.2f} to {high:.2f})" for at, low, high in ratios]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _signals(orders: list[list[Rewards]]) -> np.ndarray:
    """The fields of `Signal` (P, K), means over orders."""
    found = [[signal(rewards) for rewards in order] for order in orders]
    return np.array([[[one.clips, one.groups, one.compared, one.squares] for one in each] for each in found]).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--dimension", default=FOCUS)
    args = parser.parse_args()
    prompts = by_prompt(read_rows(args.dataset), args.dimension)
    known = [reward for rewards in prompts for reward in rewards if reward is not None]
    manifest = read_manifest(args.dataset)
    generator = manifest["recipe"]["generators"][0]
    print(f"`python -m benchmarks.adaptive_samples {args.dataset.name} --dimension {args.dimension}`\n")
    print(
        f"{words(args.dimension)}, guidance {generator['guidance'] or 'of the model'}: {len(prompts)} prompts, "
        f"{sum(reward > TAU for reward in known) / len(known):.0%} of the clips are right.\n"
    )
    print("\n".join(table(prompts)))


if __name__ == "__main__":
    main()

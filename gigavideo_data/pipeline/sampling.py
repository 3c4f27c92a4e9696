"""Of which prompts a build makes more videos, decided by the rewards of their first ones (see `SamplesPerPrompt`).

The decision depends on stored scores alone, so a resumed build, and a build on another machine, decide the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from gigavideo_data.dataset.manifest import Sampled
from gigavideo_data.dataset.schema import prompt_id
from gigavideo_data.pipeline.row import Row
from gigavideo_data.recipe.recipe import Recipe
from gigavideo_data.scoring.groups import Outcome, default_tau, outcome
from gigavideo_data.scoring.rewards import row_outcome

Group = tuple[str | None, str]  # dimension and prompt_id: a base prompt with all its variants


def group_of(row: Row) -> Group:
    """The group of a row."""
    return row.dimension, prompt_id(row.base_prompt)


def outcomes(prompts: Collection[Row], scored: Iterable[Row], tau: float) -> dict[Group, Outcome]:
    """What the first videos of each group of synthetic prompts are.

    Args:
        prompts: synthetic rows without their videos, one for each variant.
        scored: rows with rewards; those of their first videos count, rejected ones are missing.
        tau: a reward above it is right.
    """
    texts = {row.prompt for row in prompts}  # no caption and no imported video has one of them (see `steps.extend`)
    rewards: dict[Group, list[float]] = {group_of(row): [] for row in prompts}
    for row in scored:
        value = row_outcome(row.rewards, row.dimension, ()).value
        if row.prompt in texts and value is not None:
            rewards[group_of(row)].append(value)
    return {group: outcome(values, tau) for group, values in rewards.items()}


def tau_of(scored: Iterable[Row]) -> float:
    """The tau that gv-train takes by default for these rows."""
    return default_tau({answer["readout"] for row in scored for answer in row.answers})


def sampled(recipe: Recipe, decided: Mapping[Group, Outcome], tau: float) -> list[Sampled]:
    """The lines of a manifest: numbers of base prompts by outcome, for each dimension."""
    numbers: dict[str, Counter[Outcome]] = defaultdict(Counter)
    for (dimension, _), one in decided.items():
        numbers[dimension or ""][one] += 1
    return [
        {
            "recipe_hash": recipe.hash,
            "dimension": dimension,
            "first": recipe.samples_per_prompt.first,
            "more": recipe.samples_per_prompt.more,
            "tau": tau,
            "prompts": {one.value: counts[one] for one in Outcome},
        }
        for dimension, counts in numbers.items()
    ]

"""`gv-data rescore`: new rewards from the stored answers; no video is decoded and no judge is asked.

The rules are those of the dataset, or others given here: what would a stricter `min_mass`, or the mean instead of the
minimum, have changed? With `out` the result becomes a dataset with the same ids.

    moved = recompute(Path("runs/quickstart"), combine={"composition": "mean"});  show(moved, Console())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from rich.console import Console

from gigavideo_data.commands.republish import read_stored, republish
from gigavideo_data.dataset import reader, summary
from gigavideo_data.errors import RecipeError
from gigavideo_data.io import terminal
from gigavideo_data.recipe.dimensions.catalogue import Dimension, load_dimension
from gigavideo_data.rows import DatasetRow, RewardEntry, VideoRow
from gigavideo_data.scoring import rewards
from gigavideo_data.scoring.rewards import Rules, rules_of

NUM_MOVERS = 5  # rows named per dimension
SAME = 1e-5  # a smaller difference is rounding of stored float32 numbers, and the stored reward stays
AnyRow = TypeVar("AnyRow", DatasetRow, VideoRow)
COMBINE_RULES = get_args(Dimension.model_fields["combine"].annotation)


def recompute(
    folder: Path, out: Path | None = None, *, min_mass: float | None = None, combine: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Compute the reward of every judged video again from its stored answers.

    Args:
        folder: a finished dataset.
        out: where to write the dataset with the new rewards; the folder itself to replace it; None only to compare.
        min_mass: smallest P(yes) + P(no) of an answer; by default that of the dataset.
        combine: rule per dimension, where it is not the dataset's own.

    Returns:
        JSON-able: the rules used, and per dimension the number of rows and of changed rows, mean and counts before and
        after, and the rows whose reward changed most.

    Raises:
        RecipeError: an unknown dimension or rule, or a `min_mass` outside [0, 1].
        DatasetError: the folder is no finished dataset of a format we read.
    """
    manifest = reader.read_manifest(folder)
    rules = _new_rules(rules_of(manifest), min_mass, combine or {})
    old: Sequence[DatasetRow]
    new: Sequence[DatasetRow]
    targets = manifest["dimensions"]
    if out is None:
        old = reader.read_rows(folder)
        new = [rescored(row, targets, rules.min_mass, rules.combine) for row in old]
    else:
        old = with_videos = list(reader.read_video_rows(folder))
        new = changed = [rescored(row, targets, rules.min_mass, rules.combine) for row in with_videos]
        by_recipe = not rules.combine and rules.min_mass == manifest["recipe"]["judge"]["min_mass"]
        changes = {"rescored": None if by_recipe else {"min_mass": rules.min_mass, "combine": rules.combine}}
        republish(out, read_stored(folder), changed, changes=changes)
    dimensions = summary.dimensions(manifest, old)
    return {
        "min_mass": rules.min_mass,
        "combine": {name: rules.combine.get(name) or load_dimension(name).combine for name in dimensions},
        "rows": len(old),
        "changed": sum(before is not after for before, after in zip(old, new, strict=True)),
        "dimensions": {name: _moved(old, new, name) for name in dimensions},
    }


def _new_rules(used: Rules, min_mass: float | None, combine: Mapping[str, str]) -> Rules:
    """The rules of a dataset with those changed that are given."""
    rules = Rules(used.min_mass if min_mass is None else min_mass, {**used.combine, **combine})
    if not 0 <= rules.min_mass <= 1:
        raise RecipeError(
            f"min_mass is {min_mass}; it is the smallest P(yes) + P(no) of an answer, so give a number from 0 to 1."
        )
    for name, rule in rules.combine.items():
        load_dimension(name)
        if rule not in COMBINE_RULES:
            raise RecipeError(f"combine {name}={rule}: no such rule. Choose one of {', '.join(COMBINE_RULES)}.")
    return rules


def rescored(row: AnyRow, targets: list[str], min_mass: float, combine: Mapping[str, str]) -> AnyRow:
    """One row with new rewards, or the same object if no reward changed."""
    if row["status"] == "not_scored":
        return row
    entries: list[RewardEntry] = []
    for entry in row["rewards"]:
        name = entry["dimension"]
        answers = [answer for answer in row["answers"] if answer["dimension"] == name]
        readings = [one["name"] for one in row["measurements"] or () if one["dimension"] == name]
        reward = rewards.score(answers, combine.get(name) or load_dimension(name).combine, min_mass, readings)
        fresh = RewardEntry(dimension=name, value=reward.value, status=reward.status, reason=reward.reason)
        entries.append(fresh if _differs(entry, fresh) else entry)
    if entries == row["rewards"]:
        return row
    outcome = rewards.row_outcome(entries, row["dimension"], targets)
    return row | {"rewards": entries, "reward": outcome.value, "status": outcome.status, "reason": outcome.reason}


def _differs(before: RewardEntry, after: RewardEntry) -> bool:
    if before["value"] is None or after["value"] is None:
        return (before["value"], before["reason"]) != (after["value"], after["reason"])
    return abs(before["value"] - after["value"]) > SAME


def _summary_on(rows: Sequence[DatasetRow], dimension: str) -> dict[str, Any]:
    """Statistics of every video that was scored on a dimension, whatever its prompt was written for."""
    mine = [entry["value"] for row in rows if (entry := summary.reward_on(row, dimension))]
    values = [value for value in mine if value is not None]
    return {"scored": len(values), "unscorable": len(mine) - len(values), **rewards.mean_sem(values)}


def _moved(old: Sequence[DatasetRow], new: Sequence[DatasetRow], dimension: str) -> dict[str, Any]:
    movers = []
    for before, after in zip(old, new, strict=True):
        first, second = summary.reward_on(before, dimension), summary.reward_on(after, dimension)
        if first is not None and second is not None and first is not second:
            one, two = first["value"], second["value"]
            size = 1.0 if one is None or two is None else abs(two - one)  # gaining or losing one is the largest move
            movers.append((size, {"id": before["id"], "prompt": before["prompt"], "before": one, "after": two}))
    movers.sort(key=lambda mover: (-mover[0], mover[1]["id"]))
    total = _summary_on(old, dimension)
    return {
        "rows": total["scored"] + total["unscorable"],
        "changed": len(movers),
        "before": total,
        "after": _summary_on(new, dimension),
        "movers": [mover for _, mover in movers[:NUM_MOVERS]],
    }


def show(moved: dict[str, Any], console: Console) -> None:
    """Print the changes as tables."""
    console.print(f"{moved['changed']} of {moved['rows']} rows changed; min_mass {moved['min_mass']:g}")
    means = terminal.Table("Rewards from stored answers", "dimension", "rule", ">rows", ">changed", ">mean before",
                          ">after", ">unscorable before", ">after")  # fmt: skip
    movers = terminal.Table("Largest changes", "dimension", ">before", ">after", "id", "prompt")
    for name, entry in moved["dimensions"].items():
        before, after = entry["before"], entry["after"]
        mean = terminal.number(before["mean"]), terminal.number(after["mean"])
        unscorable = before["unscorable"], after["unscorable"]
        means.add(name, moved["combine"][name], entry["rows"], entry["changed"], *mean, *unscorable)
        for mover in entry["movers"]:
            ends = terminal.number(mover["before"]), terminal.number(mover["after"])
            movers.add(name, *ends, mover["id"][:10], mover["prompt"])
    console.print(means)
    if movers.rows:
        console.print(movers)

"""New rewards from the answers a dataset stores: no video is decoded, no judge asked.

The rules are those of the dimensions and of the recipe, or others given here: what would a stricter mass, or the mean
instead of the worst answer, have changed? With `out` the result becomes a dataset, under the same ids.

    moved = recompute(Path("runs/quickstart"), combine={"composition": "mean"});  show(moved, Console())
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from gigavideo_data import folder_read, latents, rewards, summary, terminal
from gigavideo_data.dimensions.catalogue import Dimension, load_dimension
from gigavideo_data.errors import RecipeError
from gigavideo_data.folder_read import Row
from gigavideo_data.manifest import Manifest, RewardSummary
from gigavideo_data.publish import write_dataset
from gigavideo_data.schema import EVAL_PROMPT_SCHEMA, REJECT_SCHEMA, ROW_SCHEMA

NUM_MOVERS = 5  # named per dimension
SAME = 1e-5  # stored numbers are float32: a smaller difference is rounding, and the stored reward stays
RULES = get_args(Dimension.model_fields["combine"].annotation)


def recompute(
    folder: Path, out: Path | None = None, *, min_mass: float | None = None, combine: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Score every judged video again from its stored answers.

    Args:
        folder: a finished dataset.
        out: where to write the dataset with the new rewards; the folder itself to replace it; None only to compare.
        min_mass: least P(yes) + P(no) of an answer; by default what the dataset was made with.
        combine: rule per dimension, where it is not to be the dimension's own.

    Returns:
        JSON-able: the rules used, and per dimension the number of rows and of changed rows, mean and counts before and
        after, and the rows that moved most.

    Raises:
        RecipeError: an unknown dimension or rule, or a mass outside [0, 1].
        DatasetError: the folder is no finished dataset of a format we read.
    """
    manifest = folder_read.read_manifest(folder)
    used = manifest.get("rescored", {})
    if min_mass is None:
        min_mass = used.get("min_mass", manifest["recipe"]["judge"]["min_mass"])
    if not 0 <= min_mass <= 1:
        raise RecipeError(f"min_mass is {min_mass}; it is the least P(yes) + P(no), so give a number from 0 to 1.")
    changed_rules = {**used.get("combine", {}), **(combine or {})}
    for name, rule in changed_rules.items():
        load_dimension(name)
        if rule not in RULES:
            raise RecipeError(f"combine {name}={rule}: no such rule. Choose one of {', '.join(RULES)}.")
    names = [name for name in ROW_SCHEMA.names if out or name != "video"]
    old = [row for batch in folder_read.read_data(folder, names) for row in batch.to_pylist()]
    new = [rescored(row, manifest["dimensions"], min_mass, changed_rules) for row in old]
    dimensions = summary.dimensions(manifest, old)
    if out:
        groups = summary.reward_groups(manifest, new)
        manifest["rewards"] = {name: _summary(summary.reward_facts(new, name)) for name in groups}
        if changed_rules or min_mass != manifest["recipe"]["judge"]["min_mass"]:
            manifest["rescored"] = {"min_mass": min_mass, "combine": changed_rules}
        else:
            manifest.pop("rescored", None)
        _write(folder, out, new, manifest)
    return {
        "min_mass": min_mass,
        "combine": {name: changed_rules.get(name) or load_dimension(name).combine for name in dimensions},
        "rows": len(old),
        "changed": sum(before is not after for before, after in zip(old, new, strict=True)),
        "dimensions": {name: _moved(old, new, name) for name in dimensions},
    }


def rescored(row: Row, targets: list[str], min_mass: float, combine: Mapping[str, str]) -> Row:
    """One row with new rewards, or the very same row if none of them moved."""
    if row["status"] == "not_scored":
        return row
    entries = []
    for entry in row["rewards"]:
        name = entry["dimension"]
        answers = [answer for answer in row["answers"] if answer["dimension"] == name]
        readings = [one["name"] for one in row["measurements"] or () if one["dimension"] == name]
        reward = rewards.score(answers, combine.get(name) or load_dimension(name).combine, min_mass, readings)
        fresh = {"dimension": name, "value": reward.value, "status": reward.status, "reason": reward.reason}
        entries.append(fresh if _differs(entry, fresh) else entry)
    if entries == row["rewards"]:
        return row
    outcome = rewards.row_outcome(entries, row["dimension"], targets)
    summed = {"reward": outcome.value, "status": outcome.status, "reason": outcome.reason}
    return {**row, "rewards": entries, **summed}


def _differs(before: Row, after: Row) -> bool:
    if before["value"] is None or after["value"] is None:
        return (before["value"], before["reason"]) != (after["value"], after["reason"])
    return abs(before["value"] - after["value"]) > SAME


def _summary(facts: dict[str, Any]) -> RewardSummary:
    return {"scored": facts["scored"], "unscorable": facts["unscorable"], "mean": facts["mean"], "sem": facts["sem"]}


def _summary_on(rows: list[Row], dimension: str) -> dict[str, Any]:
    """The same over every video that was scored on a dimension, whatever its prompt was written for."""
    mine = [entry["value"] for row in rows if (entry := summary.reward_on(row, dimension))]
    values = [value for value in mine if value is not None]
    return {"scored": len(values), "unscorable": len(mine) - len(values), **rewards.mean_sem(values)}


def _moved(old: list[Row], new: list[Row], dimension: str) -> dict[str, Any]:
    movers = []
    for before, after in zip(old, new, strict=True):
        first, second = summary.reward_on(before, dimension), summary.reward_on(after, dimension)
        if first is not None and second is not None and first is not second:
            ends = (first["value"], second["value"])
            size = 1.0 if None in ends else abs(ends[1] - ends[0])  # gaining or losing a reward is the largest move
            movers.append((size, {"id": before["id"], "prompt": before["prompt"], "before": ends[0], "after": ends[1]}))
    movers.sort(key=lambda mover: (-mover[0], mover[1]["id"]))
    before, after = _summary_on(old, dimension), _summary_on(new, dimension)
    return {
        "rows": before["scored"] + before["unscorable"],
        "changed": len(movers),
        "before": before,
        "after": after,
        "movers": [mover for _, mover in movers[:NUM_MOVERS]],
    }


def _write(folder: Path, out: Path, rows: list[Row], manifest: Manifest) -> None:
    """Publish the rows again with everything else the folder holds."""
    tables = {
        name: folder_read.read_all(folder, schema, name)
        for name, schema in (("eval_prompts", EVAL_PROMPT_SCHEMA), ("rejects", REJECT_SCHEMA))
    }
    cost = json.loads((folder / "cost.json").read_text("utf-8"))
    shipped = list(latents.carried(folder, rows))
    write_dataset(out, rows, tables["eval_prompts"], tables["rejects"], manifest, cost, latents=shipped)


def show(moved: dict[str, Any], console: Console) -> None:
    """Print what moved as tables."""
    console.print(f"{moved['changed']} of {moved['rows']} rows changed; least mass {moved['min_mass']:g}")
    means = terminal.table("Rewards from stored answers", "dimension", "rule", ">rows", ">changed", ">mean before",
                          ">after", ">unscorable before", ">after")  # fmt: skip
    movers = terminal.table("What moved most", "dimension", ">before", ">after", "id", "prompt")
    for name, entry in moved["dimensions"].items():
        before, after = entry["before"], entry["after"]
        terminal.add(means, name, moved["combine"][name], entry["rows"], entry["changed"],
                    terminal.number(before["mean"]), terminal.number(after["mean"]), before["unscorable"],
                    after["unscorable"])  # fmt: skip
        for mover in entry["movers"]:
            values = terminal.number(mover["before"]), terminal.number(mover["after"])
            terminal.add(movers, name, *values, mover["id"][:10], mover["prompt"])
    console.print(means)
    if movers.rows:
        console.print(movers)

"""Summary of a dataset: counts, rows per stage, rewards and the judge check, for `gv-data inspect` and the report.

Everything is counted from the rows and not copied from the manifest, so a disagreement between them is visible. Rewards
are those of the column `reward`, which gv-train uses.

    facts = summarize(Path("runs/quickstart"));  show(facts, terminal.console())
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset.manifest import LedgerLine, Manifest, others_of, targets_of
from gigavideo_data.dataset.reader import WITHHELD, read_manifest, read_rows
from gigavideo_data.io.terminal import Table, counted, number, plain, targets_and_others, words
from gigavideo_data.rows import DatasetRow, RewardEntry
from gigavideo_data.scoring import judge_verdict, pixels
from gigavideo_data.scoring.groups import Outcome
from gigavideo_data.scoring.judge_verdict import JudgeCheck
from gigavideo_data.scoring.rewards import CAPTIONS, mean_sem, reward_group

NUM_BINS = 20  # of the reward histograms over [0, 1]


def summarize(folder: Path) -> dict[str, Any]:
    """Summarize a dataset.

    Returns:
        JSON-able: identity, counts, rows per stage with a check of their sums, rewards per dimension (counts, mean,
        standard error, histogram, reasons, best and worst prompt), which prompts got more samples, judge check with
        verdicts, numbers of black and frozen videos per dimension, cost, and the cost per useful sample
        (`cost.CostPerSample`; None if not known).

    Raises:
        DatasetError: the folder is no finished dataset of a format that this code reads.
    """
    manifest = read_manifest(folder)
    rows = read_rows(folder)
    cost = costs.read(folder)
    return {
        "format": manifest["format"],
        "name": manifest["name"],
        "recipe_hash": manifest["recipe_hash"],
        "code_version": manifest["code_version"],
        "target_model": manifest["target_model"],
        "dimensions": manifest["dimensions"],
        "targets": targets_of(manifest),
        "others": others_of(manifest),
        "license": manifest["license"],
        "recipe": manifest["recipe"],
        "files": manifest["files"],
        "withheld": manifest.get("withheld", False),
        "manifest_sha256": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
        "counts": {
            "rows": len(rows),
            "prompts": len({row["prompt_id"] for row in rows}),
            **{column: _count(row[column] for row in rows) for column in ("split", "source", "status")},
        },
        "ledger": [ledger_line(line) for line in manifest["ledger"]],
        "rewards": {name: reward_facts(rows, name) for name in reward_groups(manifest, rows)},
        "sampled": manifest.get("sampled", []),
        "judge_check": [with_verdict(check) for check in manifest["judge_check"]],
        "pixels": pixels.flaws(each for row in rows for each in pixels.measured(row).items()),
        "cost": cost,
        "cost_per_sample": costs.cost_per_sample(cost),
    }


def dimensions(manifest: Manifest, rows: Sequence[DatasetRow]) -> list[str]:
    """The dimensions of the dataset in the recipe's order, then all further ones that were scored."""
    scored = sorted({reward["dimension"] for row in rows for reward in row["rewards"] or []})
    return [*manifest["dimensions"], *(name for name in scored if name not in manifest["dimensions"])]


def reward_groups(manifest: Manifest, rows: list[DatasetRow]) -> list[str]:
    """The groups of the reward summary: the dataset's dimensions, further ones that prompts were written for, twins."""
    found = {reward_group(row) for row in rows} - {None, CAPTIONS, *manifest["dimensions"]}
    twins = any(row["source"] == "twin" for row in rows)
    return [*manifest["dimensions"], *sorted(map(str, found)), *([CAPTIONS] if twins else [])]


def reward_on(row: DatasetRow, dimension: str) -> RewardEntry | None:
    """A row's entry of `rewards` on one dimension; None if it was not scored on it."""
    return next((reward for reward in row["rewards"] or [] if reward["dimension"] == dimension), None)


def reward_facts(rows: list[DatasetRow], group: str) -> dict[str, Any]:
    """The distribution of `reward` over the rows of one group: a dimension, or the twins."""
    mine = [row for row in rows if reward_group(row) == group]
    scored = sorted((row["reward"], row["id"], row["prompt"]) for row in mine if row["reward"] is not None)
    values = [value for value, _, _ in scored]
    # A range includes its upper end: a reward of 0.5 is not above the threshold of training.
    histogram = Counter(max(math.ceil(value * NUM_BINS) - 1, 0) for value in values)
    unscorable = [row for row in mine if row["reward"] is None]
    return {
        "scored": len(values),
        "unscorable": len(unscorable),
        **mean_sem(values),
        "histogram": [histogram[i] for i in range(NUM_BINS)],
        "reasons": _count((row["reason"] or "no reason given").split(":")[0] for row in unscorable),
        "worst": {"reward": values[0], "prompt": scored[0][2]} if values else None,
        "best": {"reward": values[-1], "prompt": scored[-1][2]} if values else None,
    }


def with_verdict(check: JudgeCheck) -> dict[str, Any]:
    """One line of the judge check with its verdict and the reason."""
    verdict, why = judge_verdict.verdict(check)
    return {**check, "verdict": verdict, "why": why}


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def ledger_line(line: LedgerLine) -> dict[str, Any]:
    """The rows of one stage and source, with a check of their sum."""
    num_rejected = sum(line["rejected"].values())
    return {**line, "num_rejected": num_rejected, "adds_up": line["in"] == line["out"] + num_rejected}


def show(facts: dict[str, Any], console: Console) -> None:
    """Print a summary as tables."""
    counts = facts["counts"]
    figure = facts["cost_per_sample"]
    for line in (
        *([f"cost per useful sample: {costs.sentence(figure)}"] if figure else []),
        f"{facts['name']}, format {facts['format']}, recipe {facts['recipe_hash']}",
        f"target model {facts['target_model']}, gigavideo {facts['code_version']}, licence {facts['license']}",
        f"{counts['rows']} videos of {counts['prompts']} prompts: {counted(counts['split'])}; "
        f"{counted(counts['source'])}; {counted(counts['status'])}",
        *targets_and_others(facts["targets"], facts["others"]),
        *([WITHHELD] if facts["withheld"] else []),
    ):
        console.print(plain(line))
    console.print()
    stages = Table("Rows per stage", "stage", "source", ">in", ">out", ">rejected", "reasons")
    for line in facts["ledger"]:
        wrong = "" if line["adds_up"] else "DOES NOT ADD UP "
        reasons = wrong + counted(line["rejected"])
        stages.add(line["stage"], line["source"], line["in"], line["out"], line["num_rejected"], reasons)
    rewards = Table("Rewards", "dimension", ">mean", ">± s.e.", ">scored", ">unscorable", "reasons")
    prompts = Table("Best and worst videos", "dimension", ">reward", "prompt")
    for name, reward in facts["rewards"].items():
        mean, sem = number(reward["mean"]), number(reward["sem"])
        rewards.add(words(name), mean, sem, reward["scored"], reward["unscorable"], counted(reward["reasons"]))
        for end in ("best", "worst"):
            if reward[end]:
                prompts.add(words(name), number(reward[end]["reward"]), reward[end]["prompt"])
    outcomes = (">different: more made", ">always right", ">always wrong", ">no reward")
    sampled = Table("Prompts by their first samples", "dimension", "samples", *outcomes)
    for each in facts["sampled"]:
        counts = [each["prompts"].get(one.value, 0) for one in Outcome]
        sampled.add(words(each["dimension"]), f"{each['first']}, then {each['more']} more", *counts)
    columns = ("dimension", ">AUC", ">n", ">AUC real", ">n", ">score real", "verdict")
    judge = Table("Judge sanity check (AUC; 0.5 = chance)", *columns)
    for check in facts["judge_check"]:
        generated = number(check["auc_foreign"]), check["videos"]
        real = number(check["auc_real"]), check["real_videos"], number(check["real_score"])
        judge.add(words(check["dimension"]), *generated, *real, check["verdict"])
    for table in (stages, *([sampled] if facts["sampled"] else []), rewards, prompts, judge):
        console.print(table)
    for check in facts["judge_check"]:
        if check["verdict"] != "passed":
            console.print(plain(f"{words(check['dimension'])}: {check['verdict']}: {check['why']}"))
    for warning in pixels.warnings(facts["pixels"]):
        console.print(plain(f"warning: {warning}; reject_videos in the recipe rejects them"))

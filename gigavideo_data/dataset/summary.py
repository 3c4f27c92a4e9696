"""Summary of a dataset: counts, rows per stage, rewards and the judge check, for `gv-data inspect` and the report.

Everything is counted from the rows and not copied from the manifest, so a disagreement between them is visible. Rewards
are those of the column `reward`, which gv-train uses.

    facts = summarize(Path("runs/quickstart"));  show(facts, terminal.console())
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset.manifest import LedgerLine, Manifest, others_of, targets_of
from gigavideo_data.dataset.reader import WITHHELD, read_manifest, stream_rows
from gigavideo_data.io.terminal import Table, counted, number, plain, targets_and_others, words
from gigavideo_data.rows import DatasetRow, RewardEntry
from gigavideo_data.scoring import judge_verdict, pixels
from gigavideo_data.scoring.groups import Outcome
from gigavideo_data.scoring.judge_verdict import JudgeCheck
from gigavideo_data.scoring.rewards import CAPTIONS, mean_sem, reward_group

NUM_BINS = 20  # of the reward histograms over [0, 1]
COUNTED: Final = ("split", "source", "status")  # columns of which each value is counted

Scored = tuple[float, str, str]  # reward, id and prompt of a row


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
    counts, prompts, rewards = defaultdict[str, Counter[str]](Counter), set[str](), _RewardFacts()
    for row in stream_rows(folder):  # one by one: they may be too many for memory
        prompts.add(row["prompt_id"])
        for column in COUNTED:
            counts[column][row[column]] += 1
        rewards.add(row)
    flawed = pixels.flaws(each for row in stream_rows(folder) for each in pixels.measured(row).items())
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
            "rows": counts["split"].total(),
            "prompts": len(prompts),
            **{column: dict(sorted(counts[column].items())) for column in COUNTED},
        },
        "ledger": [ledger_line(line) for line in manifest["ledger"]],
        "rewards": {name: rewards.facts(name) for name in rewards.groups(manifest)},
        "sampled": manifest.get("sampled", []),
        "judge_check": [with_verdict(check) for check in manifest["judge_check"]],
        "pixels": flawed,
        "cost": cost,
        "cost_per_sample": costs.cost_per_sample(cost),
    }


def dimensions(manifest: Manifest, rows: Sequence[DatasetRow]) -> list[str]:
    """The dimensions of the dataset in the recipe's order, then all further ones that were scored."""
    scored = sorted({reward["dimension"] for row in rows for reward in row["rewards"] or []})
    return [*manifest["dimensions"], *(name for name in scored if name not in manifest["dimensions"])]


def reward_on(row: DatasetRow, dimension: str) -> RewardEntry | None:
    """A row's entry of `rewards` on one dimension; None if it was not scored on it."""
    return next((reward for reward in row["rewards"] or [] if reward["dimension"] == dimension), None)


def reward_facts(rows: Iterable[DatasetRow], group: str) -> dict[str, Any]:
    """The distribution of `reward` over the rows of one group: a dimension, or the twins."""
    found = _RewardFacts()
    for row in rows:
        found.add(row)
    return found.facts(group)


class _RewardFacts:
    """The distributions of `reward`, of rows that are given one by one."""

    def __init__(self) -> None:
        self._values: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._ends: dict[str, tuple[Scored, Scored]] = {}
        self._twins = False

    def add(self, row: DatasetRow) -> None:
        """Count a row."""
        self._twins |= row["source"] == "twin"
        group = reward_group(row)
        if group is None:
            return
        if row["reward"] is None:
            self._reasons[group][(row["reason"] or "no reason given").split(":")[0]] += 1
            return
        self._values[group].append(row["reward"])
        scored = row["reward"], row["id"], row["prompt"]
        worst, best = self._ends.get(group, (scored, scored))
        self._ends[group] = min(worst, scored), max(best, scored)

    def groups(self, manifest: Manifest) -> list[str]:
        """The dataset's dimensions, further ones that prompts were written for, twins."""
        found = (self._values.keys() | self._reasons.keys()) - {CAPTIONS, *manifest["dimensions"]}
        return [*manifest["dimensions"], *sorted(found), *([CAPTIONS] if self._twins else [])]

    def facts(self, group: str) -> dict[str, Any]:
        """The distribution of one group."""
        values, reasons = sorted(self._values[group]), self._reasons[group]
        # A range includes its upper end: a reward of 0.5 is not above the threshold of training.
        histogram = Counter(max(math.ceil(value * NUM_BINS) - 1, 0) for value in values)
        worst, best = self._ends.get(group, (None, None))
        return {
            "scored": len(values),
            "unscorable": reasons.total(),
            **mean_sem(values),
            "histogram": [histogram[i] for i in range(NUM_BINS)],
            "reasons": dict(sorted(reasons.items())),
            "worst": {"reward": worst[0], "prompt": worst[2]} if worst else None,
            "best": {"reward": best[0], "prompt": best[2]} if best else None,
        }


def with_verdict(check: JudgeCheck) -> dict[str, Any]:
    """One line of the judge check with its verdict and the reason."""
    verdict, why = judge_verdict.verdict(check)
    return {**check, "verdict": verdict, "why": why}


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

"""What a dataset folder holds, as plain facts: for the terminal here, and for the page of `report`.

Facts are counted from the rows themselves, never copied from the manifest's sums, so that a set whose rows and manifest
disagree shows it. A reward is the column `reward`, the number that gv-train uses. Text of others (prompts, reasons,
names) is printed as it is, never read as terminal markup.

    facts = inspect.facts(Path("runs/quickstart"));  inspect.show(facts, Console())
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gigavideo_data import judge_verdict, pixels
from gigavideo_data.folder_read import WITHHELD, Row, read_manifest, read_rows
from gigavideo_data.rewards import CAPTIONS, mean_sem, reward_group

NUM_BINS = 20  # of a reward histogram over [0, 1]
CHECK_FIELDS = (
    "dimension",
    "videos",
    "auc_foreign",
    "real_videos",
    "auc_real",
    "real_score",
    "yes_bias",
    "inconsistency",
)
IDENTITY = ("format", "name", "recipe_hash", "code_version", "target_model", "dimensions", "license", "recipe", "files")


def facts(folder: Path) -> dict[str, Any]:
    """Count what a dataset holds.

    Returns:
        JSON-able facts: identity, counts, ledger with a check of its sums, per dimension the rewards (counts, mean,
        standard error, histogram, reasons, best and worst prompt), judge check with verdicts, per dimension the number
        of black and of frozen videos, cost.

    Raises:
        DatasetError: the folder is no finished dataset of a format we read.
    """
    manifest = read_manifest(folder)
    rows = read_rows(folder)
    cost = folder / "cost.json"
    return {
        **{key: manifest[key] for key in IDENTITY},
        "withheld": manifest.get("withheld", False),
        "manifest_sha256": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
        "counts": {
            "rows": len(rows),
            "prompts": len({row["prompt_id"] for row in rows}),
            **{column: _count(row[column] for row in rows) for column in ("split", "source", "status")},
        },
        "ledger": [ledger_line(line) for line in manifest["ledger"]],
        "rewards": {name: reward_facts(rows, name) for name in reward_groups(manifest, rows)},
        "judge_check": [checked(check) for check in manifest["judge_check"]],
        "pixels": pixels.flaws(each for row in rows for each in pixels.measured(row).items()),
        "cost": json.loads(cost.read_text("utf-8")) if cost.exists() else None,
    }


def dimensions(manifest: dict[str, Any], rows: list[Row]) -> list[str]:
    """The target dimensions in the recipe's order, then any other that was scored."""
    scored = sorted({reward["dimension"] for row in rows for reward in row["rewards"] or []})
    return [*manifest["dimensions"], *(name for name in scored if name not in manifest["dimensions"])]


def reward_groups(manifest: dict[str, Any], rows: list[Row]) -> list[str]:
    """What `reward` is summed up under: the target dimensions, others that rows were written for, and the twins."""
    found = {reward_group(row) for row in rows} - {None, CAPTIONS, *manifest["dimensions"]}
    twins = any(row["source"] == "twin" for row in rows)
    return [*manifest["dimensions"], *sorted(map(str, found)), *([CAPTIONS] if twins else [])]


def reward_on(row: Row, dimension: str) -> Row | None:
    """A row's entry of `rewards` for one dimension, None if it was not scored for it."""
    return next((reward for reward in row["rewards"] or [] if reward["dimension"] == dimension), None)


def reward_facts(rows: list[Row], group: str) -> dict[str, Any]:
    """The distribution of `reward` over the rows that were written for a dimension, or over the twins."""
    mine = [row for row in rows if reward_group(row) == group]
    scored = sorted((row["reward"], row["id"], row["prompt"]) for row in mine if row["reward"] is not None)
    values = [value for value, _, _ in scored]
    histogram = Counter(min(int(value * NUM_BINS), NUM_BINS - 1) for value in values)
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


def checked(check: dict[str, Any]) -> dict[str, Any]:
    """One line of the judge check with its verdict."""
    verdict, why = judge_verdict.verdict(check)
    return {key: check[key] for key in CHECK_FIELDS} | {"verdict": verdict, "why": why}


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def ledger_line(line: dict[str, Any]) -> dict[str, Any]:
    """One line of the ledger with its sum checked."""
    num_rejected = sum(line["rejected"].values())
    return {**line, "num_rejected": num_rejected, "adds_up": line["in"] == line["out"] + num_rejected}


# --- terminal --------------------------------------------------------------------------------------------------------


def show(facts: dict[str, Any], console: Console) -> None:
    """Print facts as tables."""
    counts = facts["counts"]
    console.print(_text(f"{facts['name']}   format {facts['format']}   recipe {facts['recipe_hash']}"), style="bold")
    console.print(_text(f"made for {facts['target_model']} by {facts['code_version']}, licence {facts['license']}"))
    console.print(_text(f"{counts['rows']} videos of {counts['prompts']} prompts: {_counted(counts['split'])}; "
                        f"{_counted(counts['source'])}; {_counted(counts['status'])}"))  # fmt: skip
    if facts["withheld"]:
        console.print(_text(WITHHELD))
    ledger = table("Ledger", "stage", "source", ">in", ">out", ">rejected", "why")
    for line in facts["ledger"]:
        wrong = "" if line["adds_up"] else "DOES NOT ADD UP "
        add(ledger, line["stage"], line["source"], line["in"], line["out"], line["num_rejected"],
             wrong + _counted(line["rejected"]))  # fmt: skip
    console.print(ledger)
    rewards = table("Rewards", "dimension", ">mean", ">± s.e.", ">scored", ">unscorable", "why unscorable")
    prompts = table("Best and worst", "dimension", ">reward", "prompt")
    for name, reward in facts["rewards"].items():
        add(rewards, words(name), number(reward["mean"]), number(reward["sem"]), reward["scored"], reward["unscorable"],
             _counted(reward["reasons"]))  # fmt: skip
        for end in ("best", "worst"):
            if reward[end]:
                add(prompts, words(name), number(reward[end]["reward"]), reward[end]["prompt"])
    console.print(rewards)
    judge = table("Can the judge tell?", "dimension", ">AUC", ">on", ">AUC real", ">on", ">real score", "verdict")
    for check in facts["judge_check"]:
        add(judge, words(check["dimension"]), number(check["auc_foreign"]), check["videos"], number(check["auc_real"]),
            check["real_videos"], number(check["real_score"]), check["verdict"])  # fmt: skip
    console.print(judge)
    for check in facts["judge_check"]:
        if check["verdict"] != "can tell":
            console.print(_text(f"{check['dimension']}: {check['verdict']}: {check['why']}"))
    for warning in pixels.warnings(facts["pixels"]):
        console.print(_text(f"warning: {warning}; reject_videos in the recipe rejects them"))
    console.print(prompts)


def table(title: str, *columns: str) -> Table:
    """An empty table; a column named with a leading > holds numbers, which are never broken over lines."""
    empty = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in columns:
        if name.startswith(">"):
            empty.add_column(name[1:], justify="right", no_wrap=True)
        else:
            empty.add_column(name, overflow="fold")
    return empty


def add(to: Table, *cells: object) -> None:
    """Add a row of plain text."""
    to.add_row(*(_text(str(cell)) for cell in cells))


def _text(text: str) -> Text:
    """Text that cannot style or steer the terminal: no markup, no escape codes, no direction marks."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def words(name: str) -> str:
    """A dimension's name as words, which break over lines: camera_motion -> camera motion."""
    return name.replace("_", " ")


def number(value: float | None) -> str:
    """Two digits, or a dash where there is no value."""
    return "-" if value is None else f"{value:.2f}"

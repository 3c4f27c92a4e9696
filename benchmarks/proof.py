"""Does the method work? The paper's tables in kind, on the embedded miniature, with controls.

    python benchmarks/proof.py build                     the datasets: minutes
    python benchmarks/proof.py run --split dev           settings are chosen on these prompts ...
    python benchmarks/proof.py run --split test          ... and these are looked at once, at the end
    python benchmarks/proof.py tell --split test --out benchmarks/proof.md

Every training run is one JSON file in the work folder, so an interrupted command goes on where it stopped. Tables:
1 each dimension alone; 2 data arms; 3 strategies, per epoch and at matched steps; 4 two dimensions jointly; controls at
equal steps: continued base training, and rewards shuffled within a dimension; curves: gain against corrupted rewards,
and against the number of kept rows. Each run is repeated with several training seeds; the spread over seeds is told
apart from the interval over prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gigavideo_data.dimensions.catalogue import names
from gigavideo_data.folder_read import read_manifest
from gigavideo_data.publish import write_dataset

WORK = Path("runs/proof")
SEEDS = (0, 1, 2)
DIMENSIONS = names()
FOCUS = "motion_order_understanding"  # of tables 2 and 3, as human interaction is the paper's
JOINT = ("motion_order_understanding", "instance_preservation")
STEPS = 60  # of every run that is compared at matched steps
SETTINGS = {"lr": 3e-4, "batch_size": 16}  # chosen on the dev prompts
BUILD = {
    "prompts.per_dimension": 40,
    "samples_per_prompt": 4,
    "captions.count": 160,
    "eval_prompts.per_dimension": 16,
    "eval_prompts.seeds": 2,
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training run; `epochs` instead of matched steps where it is set."""

    table: str
    name: str
    dataset: str
    dimensions: tuple[str, ...]
    seed: int
    strategy: str = "reweight"
    epochs: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.table}-{self.name}-{self.seed}".replace(" ", "_")


def runs() -> Iterator[Run]:
    """All of them, the most telling first."""
    for seed in SEEDS:
        yield from (Run("1 single dimension", d, "all", (d,), seed) for d in DIMENSIONS)
        yield Run("controls", "continued base training", "real", (FOCUS,), seed, "sft")
        yield Run("controls", "shuffled rewards", f"shuffled-{seed}", (FOCUS,), seed)
        for arm in ("ps-vs", "pr-vs", "ps-vs+pr-vs", "pr-vs+pr-vr"):
            yield Run("2 data arms", arm, arm, (FOCUS,), seed)
        for strategy in ("sft", "sft-filtered", "dpo"):
            yield Run("3 strategies", f"{strategy}, matched steps", "all", (FOCUS,), seed, strategy)
        for strategy in ("sft", "sft-filtered", "reweight", "dpo"):
            yield Run("3 strategies", f"{strategy}, 4 epochs", "all", (FOCUS,), seed, strategy, epochs=4)
        yield Run("4 jointly", " and ".join(JOINT), "all", JOINT, seed)
        for share in (0.1, 0.2, 0.3, 0.4, 0.5):
            yield Run("5 corrupted rewards", f"{share:.0%}", f"corrupted-{share}-{seed}", (FOCUS,), seed)
        for number in (8, 16, 32, 64):
            yield Run("6 kept rows", str(number), f"rows-{number}-{seed}", (FOCUS,), seed)


# --- datasets --------------------------------------------------------------------------------------------------------


def build() -> None:
    """The full set, and those derived from its rows."""
    options = [part for key, value in BUILD.items() for part in ("--set", f"{key}={value}")]
    out = WORK / "sets" / "all"
    _call("gigavideo_data", "build", "--recipe", "quickstart", "--out", str(out), *options)
    manifest = read_manifest(out)
    rows = [row for shard in sorted((out / "data").glob("*.parquet")) for row in pq.read_table(shard).to_pylist()]
    prompts = [p for f in sorted((out / "eval_prompts").glob("*.parquet")) for p in pq.read_table(f).to_pylist()]
    derived: dict[str, Callable[[], list[Row]]] = {
        "ps-vs": lambda: [r for r in rows if r["source"] == "synthetic"],
        "pr-vs": lambda: [r for r in rows if r["source"] == "twin"],
        "ps-vs+pr-vs": lambda: [r for r in rows if r["source"] != "real"],
        "pr-vs+pr-vr": lambda: [r for r in rows if r["source"] != "synthetic"],
        "real": lambda: [_as_synthetic(r) for r in rows if r["source"] == "real"],
    }
    for seed in SEEDS:
        derived[f"shuffled-{seed}"] = lambda seed=seed: corrupt(rows, 1.0, seed)
        for share in (0.1, 0.2, 0.3, 0.4, 0.5):
            derived[f"corrupted-{share}-{seed}"] = lambda share=share, seed=seed: corrupt(rows, share, seed)
        for number in (8, 16, 32, 64):
            derived[f"rows-{number}-{seed}"] = lambda number=number, seed=seed: fewer(rows, number, seed)
    for name, make in derived.items():
        print(name, flush=True)
        keys = ("name", "recipe", "recipe_hash", "code_version", "target_model", "dimensions", "license", "rewards")
        head = {key: manifest[key] for key in keys} | {"name": name, "judge_check": manifest["judge_check"]}
        made = make()
        ledger = [
            {"stage": "derive", "source": source, "in": count, "out": count, "rejected": {}}
            for source, count in sorted(_counts(made).items())
        ]
        write_dataset(WORK / "sets" / name, made, prompts, [], {**head, "ledger": ledger}, {"stages": []})


def corrupt(rows: list[Row], share: float, seed: int) -> list[Row]:
    """Rewards of a share of the rows that have one are permuted among these, dimension by dimension."""
    rng = random.Random(f"{seed} {share}")
    made = [{**row, "rewards": [dict(r) for r in row["rewards"]]} for row in rows]
    for dimension in DIMENSIONS:
        entries = [r for row in made for r in row["rewards"] if r["dimension"] == dimension and r["value"] is not None]
        chosen = rng.sample(entries, round(share * len(entries)))
        values = [entry["value"] for entry in chosen]
        rng.shuffle(values)
        for entry, value in zip(chosen, values, strict=True):
            entry["value"] = value
    return made


def fewer(rows: list[Row], number: int, seed: int) -> list[Row]:
    """`number` rows written for the focus that training keeps, and nothing else."""
    kept = [r for r in rows if r["dimension"] == FOCUS and r["split"] == "train" and (r["reward"] or 0) > 0.5]
    return random.Random(f"{seed}").sample(sorted(kept, key=lambda r: r["id"]), min(number, len(kept)))


def _as_synthetic(row: Row) -> Row:
    """A real clip as a sample with full reward: what training on the base's own data is."""
    reward = {"dimension": FOCUS, "value": 1.0, "status": "scored", "reason": None}
    changed = {"source": "synthetic", "pair_id": None, "dimension": FOCUS, "rewards": [reward], "reward": 1.0}
    return {**row, **changed, "status": "scored", "reason": None}


def _counts(rows: list[Row]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["source"]] += 1
    return counts


# --- runs ------------------------------------------------------------------------------------------------------------


def run_all(split: str, only: str) -> None:
    """Train and evaluate what is not done yet."""
    for run in runs():
        result = WORK / "results" / split / f"{run.key}.json"
        if result.exists() or only not in run.key:
            continue
        tuned = WORK / "train" / run.key
        if not (tuned / "model").is_dir():
            _train(run, tuned)
        out = WORK / "eval" / split / run.key
        found = _call(
            "gigavideo_data", "eval", "--tuned", str(tuned / "model"), "--prompts", str(WORK / "sets" / "all"),
            "--split", split, "--out", str(out), "--json",
        )  # fmt: skip
        steps = sum(1 for _ in (tuned / "metrics.jsonl").open())
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps({"steps": steps, **json.loads(found)}))
        print(run.key, flush=True)


def _train(run: Run, out: Path) -> None:
    settings = {**SETTINGS, "seed": run.seed, **run.settings}
    settings |= {"epochs": run.epochs} if run.epochs else {"epochs": 1000, "max_steps": STEPS}
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    _call(
        "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gigavideo_train",
        "--dataset", str(WORK / "sets" / run.dataset), "--out", str(out), "--strategy", run.strategy,
        "--dimensions", ",".join(run.dimensions), "--resume", *options,
    )  # fmt: skip


def _call(module: str, *arguments: str) -> str:
    """Run a command line of the project; its stdout."""
    start = ("-c", "from gigavideo_data.cli import main; main()") if module == "gigavideo_data" else ("-m", module)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *start, *arguments], env=env, text=True, stdout=subprocess.PIPE, check=True)
    return done.stdout


# --- telling ---------------------------------------------------------------------------------------------------------


def tell(split: str) -> str:
    """The tables as Markdown: gain on what was trained, and on everything else, mean over seeds."""
    found: dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]] = defaultdict(list)
    for run in runs():
        result = WORK / "results" / split / f"{run.key}.json"
        if result.exists():
            found[run.table, run.name].append((run, json.loads(result.read_text())))
    lines = [f"# The method on the miniature ({split} prompts)", ""]
    for table in dict.fromkeys(table for table, _ in found):
        lines += [
            f"## {table}",
            "",
            "| | steps | base | tuned | gain | interval over prompts, by seed | spread over seeds | other dimensions |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for (its_table, name), results in found.items():
            if its_table == table:
                lines.append(_line(name, results))
        lines.append("")
    return "\n".join(lines)


def _line(name: str, results: list[tuple[Run, dict[str, Any]]]) -> str:
    trained = [_mean_of(result, run.dimensions) for run, result in results]
    others = [_mean_of(result, [d for d in DIMENSIONS if d not in run.dimensions]) for run, result in results]
    gains = [tuned - base for base, tuned in trained]
    spread = statistics.stdev(gains) if len(gains) > 1 else float("nan")
    intervals = []
    for run, result in results:
        mine = [c for c in result["comparisons"] if c["dimension"] in run.dimensions]
        intervals.append("; ".join(f"{c['low']:+.2f} to {c['high']:+.2f}" for c in mine if c["low"] is not None))
    steps = "/".join(str(result["steps"]) for _, result in results)
    return (
        f"| {name} | {steps} | {statistics.mean(b for b, _ in trained):.3f} "
        f"| {statistics.mean(t for _, t in trained):.3f} "
        f"| {statistics.mean(gains):+.3f} | {' / '.join(intervals)} | {spread:.3f} "
        f"| {statistics.mean(t - b for b, t in others):+.3f} |"
    )


def _mean_of(result: dict[str, Any], dimensions: Any) -> tuple[float, float]:
    mine = [c for c in result["comparisons"] if c["dimension"] in dimensions and c["difference"] is not None]
    return statistics.mean(c["base"] for c in mine), statistics.mean(c["tuned"] for c in mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("build", "run", "tell"))
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--only", default="", help="part of the name of the runs to do")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.step == "build":
        build()
    elif args.step == "run":
        run_all(args.split, args.only)
    else:
        text = tell(args.split)
        print(text)
        if args.out:
            args.out.write_text(text)


if __name__ == "__main__":
    main()

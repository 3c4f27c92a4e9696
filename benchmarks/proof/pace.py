"""Seconds per step of each strategy, on the dataset of table 3: interleaved, with a control.

A round trains each strategy for a few steps, the method first and once more at the end. Times are relative to the mean
of these two; the second relative to the first is the control.
"""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.proof.runs import LR, OFFLINE, ONLINE
from benchmarks.proof.work import ALONE
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress
from gigavideo_train import plan as planning
from gigavideo_train.data import dataset
from gigavideo_train.training import run_training

ROUNDS, STEPS = 3, 6  # the first step of each run is left out, because FLOPs are counted in it
METHOD = "reweight"
CONTROL = "reweight again"


def file(work: Path) -> Path:
    """The file of the times: for each strategy and round, seconds relative to the method."""
    return work / "results" / "pace.json"


def measure(work: Path) -> None:
    """Time all strategies, with nothing else running; about ten minutes on two cores."""
    whole = replace(dataset.read(work / "focus"), held_out=[])
    others = [name for name in (*OFFLINE, *ONLINE) if name != METHOD]
    names = [METHOD, *others, CONTROL]
    took: dict[str, list[float]] = {name: [] for name in names}
    with Progress(Console(stderr=True)) as progress:
        progress.start("pace", total=ROUNDS * len(names))
        for _ in range(ROUNDS):
            for name in names:
                took[name].append(_seconds(METHOD if name == CONTROL else name, whole, work))
                progress.advance()
        progress.finish()
    around = [(before + after) / 2 for before, after in zip(took[METHOD], took[CONTROL], strict=True)]
    ratios = {name: [a / b for a, b in zip(took[name], around, strict=True)] for name in others}
    control = [after / before for before, after in zip(took[METHOD], took[CONTROL], strict=True)]
    found = {
        "threads": torch.get_num_threads(),
        "seconds": statistics.median(around),
        "ratios": ratios,
        "control": control,
    }
    write_durably(file(work), json.dumps(found).encode())


def _seconds(strategy: str, whole: dataset.Dataset, work: Path) -> float:
    """Median seconds of a step."""
    out = work / "train" / "pace"
    shutil.rmtree(out, ignore_errors=True)
    settings = [f"strategy={strategy}", f"lr={LR}", f"max_steps={STEPS}", "epochs=100"]
    plan = planning.make(whole, None, None, settings)
    with Progress(Console(quiet=True)) as progress:
        run_training(plan, out, work / "latents", ALONE, progress, resume=False)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    shutil.rmtree(out)
    return statistics.median(json.loads(line)["s_per_step"] for line in lines[1:])

"""Seconds per clip and per step on this machine, on one core: the assumptions of `hours`, and the times of table 3.

Each of some repetitions trains every strategy for a few steps, `reweight` first and once more at the end. Times are
relative to the mean of these two; the second relative to the first is the control.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.proof import hours
from benchmarks.proof.final import OFFLINE, ONLINE
from benchmarks.proof.runs import FOCUS, Run
from benchmarks.proof.sets import build
from benchmarks.proof.work import Lab, lab
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators.profiles import model_folder

REPETITIONS, STEPS = 3, 6  # the first step of each run is left out, because FLOPs are counted in it
METHOD, CONTROL = "reweight", "reweight again"
NUM_PROMPTS, NUM_SAMPLES = 48, 6
SET = {
    "name": "pace",
    "prompts.per_dimension": NUM_PROMPTS,
    "prompts.variants": 1,
    "samples_per_prompt": NUM_SAMPLES,
    "captions.count": 0,
    "validation_share": 0,
    "check.videos": 0,
    "eval_prompts.per_dimension": 16,
    "eval_prompts.seeds": 4,
    "limits.replicas": 1,
}


def file(work: Path) -> Path:
    """The file of the times."""
    return work / "results" / "pace.json"


def measure(work: Path) -> None:
    """Measure, print and write the times, with nothing else running."""
    here = work / "pace"
    began = time.perf_counter()
    build(here / "set", here / "store", [FOCUS], SET)  # with a store of its own, so that no clip is there already
    clip_built_s = (time.perf_counter() - began) / (NUM_PROMPTS * NUM_SAMPLES)
    of_this_process = lab(here, "set")
    of_this_process.sampler("dev")
    began = time.perf_counter()
    clips = of_this_process.rewards(model_folder("miniature"), None, "dev")
    clip_scored_s = (time.perf_counter() - began) / len(clips)
    first, second = _training(of_this_process), _training(of_this_process)  # the second finds its clips encoded
    clip_encoded_s = (first - second) / (NUM_PROMPTS * NUM_SAMPLES)
    found = {
        "clip_built_s": clip_built_s,
        "clip_encoded_s": clip_encoded_s,
        "clip_scored_s": clip_scored_s,
        **_steps(of_this_process),
    }
    write_durably(file(work), json.dumps(found).encode())
    steps_of = {name: round(statistics.median(ratios), 1) for name, ratios in found["ratios"].items()}
    print(f"CLIP_BUILT_S = {clip_built_s:.2f}\nCLIP_ENCODED_S = {clip_encoded_s:.2f}")
    print(f"CLIP_SCORED_S = {clip_scored_s:.2f}\nSTEP_S = {found['step_s']:.2f}")
    print(f"STEPS_OF = { {name: steps_of[name] for name in hours.STEPS_OF} }")


def _training(here: Lab) -> float:
    """Seconds of a training of one step on all clips."""
    began = time.perf_counter()
    here.train(Run("pace", "encoding", (FOCUS,), data="set", strategy="sft", samples=NUM_SAMPLES, steps=1))
    return time.perf_counter() - began


def _steps(here: Lab) -> dict[str, Any]:
    """Seconds of a step of `reweight`, and of the others relative to it in every repetition."""
    others = [name for name in (*OFFLINE, *ONLINE) if name != METHOD]
    names = [METHOD, *others, CONTROL]
    took: dict[str, list[float]] = {name: [] for name in names}
    with Progress(Console(stderr=True)) as progress:
        progress.start("pace", total=REPETITIONS * len(names))
        for _ in range(REPETITIONS):
            for name in names:
                took[name].append(_seconds(METHOD if name == CONTROL else name, here))
                progress.advance()
        progress.finish()
    around = [(before + after) / 2 for before, after in zip(took[METHOD], took[CONTROL], strict=True)]
    return {
        "step_s": statistics.median(around),
        "ratios": {name: [a / b for a, b in zip(took[name], around, strict=True)] for name in others},
        "control": [after / before for before, after in zip(took[METHOD], took[CONTROL], strict=True)],
    }


def _seconds(strategy: str, here: Lab) -> float:
    """Median seconds of a step."""
    tuned, _ = here.train(
        Run("pace", strategy, (FOCUS,), data="set", strategy=strategy, samples=NUM_SAMPLES, steps=STEPS)
    )
    lines = (tuned.parent / "metrics.jsonl").read_text("utf-8").splitlines()
    return statistics.median(json.loads(line)["s_per_step"] for line in lines[1:])


def table(work: Path) -> str:
    """Time per step of each strategy, as Markdown."""
    if not file(work).exists():
        return "Not measured."
    found = json.loads(file(work).read_text("utf-8"))
    lines = ["| | seconds per step relative to reweight | range |", "| --- | --- | --- |"]
    for name, ratios in {**found["ratios"], "reweight again (control)": found["control"]}.items():
        lines.append(f"| {name} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |")
    how = f"median of {len(found['control'])} repetitions, one thread, batches of 32 samples"
    return "\n".join([*lines, "", f"A step of reweight took {found['step_s']:.2f} s ({how})."])

"""What the miniature's base model is good and weak at: mean reward per skill, on prompts of one split.

    python -m benchmarks.miniature_base [--model DIR] [--clips 96] [--split dev] [--out FILE.md] [--sheets DIR]

The splits are pretrain, tune, dev and test; a second table has the number of combinations of each. The interval is a
95 % bootstrap over prompts. `--sheets` writes the best and the worst 25 clips of each skill as
pictures, six frames a row, best first, to compare the judge with one's own eye.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.miniature_trials import judged
from gigavideo_data.io import video
from gigavideo_data.miniature.grammar import SKILLS, SPLITS, describe, sample_scene, split_of
from gigavideo_data.miniature.judge import MiniatureJudge
from gigavideo_data.miniature.questions import ask, ask_plain
from gigavideo_data.miniature.world import FPS
from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator
from gigavideo_data.models.generators.profiles import named, profile_of, spec
from gigavideo_data.recipe.recipe import Generator

SHOWN = 25
DRAWS = 50_000  # scenes of each skill, to find its combinations


@cache
def _generator(model: str, steps: int, guidance: float) -> DiffusersGenerator:
    cv2.setNumThreads(1)
    generator = Generator(model=named(model), steps=steps, guidance=guidance)
    return DiffusersGenerator(spec(generator).settings)


def clips(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Make and judge one batch of clips."""
    drawn = [(skill, sample_scene(skill, np.random.default_rng([n, 31]), task["split"])) for skill, n in task["clips"]]
    prompts = [describe(scene, full=True) for _, scene in drawn]
    generator = _generator(task["model"], task["steps"], task["guidance"])
    videos = generator.generate(prompts, [n for _, n in task["clips"]])
    results = []
    for (skill, scene), prompt, made in zip(drawn, prompts, videos, strict=True):
        frames_THWC = video.decode(video.encode(made.frames_THWC, FPS)).frames_THWC
        asked = ask_plain(scene) if skill == "plain" else ask(scene, skill)
        reward = judged(MiniatureJudge({}), skill, asked, frames_THWC)
        results.append({"skill": skill, "prompt": prompt, "reward": reward, "frames_THWC": frames_THWC})
    return results


def combinations(skill: str) -> tuple[Counter[str], bool]:
    """The number of combinations of a skill per split, and whether the last fifth of the draws found no new one."""
    rng, splits, num_early = np.random.default_rng(0), dict[str, str](), 0
    for draw in range(DRAWS):
        if draw == DRAWS * 4 // 5:
            num_early = len(splits)
        scene = SKILLS[skill](rng)
        splits.setdefault(describe(scene), split_of(scene))
    return Counter(splits.values()), len(splits) == num_early


def table_of_combinations(skills: list[str]) -> list[str]:
    """Lines of a Markdown table: combinations per skill and split."""
    lines = [f"| skill | combinations | {' | '.join(SPLITS)} |", "| --- |" + " --- |" * (1 + len(SPLITS))]
    for skill in skills:
        counts, complete = combinations(skill)
        total = f"{counts.total()}" if complete else f"at least {counts.total()}"
        lines.append(f"| {skill} | {total} | {' | '.join(str(counts[split]) for split in SPLITS)} |")
    return lines


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def sheet(clips: list[dict[str, Any]]) -> np.ndarray:
    """A picture of clips, one a row: six frames, then the reward and the prompt."""
    rows = []
    for clip in clips:
        frames = cv2.resize(np.concatenate(list(clip["frames_THWC"][::3]), axis=1), None, fx=1.5, fy=1.5)
        text = np.full((frames.shape[0], 560, 3), 255, np.uint8)
        line = f"{-1 if clip['reward'] is None else clip['reward']:.2f} {clip['prompt'].split(', static')[0]}"
        cv2.putText(text, line, (6, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(np.concatenate([frames, text], axis=1))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--clips", type=int, default=96, help="per skill")
    parser.add_argument("--split", default="dev", choices=SPLITS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--skills", nargs="+", default=list(SKILLS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheets", type=Path)
    args = parser.parse_args()
    shared = {"model": args.model, "steps": args.steps, "guidance": args.guidance, "split": args.split}
    wanted = [(skill, number) for skill in args.skills for number in range(args.clips)]
    size = profile_of(named(args.model)).batch_size
    tasks = [{**shared, "clips": wanted[start : start + size]} for start in range(0, len(wanted), size)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        made = [clip for batch in pool.map(clips, tasks) for clip in batch]
    lines = [
        f"Printed by `python -m benchmarks.miniature_base --clips {args.clips}`, on {platform.machine()} CPUs.",
        "",
        f"{args.clips} clips per skill on {args.split} prompts, {args.steps} steps, guidance {args.guidance:g}.",
        "",
        "| skill | mean reward | 95 % interval | reward > 0.5 | unscorable |",
        "| --- | --- | --- | --- | --- |",
    ]
    for skill in args.skills:
        mine = [clip for clip in made if clip["skill"] == skill]
        values = np.array([clip["reward"] for clip in mine if clip["reward"] is not None] or [np.nan])
        low, high = interval(values)
        lost = sum(clip["reward"] is None for clip in mine)
        share = 100 * (values > 0.5).mean()
        lines.append(f"| {skill} | {values.mean():.3f} | {low:.3f} to {high:.3f} | {share:.0f} % | {lost} |")
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            ranked = sorted(mine, key=lambda clip: -1.0 if clip["reward"] is None else clip["reward"], reverse=True)
            for name, chosen in (("best", ranked[:SHOWN]), ("worst", ranked[-SHOWN:])):
                cv2.imwrite(str(args.sheets / f"{skill}-{name}.png"), cv2.cvtColor(sheet(chosen), cv2.COLOR_RGB2BGR))
    lines += ["", f"Combinations, found in {DRAWS:,} scenes of each skill:", "", *table_of_combinations(args.skills)]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("# The base model of the miniature\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

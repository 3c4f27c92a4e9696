"""One run of the proof: train with the trainer, sample and judge as `gv-data eval` does; one process per core.

Prompts, seeds, generator, MP4 encoding, questions and judge are the same, also for base and tuned model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import torch
import transformers
from diffusers.utils import logging
from rich.console import Console
from safetensors.torch import load_file

from benchmarks.proof.runs import Run, result_file, rows_for
from gigavideo_data.commands.evaluate_setting import Setting, read_setting
from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator
from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_data.models.registry import generator_spec, judge_spec, load_engine
from gigavideo_data.rows import EvalPrompt
from gigavideo_train import plan as planning
from gigavideo_train.data import dataset as training_set
from gigavideo_train.distributed.world import World
from gigavideo_train.training import run_training

OTHERS = 8  # prompts of each untrained dimension, one seed each
ALONE = World(0, 1, torch.device("cpu"))

Asked = tuple[EvalPrompt, int]  # a row of eval_prompts, and a seed


class Sampler:
    """The dataset's generator; each run replaces the weights of its transformer."""

    def __init__(self, setting: Setting) -> None:
        self.generator = DiffusersGenerator(generator_spec(setting.generator).settings)
        self.transformer = self.generator.pipeline.transformer

    def videos(self, asked: list[Asked]) -> Iterator[bytes]:
        """One MP4 per prompt and seed, in order; a video with values that are not finite ends the proof."""
        size = self.generator.batch_size
        for start in range(0, len(asked), size):
            mine = asked[start : start + size]
            made = self.generator.generate([prompt["prompt"] for prompt, _ in mine], [seed for _, seed in mine])
            for each in made:
                yield video.encode(each.frames_THWC, each.fps)


class Lab:
    """What one process keeps between runs: datasets, sampler, judge."""

    def __init__(self, work: Path, split: str, prompts: str) -> None:
        self.work = work
        self.dataset = cache(lambda name: training_set.read(work / name))
        self.setting = read_setting(work / prompts, split)
        self.sampler = Sampler(self.setting)
        self.judge = load_engine("judge", judge_spec(self.setting.judge)[0])

    def train(self, run: Run) -> tuple[Path, dict[str, Any]]:
        """Train in the work folder.

        Returns:
            The tuned transformer's folder, and the facts of the plan.

        Raises:
            DatasetError: the run keeps no samples.
        """
        out = self.work / "train" / run.key
        shutil.rmtree(out, ignore_errors=True)
        whole = self.dataset(run.data)
        rows = rows_for(run, whole.rows)
        mine = replace(whole, identity=f"{whole.identity} {run.key}", rows=rows, held_out=[])
        settings: dict[str, Any] = {"lr": run.lr, "seed": run.seed, "strategy": run.strategy, "epochs": run.epochs}
        settings |= {"max_steps": run.steps} if run.steps else {}
        settings |= dict(run.settings)
        settings |= {"checkpoint_every": 1_000_000, "dimensions": f"[{','.join(run.dimensions)}]"}
        plan = planning.make(mine, None, None, [f"{key}={value}" for key, value in settings.items()])
        with Progress(Console(quiet=True)) as progress:
            tuned = run_training(plan, out, self.work / "latents", ALONE, progress, resume=False)
        return tuned / "transformer", planning.facts(plan)

    def rewards(self, transformer: Path, asked: list[Asked]) -> list[dict[str, Any]]:
        """Reward of one video per prompt and seed; None if it cannot be scored."""
        (weights,) = transformer.glob("*.safetensors")
        self.sampler.transformer.load_state_dict(load_file(weights))
        found = []
        for (prompt, seed), data in zip(asked, self.sampler.videos(asked), strict=True):
            clip = video.decode(data)
            answers = self.judge.answer(clip.frames_THWC, clip.fps, [q["question"] for q in prompt["questions"]])
            record = {"answers": [{"p_yes": a.p_yes, "p_no": a.p_no} for a in answers]}
            names = {"dimension": prompt["dimension"], "prompt_id": prompt["prompt_id"], "seed": seed}
            found.append({**names, "reward": self.setting.reward_of(prompt, record)})
        return found

    def asked(self, run: Run | None) -> list[Asked]:
        """All prompts of the trained dimensions with all their seeds, and some of the others; for the base, all."""
        every: list[Asked] = []
        seen: dict[str, int] = {}
        for prompt in self.setting.prompts:
            dimension = prompt["dimension"]
            seen[dimension] = seen.get(dimension, 0) + 1
            if run is None or dimension in run.dimensions:
                every += [(prompt, seed) for seed in prompt["seeds"]]
            elif run.others and seen[dimension] <= OTHERS:
                every.append((prompt, prompt["seeds"][0]))
        return every


@cache
def lab(work: Path, split: str, prompts: str) -> Lab:
    """The lab of this process, created at its first run."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return Lab(work, split, prompts)


def do(run: Run | None, work: Path, split: str, prompts: str) -> None:
    """Do one run, or evaluate the untuned base, and write the result file."""
    here = lab(work, split, prompts)
    facts: dict[str, Any] = {}
    if run is None:
        transformer = model_folder(here.setting.generator.model) / "transformer"
    else:
        try:
            transformer, facts = here.train(run)
        except DatasetError as error:
            write_durably(result_file(work, split, run), json.dumps({"refused": str(error)}).encode())
            return
    result = {"plan": facts, "rewards": here.rewards(transformer, here.asked(run))}
    write_durably(result_file(work, split, run), json.dumps(result).encode())
    if run is not None:
        shutil.rmtree(work / "train" / run.key)


def do_all(runs: list[Run], work: Path, split: str, prompts: str = "all") -> None:
    """Do the runs that have no result yet, on all cores; after an interruption, the same call continues.

    Args:
        runs: besides the evaluation of the untuned base.
        work: folder of datasets and results.
        split: whose prompts are scored.
        prompts: the dataset that holds them.
    """
    wanted = [None, *runs]
    missing = [run for run in wanted if not result_file(work, split, run).exists()]
    cores = len(os.sched_getaffinity(0))
    with Progress(Console(stderr=True)) as progress, ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        progress.start(split, total=len(wanted), cached=len(wanted) - len(missing))
        for done in as_completed([pool.submit(do, run, work, split, prompts) for run in missing]):
            done.result()
            progress.advance()
        progress.finish()

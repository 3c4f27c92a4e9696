"""One run of the proof: train with the trainer, sample and judge as `gv-data eval` does; one process per core.

Prompts, seeds, generator, MP4 encoding, questions and judge are the same, also for base and tuned model.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import transformers
from diffusers.utils import logging
from rich.console import Console
from safetensors.torch import load_file

from benchmarks.proof import realism
from benchmarks.proof.runs import Run, result_file, rows_for
from benchmarks.proof.views import setting_of
from gigavideo_data.commands.evaluation.setting import Setting
from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator
from gigavideo_data.models.generators.profiles import Base, model_folder
from gigavideo_data.models.registry import captions_spec, features_spec, generator_spec, judge_spec, load_engine
from gigavideo_data.recipe.features import Features
from gigavideo_data.recipe.recipe import Captions
from gigavideo_data.rows import EvalPrompt
from gigavideo_train import plan as planning
from gigavideo_train.data import dataset as training_set
from gigavideo_train.distributed.world import World
from gigavideo_train.plan import Plan
from gigavideo_train.training import run_training

PR_SET_PDEATHSIG = 1  # of Linux
ALONE = World(0, 1, torch.device("cpu"))

Asked = tuple[EvalPrompt, int]  # a row of eval_prompts, and a seed
Task = tuple[Callable[..., None], tuple[Any, ...]]  # a function of a module, and its arguments


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
    """What one process keeps between runs: datasets, samplers, judges.

    Attributes:
        work: folder of datasets and results.
        dataset: name of a dataset in that folder -> the dataset.
        setting, sampler, judge: name of a view -> its prompts, its generator, its judge.
        rendered, network: the rendered clips, and what gives the features of a clip.
    """

    def __init__(self, work: Path, prompts: str) -> None:
        self.work = work
        self.dataset = cache(lambda name: training_set.read(work / name))
        self.setting = cache(lambda view: setting_of(view, work / prompts))
        self.sampler = cache(lambda view: Sampler(self.setting(view)))
        self.judge = cache(lambda view: load_engine("judge", judge_spec(self.setting(view).judge)[0]))
        self.rendered = load_engine("captions", captions_spec(Captions()).settings)
        self.network = load_engine("features", features_spec(Features(backend="vae", model="miniature")).settings)

    def train(self, run: Run, model: Path | None = None) -> tuple[Path, dict[str, Any]]:
        """Train in the work folder.

        Args:
            run: what to train on, and how.
            model: folder of the model to start from; None is the dataset's target.

        Returns:
            The folder of the tuned model, and the facts of the plan.

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
        base = Base(str(model)) if model else None
        plan = planning.make(mine, base, None, [f"{key}={value}" for key, value in settings.items()])
        if run.distils:
            plan = _without_advantages(plan)
        with Progress(Console(quiet=True)) as progress:
            tuned = run_training(plan, out, self.work / "latents", ALONE, progress, resume=False)
        return tuned, planning.facts(plan)

    def rewards(self, model: Path, run: Run | None, view: str) -> list[dict[str, Any]]:
        """Reward of one video per prompt and seed of a view; None if it cannot be scored.

        Writes the features of the videos of the trained dimensions; for the base, of all, and of rendered clips too.
        """
        (weights,) = (model / "transformer").glob("*.safetensors")
        setting, sampler, judge, asked = self.setting(view), self.sampler(view), self.judge(view), self.asked(run, view)
        sampler.transformer.load_state_dict(load_file(weights))
        found, keys, clips, rendered = [], [], [], []
        for (prompt, seed), data in zip(asked, sampler.videos(asked), strict=True):
            clip = video.decode(data)
            answers = judge.answer(clip.frames_THWC, clip.fps, [q["question"] for q in prompt["questions"]])
            record = {"answers": [{"p_yes": a.p_yes, "p_no": a.p_no} for a in answers]}
            names = {"dimension": prompt["dimension"], "prompt_id": prompt["prompt_id"], "seed": seed}
            found.append({**names, "reward": setting.reward_of(prompt, record)})
            if run is None or prompt["dimension"] in run.dimensions:
                keys.append((prompt["dimension"], prompt["prompt_id"], seed))
                clips.append(clip.frames_THWC)
            if run is None:
                rendered.append(video.decode(self.rendered.of_prompt(prompt["prompt"], seed)).frames_THWC)
        features_ND = self.network.features(clips)
        more_ND = {"real_ND": np.array(self.network.features(rendered))} if rendered else {}
        realism.write_features(result_file(self.work, view, run), keys, features_ND, **more_ND)
        return found

    def asked(self, run: Run | None, view: str) -> list[Asked]:
        """All prompts of the trained dimensions with all their seeds, and some of the others; for the base, all."""
        every: list[Asked] = []
        seen: dict[str, int] = {}
        for prompt in self.setting(view).prompts:
            dimension = prompt["dimension"]
            seen[dimension] = seen.get(dimension, 0) + 1
            if run is None or dimension in run.dimensions:
                every += [(prompt, seed) for seed in prompt["seeds"]]
            elif seen[dimension] <= run.others:
                every.append((prompt, prompt["seeds"][0]))
        return every

    def score(self, model: Path, run: Run | None, view: str, facts: dict[str, Any]) -> None:
        """Write the result file of a view."""
        result = {"plan": facts, "rewards": self.rewards(model, run, view)}
        write_durably(result_file(self.work, view, run), json.dumps(result).encode())


def _without_advantages(plan: Plan) -> Plan:
    """The same samples of `nft`, each with an advantage of 0."""
    samples = [replace(sample, advantage=0.0) for sample in plan.samples]
    return replace(plan, selection=replace(plan.selection, samples=samples))


@cache
def lab(work: Path, prompts: str) -> Lab:
    """The lab of this process, created at its first run."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return Lab(work, prompts)


def do(run: Run, work: Path, prompts: str) -> None:
    """Do one run and write the result files of its views that are missing."""
    here = lab(work, prompts)
    views = missing_views(run, work)
    try:
        model, facts = here.train(run)
    except DatasetError as error:
        for view in views:
            write_durably(result_file(work, view, run), json.dumps({"refused": str(error)}).encode())
        return
    for view in views:
        here.score(model, run, view, facts)
    shutil.rmtree(work / "train" / run.key)


def do_base(view: str, work: Path, prompts: str) -> None:
    """Score the untuned base on one view."""
    lab(work, prompts).score(model_folder("miniature"), None, view, {})


def missing_views(run: Run, work: Path) -> list[str]:
    """The views of a run that have no result yet."""
    return [view for view in run.views if not result_file(work, view, run).exists()]


def base_tasks(views: Iterable[str], work: Path, prompts: str) -> list[Task]:
    """The views on which the base has not been scored yet."""
    missing = [view for view in dict.fromkeys(views) if not result_file(work, view, None).exists()]
    return [(do_base, (view, work, prompts)) for view in missing]


def do_all(runs: Sequence[Run], work: Path, prompts: str) -> None:
    """Do the runs that have no result yet, on all cores; after an interruption, the same call continues.

    Args:
        runs: besides the evaluations of the untuned base.
        work: folder of datasets and results.
        prompts: the dataset that holds the evaluation prompts.
    """
    tasks = base_tasks((view for run in runs for view in run.views), work, prompts)
    tasks += [(do, (run, work, prompts)) for run in runs if missing_views(run, work)]
    in_processes(tasks)
    realism.add(runs, work)


def in_processes(tasks: Sequence[Task]) -> None:
    """Do all tasks, one process per core; the first error ends them."""
    if not tasks:
        return
    cores = len(os.sched_getaffinity(0))
    spawn = get_context("spawn")
    with Progress(Console(stderr=True)) as progress, ProcessPoolExecutor(cores, spawn, _end_with_parent) as pool:
        progress.start("proof", total=len(tasks))
        for done in as_completed([pool.submit(function, *arguments) for function, arguments in tasks]):
            done.result()
            progress.advance()
        progress.finish()


def _end_with_parent() -> None:
    """Let the kernel kill this process when its parent is killed: a new start must find nobody in its folders."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

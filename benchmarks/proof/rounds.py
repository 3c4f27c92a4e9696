"""Rounds of build and train on the focus: each round's clips are made by the model of the round before.

Each round is scored on the dev prompts. A loop with `views` is scored on them once, at its end, with the best round by
dev. A loop runs in one process; after an interruption, finished rounds are kept and a started build is resumed.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.proof import realism
from benchmarks.proof.results import rewards_of
from benchmarks.proof.runs import BUDGET, FEW_OTHERS, FOCUS, LR, MANY_OTHERS, STEPS, Run, file_name, result_file
from benchmarks.proof.sets import build
from benchmarks.proof.work import Lab, base_tasks, in_processes, lab

PROMPTS = 102  # base prompts of a round: half of the focus's, so that the third round has no new ones
SET = {
    "name": "round",
    "prompts.per_dimension": PROMPTS,
    "prompts.variants": 3,
    "samples_per_prompt": 2,
    "captions.count": 0,
    "validation_share": 0,
    "check.videos": 0,
    "eval_prompts.per_dimension": 0,
    "limits.replicas": 1,  # a loop has one core
}


@dataclass(frozen=True)
class Loop:
    """Some rounds.

    Attributes:
        name: its place in the results.
        strategy: of the trainer.
        kappa: weight of the distance to the first model; only of `nft`.
        fresh: each round takes prompts that no earlier round used, as long as there are any.
        corrupted: share of the rewards exchanged among each other, in every round.
        seed: of training.
        num_rounds: number of rounds.
        views: what the best round is scored on at the end.
        dataset: changes of `SET`.
        steps: optimizer steps of a round.
        others: number of prompts of each untrained dimension that are scored in every round.
    """

    name: str
    strategy: str = "nft"
    kappa: float = 0.1
    fresh: bool = True
    corrupted: float = 0.0
    seed: int = 0
    num_rounds: int = 3
    views: tuple[str, ...] = ()
    dataset: dict[str, Any] = field(default_factory=dict, hash=False)
    steps: int = STEPS
    others: int = FEW_OTHERS

    @property
    def key(self) -> str:
        """The name of its folder."""
        return file_name(self.name, str(self.seed))

    @property
    def numbers(self) -> range:
        """The numbers of its rounds."""
        return range(1, self.num_rounds + 1)

    def run(self, number: int) -> Run:
        """The training run of a round."""
        settings: tuple[tuple[str, Any], ...] = BUDGET
        if self.strategy == "nft":
            settings += (("nft_kappa", self.kappa), ("anchor_model", "miniature"))
        return Run(
            "rounds",
            f"{self.name}, round {number}",
            (FOCUS,),
            self.seed,
            data=f"{self.round_folder(number)}/set",
            strategy=self.strategy,
            corrupted=self.corrupted,
            lr=LR,
            steps=self.steps,
            settings=settings,
            others=self.others,
            views=("dev",),
        )

    @property
    def best(self) -> Run:
        """The run whose result files are those of the best round; nothing is trained for it."""
        return Run("rounds", f"{self.name}, best round", (FOCUS,), self.seed, others=MANY_OTHERS, views=self.views)

    def round_folder(self, number: int) -> str:
        """Where the dataset and the model of a round are, in the work folder."""
        return f"loops/{self.key}/round-{number}"


def set_of(loop: Loop, number: int, work: Path) -> dict[str, Any]:
    """The values of the recipe of a round's dataset."""
    values: dict[str, Any] = {**SET, **loop.dataset}
    if number > 1:
        values["generators.0.model"] = work.resolve() / loop.round_folder(number - 1) / "model"
        if loop.fresh:
            earlier = [str(work.resolve() / loop.round_folder(before) / "set") for before in range(1, number)]
            values["prompts.used"] = f"[{', '.join(earlier)}]"
    return values


def do_loop(loop: Loop, work: Path, store: Path, prompts: str) -> None:
    """Do the rounds of a loop that have no result yet, then score the best one on the views of the loop."""
    here = lab(work, prompts)
    for number in loop.numbers:
        if not _is_round_done(loop, number, work):
            _do_round(loop, number, here, store)
    missing = [view for view in loop.views if not result_file(work, view, loop.best).exists()]
    if missing:
        number = best_round(loop, work)
        for view in missing:
            here.score(work / loop.round_folder(number) / "model", loop.best, view, {"round": number})


def _is_round_done(loop: Loop, number: int, work: Path) -> bool:
    """Its result is there, and its model for the next round: on another machine, only the result may be."""
    return result_file(work, "dev", loop.run(number)).exists() and (work / loop.round_folder(number) / "model").exists()


def _do_round(loop: Loop, number: int, here: Lab, store: Path) -> None:
    run, folder = loop.run(number), here.work / loop.round_folder(number)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):  # others print too
        build(folder / "set", store, [FOCUS], set_of(loop, number, here.work))
    before = here.work.resolve() / loop.round_folder(number - 1) / "model" if number > 1 else None
    tuned, facts = here.train(run, before)
    shutil.rmtree(folder / "model", ignore_errors=True)  # of a round that was interrupted while it was scored
    model = tuned.rename(folder / "model")
    shutil.rmtree(tuned.parent)
    here.score(model, run, "dev", facts)


def best_round(loop: Loop, work: Path) -> int:
    """The number of the round with the best mean reward on the focus's dev prompts; of equal ones the first."""
    means = [_mean(result_file(work, "dev", loop.run(number))) for number in loop.numbers]
    return loop.numbers[means.index(max(means))]


def _mean(file: Path) -> float:
    rewards = rewards_of(json.loads(file.read_text("utf-8")))
    return statistics.fmean(value for key, value in rewards.items() if key[0] == FOCUS and value is not None)


def do_loops(loops: Sequence[Loop], work: Path, store: Path, prompts: str) -> None:
    """Do all loops, one process per core; after an interruption, the same call continues.

    Args:
        loops: besides the evaluations of the untuned base.
        work: folder of the loops and results.
        store: folder of finished rows, shared by all builds.
        prompts: the dataset in the work folder that holds the evaluation prompts.
    """
    tasks = base_tasks(["dev", *(view for loop in loops for view in loop.views)], work, prompts)
    in_processes([*tasks, *((do_loop, (loop, work, store, prompts)) for loop in loops if not is_done(loop, work))])
    realism.add([run for loop in loops for run in (*map(loop.run, loop.numbers), loop.best)], work)


def is_done(loop: Loop, work: Path) -> bool:
    """Whether all result files of a loop are there."""
    files = [result_file(work, "dev", loop.run(number)) for number in loop.numbers]
    files += [result_file(work, view, loop.best) for view in loop.views]
    return all(file.exists() for file in files)

"""The loop: each round builds a dataset with the current model, trains on it, and evaluates the result.

    round K: gv-data build -> gv-train -> gv-data eval -> guards -> loop.json -> gv-data push

A round starts from the model that the round before published, its averaged weights: they generate the videos and are
v_old. A step that has finished is not run again; a step that was interrupted resumes from its own files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.dataset.reader import read_eval_prompts, read_manifest
from gigavideo_data.errors import RunError
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.models.spec import folder_revision
from gigavideo_loop import arguments, page, scores
from gigavideo_loop.arguments import Model
from gigavideo_loop.commands import Run
from gigavideo_loop.outcome import best_round, is_over, next_step, with_round
from gigavideo_loop.setting import Setting
from gigavideo_loop.state import Loop, Round, finished_step, open_loop, save

HELD_OUT_FILE = "held_out.json"


def run_loop(setting: Setting, run: Run, note: Callable[[str], None], show: Callable[[Loop], None]) -> Loop:
    """Run the rounds that are not finished, until all are done or a guard fires, and publish what was requested.

    Args:
        setting: of the loop, whose folder this process has locked.
        run: runs a command.
        note: prints one line of progress.
        show: prints the rounds so far.

    Returns:
        The loop, as in loop.json.

    Raises:
        RecipeError: the folder holds another loop.
        RunError: the model of a round was changed.
        CommandError: a command failed; what is finished is kept.
        KeyboardInterrupt: a command was interrupted.
    """
    loop = open_loop(setting)
    work = _Work(setting, run, note)
    loop = _saved(setting, work.with_pushed(loop))
    while not is_over(loop):
        loop = _saved(setting, with_round(loop, *work.round(loop), setting.guards_off))
        show(loop)
        loop = _saved(setting, work.with_pushed(loop))
    return _saved(setting, work.with_pushed_model(loop))


def _saved(setting: Setting, loop: Loop) -> Loop:
    """Write loop.json, with the best round and what to do next, and after a round the page."""
    loop = {**loop, "best": best_round(loop["rounds"], setting.guards_off)}
    loop = {**loop, "next": next_step(loop, setting.out)}
    save(setting.out, loop)
    if loop["rounds"]:
        page.write(setting.out)
    return loop


@dataclass(frozen=True)
class _Work:
    """Runs the commands of rounds."""

    setting: Setting
    run: Run
    note: Callable[[str], None]

    def round(self, loop: Loop) -> tuple[Round, scores.Evaluation]:
        """The next round, without the results of its guards."""
        number = len(loop["rounds"]) + 1
        folder = self._folder(number)
        dataset, model = folder / "dataset", folder / "model"
        start = self._model(loop, number - 1)
        built = self._step(number, "build", lambda: self._build(number, start, dataset))
        first = self._first()
        start = first if number == 1 else start  # of the Hub, now with its commit
        training = arguments.train(self.setting, number, start, first, dataset, folder)
        trained = self._step(number, "train", lambda: self._train(number, training, model))
        tuned = arguments.tuned_model(model, first, trained["model_hash"])
        evaluation = arguments.evaluate(self.setting, tuned, first, self._folder(1) / "dataset", folder / "eval")
        evaluated = self._step(number, "eval", lambda: self._command(number, "gv-data", evaluation))
        result = scores.read_evaluation(folder / "eval")
        targets = scores.of_targets(result.scored, loop["targets"])
        entry: Round = {
            "number": number,
            "dataset": {"rows": built["rows"], "kept": trained["kept"], "path": f"{folder.name}/dataset"},
            "model": f"{folder.name}/model",
            "model_hash": trained["model_hash"],
            "eval": f"{folder.name}/eval",
            "dev_mean": targets["tuned"],
            "targets": targets,
            "comparisons": result.facts["comparisons"],
            "measures": result.facts.get("measures"),
            "second": result.facts.get("second"),
            "guards": [],
            "seconds": {name: one["seconds"] for name, one in zip(STEPS, (built, trained, evaluated), strict=True)},
            "published": None,
        }
        return entry, result

    def with_pushed(self, loop: Loop) -> Loop:
        """Publish the datasets of finished rounds, each as its own version of one repository."""
        repo = self.setting.dataset_repo
        rounds: list[Round] = []
        for one in loop["rounds"]:
            published = one["published"]
            if repo and (published or {}).get("repo") != repo:
                number, private = one["number"], ["--private"] if self.setting.private else []
                dataset = str(self.setting.out / one["dataset"]["path"])
                push = ["push", dataset, repo, "--tag", f"v{number}.0.0", *private]
                self.note(f"round {number}: publish the dataset")
                published = _hub_facts(self._command(number, "gv-data", push))
            rounds.append({**one, "published": published})
        return {**loop, "rounds": rounds}

    def with_pushed_model(self, loop: Loop) -> Loop:
        """Publish the model of the best round, if there is one."""
        repo, best = self.setting.model_repo, loop["best"]
        if not repo or not best:
            return loop
        self._model(loop, best)  # the recorded one
        folder = self.setting.out / loop["rounds"][best - 1]["model"]
        self.note(f"publish the model of round {best}")
        private = ["--private"] if self.setting.private else []
        facts = self._command(best, "gv-data", ["push", str(folder), repo, "--model", *private])
        return {**loop, "published_model": {"round": best, **_hub_facts(facts)}}

    def _folder(self, number: int) -> Path:
        return self.setting.out / f"round-{number}"

    def _first(self) -> Model:
        return arguments.first_model(self.setting, read_manifest(self._folder(1) / "dataset"))

    def _model(self, loop: Loop, number: int) -> Model:
        """The model that a round published; of round 0 the first model."""
        if number == 0:
            return arguments.first_model(self.setting)
        one = loop["rounds"][number - 1]
        return arguments.tuned_model(self.setting.out / one["model"], self._first(), one["model_hash"])

    def _step(self, number: int, name: str, command: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The facts of a step of a round and its seconds; it runs unless it has finished before."""

        def timed() -> dict[str, Any]:
            self.note(f"round {number} of {self.setting.rounds}: {name}")
            began = time.monotonic()
            facts = command()
            kept = {key: facts[key] for key in KEPT_FACTS if key in facts}
            return {**kept, "seconds": round(time.monotonic() - began, 3)}

        return finished_step(self._folder(number), name, timed)

    def _build(self, number: int, model: Model, dataset: Path) -> dict[str, Any]:
        used = [self._folder(earlier) / "dataset" for earlier in range(1, number)]
        held_out = self.setting.out / HELD_OUT_FILE
        if used:
            prompts = sorted({prompt["base_prompt"] for prompt in read_eval_prompts(used[0])})
            write_durably(held_out, json.dumps(prompts, ensure_ascii=False).encode())
        command = arguments.build(self.setting, number, model, dataset, used, held_out)
        facts = self._command(number, "gv-data", command)
        _check_lineage(dataset, model)
        return facts

    def _train(self, number: int, command: list[str], model: Path) -> dict[str, Any]:
        facts = self._command(number, "gv-train", command)
        return {**facts, "model_hash": folder_revision(model)}

    def _command(self, number: int, program: str, command: list[str]) -> dict[str, Any]:
        name = program if program == "gv-train" else f"{program} {command[0]}"
        return self.run(program, command, f"round {number}, {name}")


STEPS = ("build", "train", "eval")
KEPT_FACTS = ("rows", "rejected", "kept", "steps", "model_hash")  # of what the commands print


def _check_lineage(dataset: Path, model: Model) -> None:
    """Check that the manifest of a round's dataset names the model that generated it, by its content.

    Raises:
        RunError: it does not.
    """
    if not model.adapter and not Path(model.name).is_absolute():
        return  # a shipped model or one of the Hub, identified by its name or commit
    expected = folder_revision(model.adapter or Path(model.name))
    names = [one["adapter" if model.adapter else "revision"] for one in read_manifest(dataset).get("generators", [])]
    known = {str(name).rpartition("@")[2] for name in names}  # an adapter is named with its hash, name@hash
    if expected not in known:
        raise RunError(
            f"{dataset}: its videos were generated by {', '.join(sorted(known)) or 'no model'}, not by {expected}; the "
            "model was changed during the build. Remove the folder of the round and run the same command again"
        )


def _hub_facts(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: facts.get(key) for key in ("repo", "tag", "sha")}

"""What a loop wrote: loop.json after every round, and in each round's folder the commands that have finished.

    OUT/loop.json             what the loop is, its finished rounds, and why it ended
    OUT/round-K/steps.json    the finished commands of round K, with what they returned

Both are written durably, after what they name: a killed loop continues from what is on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from typing_extensions import TypedDict

from gigavideo_data.errors import RecipeError, RunError
from gigavideo_data.io.atomic import write_durably
from gigavideo_loop.setting import Setting

LOOP_FILE, STEPS_FILE = "loop.json", "steps.json"


class Guard(TypedDict):
    """The result of one guard in one round; `detail` is a sentence with the numbers."""

    name: str
    fired: bool
    detail: str


class Targets(TypedDict):
    """Mean reward over the target dimensions on dev prompts; None where it cannot be computed."""

    base: float | None
    tuned: float | None
    difference: float | None
    low: float | None  # 95 % bootstrap interval of the difference over prompts
    high: float | None


class Round(TypedDict):
    """One finished round. Paths are relative to the loop's folder."""

    number: int
    dataset: dict[str, Any]  # rows, kept, path
    model: str
    model_hash: str  # content hash of the model's folder
    eval: str
    dev_mean: float | None
    targets: Targets
    comparisons: list[dict[str, Any]]  # these three are of eval.json
    measures: dict[str, Any] | None
    second: dict[str, Any] | None
    guards: list[Guard]
    seconds: dict[str, float]  # per command
    published: dict[str, Any] | None  # repo, tag and sha of the dataset on the Hub


class Loop(TypedDict):
    """loop.json."""

    recipe: str
    recipe_hash: str
    rounds_planned: int
    targets: list[str]
    others: list[str]
    strategy: str
    settings: dict[str, Any]
    base: dict[str, Any]  # name, dev_mean
    rounds: list[Round]
    best: int | None
    stopped: dict[str, Any] | None  # round, guard, detail
    published_model: dict[str, Any] | None
    next: str


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a loop's folder.

    Raises:
        RunError: another loop works in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout:
        raise RunError(f"{out}: another gv-loop works in this folder. Wait, or name another --out.") from None


def open_loop(setting: Setting) -> Loop:
    """The loop of a folder as far as it got, or a new one.

    Raises:
        RecipeError: the folder holds a loop of another recipe or with other settings, or rounds of an unknown one.
    """
    path, recipe = setting.out / LOOP_FILE, setting.recipe
    if not path.is_file():
        if next(setting.out.glob("round-*"), None):
            raise RecipeError(f"{setting.out}: holds rounds but no {LOOP_FILE}; name another --out")
        return {
            "recipe": recipe.name,
            "recipe_hash": recipe.hash,
            "rounds_planned": setting.rounds,
            "targets": list(recipe.dimensions),
            "others": [],
            "strategy": setting.strategy,
            "settings": setting.recorded,
            "base": {"name": recipe.generators[0].model, "dev_mean": None},
            "rounds": [],
            "best": None,
            "stopped": None,
            "published_model": None,
            "next": "",
        }
    loop: Loop = json.loads(path.read_text("utf-8"))
    _check_same(loop, setting)
    stopped = loop["stopped"]
    if stopped and stopped["guard"] in setting.guards_off:
        stopped = stopped_by(loop["rounds"][stopped["round"] - 1], setting.guards_off)
    return {**loop, "rounds_planned": setting.rounds, "stopped": stopped}


def stopped_by(one: Round, off: frozenset[str]) -> dict[str, Any] | None:
    """What `Loop.stopped` says after a round: the first guard that fired and is not switched off; None without one."""
    fired = next((guard for guard in one["guards"] if guard["fired"] and guard["name"] not in off), None)
    return {"round": one["number"], "guard": fired["name"], "detail": fired["detail"]} if fired else None


def _check_same(loop: Loop, setting: Setting) -> None:
    recipe, continued = setting.recipe, f"{setting.out}: holds a loop of"
    if loop["recipe"] != recipe.name:
        raise RecipeError(f"{continued} the recipe {loop['recipe']}, not of {recipe.name}; name another --out")
    if loop["recipe_hash"] != recipe.hash:
        raise RecipeError(
            f"{continued} another version of the recipe {recipe.name} ({loop['recipe_hash']}, now {recipe.hash}); "
            "restore the recipe and its --set options, or name another --out"
        )
    before, now = (
        {"strategy": loop["strategy"], **loop["settings"]},
        {"strategy": setting.strategy, **setting.recorded},
    )
    changed = [f"{key} {before.get(key)!r}, now {value!r}" for key, value in now.items() if before.get(key) != value]
    if changed:
        raise RecipeError(f"{continued} other options: {'; '.join(changed)}. Give those, or name another --out")


def save(out: Path, loop: Loop) -> None:
    """Write loop.json durably."""
    _write(out / LOOP_FILE, loop)


def finished_step(folder: Path, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a step of a round returned: from an earlier run, or from `run`, recorded durably.

    Args:
        folder: of the round.
        name: of the step.
        run: does the step; its result must be JSON.
    """
    path = folder / STEPS_FILE
    steps: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if name not in steps:
        steps[name] = run()
        _write(path, steps)
    result: dict[str, Any] = steps[name]
    return result


def _write(path: Path, value: Any) -> None:
    write_durably(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())

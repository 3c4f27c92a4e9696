"""What follows from the rounds of a loop: whether it goes on, the best round, and what to do next."""

from __future__ import annotations

from pathlib import Path

from gigavideo_loop import guards
from gigavideo_loop.scores import Evaluation
from gigavideo_loop.state import Loop, Round, stopped_by


def is_over(loop: Loop) -> bool:
    """Whether no further round follows."""
    return loop["stopped"] is not None or len(loop["rounds"]) >= loop["rounds_planned"]


def with_round(loop: Loop, entry: Round, evaluation: Evaluation, off: frozenset[str]) -> Loop:
    """The loop after one more round: its guards, and whether it stops."""
    targets = loop["targets"]
    base_mean = entry["targets"]["base"] if not loop["rounds"] else loop["base"]["dev_mean"]
    means = [one["dev_mean"] for one in (*loop["rounds"], entry)]
    results = guards.check(evaluation, targets, base_mean, means, loop["rounds_planned"], off)
    last: Round = {**entry, "guards": results}
    return {
        **loop,
        "others": [name for name in evaluation.dimensions if name not in targets],
        "base": {**loop["base"], "dev_mean": base_mean},
        "rounds": [*loop["rounds"], last],
        "stopped": stopped_by(last, off),
    }


def best_round(rounds: list[Round], off: frozenset[str]) -> int | None:
    """The round with the best dev mean among those above the base in which no guard fired; None without any.

    A round in which a guard fired is not published: its gain may have been paid for elsewhere. A guard that was
    switched off after the round does not count.
    """
    above = [
        one
        for one in rounds
        if one["dev_mean"] is not None and (one["targets"]["difference"] or 0) > 0 and stopped_by(one, off) is None
    ]
    return max(above, key=lambda one: (one["dev_mean"], -one["number"]))["number"] if above else None


def next_step(loop: Loop, out: Path) -> str:
    """One sentence: what to do next."""
    done, best = len(loop["rounds"]), loop["best"]
    if not is_over(loop):
        return f"Run round {done + 1} of {loop['rounds_planned']} with the same command."
    if best is None:
        return "No round is better than the base; try more samples per prompt or other settings in another folder."
    model = out / loop["rounds"][best - 1]["model"]
    tuned = model if (model / "model_index.json").is_file() else f"{loop['base']['name']} --adapter {model}"
    command = f"gv-data eval --tuned {tuned} --prompts {out / 'round-1' / 'dataset'}"
    return f"Evaluate the model of round {best} on the test prompts, once: {command}"

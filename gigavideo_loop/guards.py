"""The guards of a loop: pure functions from what was measured in a round to whether the loop must stop, and why.

A gain on the targets must not be paid for elsewhere: by other dimensions, realism, motion, variety, or by exploiting
the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gigavideo_data.io.terminal import words
from gigavideo_data.scoring.bootstrap import Scored, mean_draws
from gigavideo_loop.scores import Evaluation, of_targets
from gigavideo_loop.setting import MOTION, NO_NEW_BEST, OTHER_DIMENSIONS, REALISM, SECOND_JUDGE, SPREAD
from gigavideo_loop.state import Guard, Targets

PATIENCE = 2  # rounds without a new best
LEVEL = 0.05  # chance that some round stops the loop although no other dimension is worse by MAX_LOSS
MAX_LOSS = -0.05  # difference of a dimension that is not a target
MIN_RATIO = 0.8  # of motion and spread to those of the base
NOT_MEASURED = "Not measured."


def check(
    evaluation: Evaluation,
    targets: list[str],
    base_mean: float | None,
    means: Sequence[float | None],
    num_rounds: int,
    off: frozenset[str] = frozenset(),
) -> list[Guard]:
    """The results of all guards in one round.

    Args:
        evaluation: of the round.
        targets: the target dimensions.
        base_mean: mean reward of the base over the targets, on dev prompts.
        means: the same of every round so far, this one last.
        num_rounds: planned for the loop.
        off: names of guards that cannot fire.
    """
    measures = evaluation.facts.get("measures") or {}
    results = [
        no_new_best(base_mean, means),
        other_dimensions(evaluation.scored, targets, LEVEL / num_rounds),
        realism(measures.get("realism")),
        ratio(MOTION, measures.get("motion")),
        ratio(SPREAD, measures.get("spread")),
        second_judge(of_targets(evaluation.scored, targets), of_targets(evaluation.second, targets)),
    ]
    return [
        _guard(guard["name"], fired=False, detail="Switched off.") if guard["name"] in off else guard
        for guard in results
    ]


def no_new_best(base_mean: float | None, means: Sequence[float | None]) -> Guard:
    """Fires after `PATIENCE` rounds whose means are not above the base and all rounds before."""
    best, best_round = -np.inf if base_mean is None else base_mean, 0
    for number, mean in enumerate(means, 1):
        if mean is not None and mean > best:
            best, best_round = mean, number
    without = len(means) - best_round
    holder = f"round {best_round}" if best_round else "the base"
    since = f"{without} round{'' if without == 1 else 's'} since then"
    detail = f"The best dev mean is {best:.3f}, of {holder}; {since}."
    return _guard(NO_NEW_BEST, without >= PATIENCE, detail)


def other_dimensions(scored: Sequence[Scored], targets: list[str], level: float) -> Guard:
    """Fires if the upper bound of a dimension that is not a target is below `MAX_LOSS`.

    The bounds are one-sided bootstrap bounds over prompts, by Holm's method at `level` over these dimensions: the
    dimension with the least p-value is tested at level / number of dimensions, the next at level / (number - 1), ...
    """
    draws = {
        name: means
        for name in sorted({one.dimension for one in scored} - set(targets))
        if (means := mean_draws([one for one in scored if one.dimension == name])) is not None
    }
    if not draws:
        return _guard(OTHER_DIMENSIONS, fired=False, detail=NOT_MEASURED)
    worst_first = sorted(draws, key=lambda name: (float(np.mean(draws[name] >= MAX_LOSS)), float(draws[name].mean())))
    bounds, lost = {}, []
    for number, name in enumerate(worst_first):
        bounds[name] = float(np.quantile(draws[name], 1 - level / (len(draws) - number)))
        if bounds[name] >= MAX_LOSS:
            break
        lost.append(name)
    shown = ", ".join(f"{words(name)} {bounds[name]:+z.3f}" for name in lost or worst_first[:1])
    relation = "below" if lost else "not below"
    detail = f"Upper bound of the worst of {len(draws)} other dimensions: {shown}; {relation} {MAX_LOSS:+.2f}."
    return _guard(OTHER_DIMENSIONS, bool(lost), detail)


def realism(measured: dict[str, Any] | None) -> Guard:
    """Fires if the lower bound of KID tuned - 1.05 x KID base is above zero."""
    excess = (measured or {}).get("excess") or {}
    if excess.get("low") is None:
        return _guard(REALISM, fired=False, detail=NOT_MEASURED)
    interval = f"{excess['low']:+z.4f} to {excess['high']:+z.4f}"
    detail = f"KID tuned - 1.05 x KID base is {excess['value']:+z.4f} ({interval}); the lower bound must not exceed 0."
    return _guard(REALISM, excess["low"] > 0, detail)


def ratio(name: str, measured: dict[str, Any] | None) -> Guard:
    """Fires if the upper bound of motion or spread, as a ratio to the base, is below `MIN_RATIO`."""
    if measured is None or measured.get("high") is None:
        return _guard(name, fired=False, detail=NOT_MEASURED)
    interval = f"{measured['low']:.2f} to {measured['high']:.2f}"
    detail = f"{measured['ratio']:.2f} of the base's ({interval}); the upper bound must reach {MIN_RATIO:.2f}."
    return _guard(name, measured["high"] < MIN_RATIO, detail)


def second_judge(first: Targets, second: Targets) -> Guard:
    """Fires if the second judge's mean on the targets is significantly below the base while the first judge's rises."""
    if first["difference"] is None or second["difference"] is None or second["low"] is None or second["high"] is None:
        return _guard(SECOND_JUDGE, fired=False, detail=NOT_MEASURED)
    interval = f"{second['low']:+z.3f} to {second['high']:+z.3f}"
    detail = (
        f"Change on the targets by the second judge: {second['difference']:+z.3f} ({interval}); by the first one: "
        f"{first['difference']:+z.3f}."
    )
    return _guard(SECOND_JUDGE, second["high"] < 0 < first["difference"], detail)


def _guard(name: str, fired: bool, detail: str) -> Guard:
    return {"name": name, "fired": bool(fired), "detail": detail}

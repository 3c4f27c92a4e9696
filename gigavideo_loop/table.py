"""The rounds of a loop as a table on the terminal."""

from __future__ import annotations

from gigavideo_data.io import terminal
from gigavideo_data.scoring.bootstrap import MEANS
from gigavideo_loop.state import Loop, Round


def table(loop: Loop) -> terminal.Table:
    """One line for the base and one per round; the best round has an asterisk."""
    targets = ", ".join(map(terminal.words, loop["targets"]))
    result = terminal.Table(
        f"{loop['recipe']}: {targets} on dev prompts",
        *(">round", ">mean", ">diff.", ">95 % interval", "worst other dimension", "guards fired"),
    )
    result.add("base", _number(loop["base"]["dev_mean"]), "", "", "", "")
    for one in loop["rounds"]:
        change = one["targets"]
        interval = "-" if change["low"] is None else f"{change['low']:+z.3f} .. {change['high']:+z.3f}"
        result.add(
            f"{one['number']}{'*' if one['number'] == loop['best'] else ''}",
            _number(one["dev_mean"]),
            "-" if change["difference"] is None else f"{change['difference']:+z.3f}",
            interval,
            _worst(one, loop["others"]),
            ", ".join(guard["name"] for guard in one["guards"] if guard["fired"]) or "none",
        )
    return result


def conclusion(loop: Loop) -> list[str]:
    """How the loop ended, in sentences."""
    lines = []
    if stopped := loop["stopped"]:
        lines.append(f"Stopped after round {stopped['round']} by the guard {stopped['guard']!r}: {stopped['detail']}")
    if loop["best"]:
        lines.append(f"Best round: {loop['best']}, by the dev mean of the targets.")
    return [*lines, loop["next"]]


def _worst(one: Round, others: list[str]) -> str:
    """The dimension that is no target with the lowest difference."""
    lines = [line for line in one["comparisons"] if line["dimension"] in others and line["difference"] is not None]
    if not lines:
        return "-"
    worst = min(lines, key=lambda line: line["difference"])
    assert worst["dimension"] not in MEANS
    return f"{terminal.words(worst['dimension'])} {worst['difference']:+z.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

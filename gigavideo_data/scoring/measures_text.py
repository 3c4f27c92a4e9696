"""The measures of an evaluation in words: for the terminal, the report page and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERDICTS = {
    "passed": "passed",
    "failed": "failed",
    "inconclusive": "inconclusive: the base's own interval contains zero",
}
NAMES = {"motion": "motion (optical flow, px per frame)", "spread": "spread (between samples of a prompt)"}


def lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each measure in the content of eval.json; none where nothing was measured."""
    found = []
    if measures := facts.get("measures"):
        found.append(("realism", _realism(measures["realism"])))
        found += [(name, _ratio(measures[key])) for key, name in NAMES.items()]
        found += [
            (f"correlation of the reward, {side}", _correlation(measures["correlation"][side]))
            for side in ("base", "tuned")
        ]
        if plain := measures["plain"]:
            text = f"base {plain['base']:.0%}, tuned {plain['tuned']:.0%} of the videos"
            found.append(("plain questions passed", text))
    if second := facts.get("second"):
        found += [
            (f"second judge {second['judge']}, {line['dimension'].replace('_', ' ')}", comparison(line))
            for line in second["comparisons"]
        ]
    return found


def _realism(realism: Mapping[str, Any] | None) -> str:
    if realism is None:
        return "not measured: there are no real clips of the models' size"
    verdict = VERDICTS[realism["verdict"]]
    if realism["base"]["low"] is None:
        verdict = "inconclusive: too few prompts"
    distances = ", ".join(f"{side} {_estimate(realism[side])}" for side in ("base", "tuned"))
    excess = f"tuned - 1.05 x base {_estimate(realism['excess'], sign='+z')}"
    return f"{verdict}. Distance to {realism['real']} real clips (KID, {realism['features']}): {distances}; {excess}"


def _estimate(estimate: Mapping[str, float | None], sign: str = "z") -> str:
    return _with_interval(estimate["value"], estimate["low"], estimate["high"], f"{sign}.4f")


def _ratio(ratio: Mapping[str, float | None]) -> str:
    if ratio["base"] is None or ratio["tuned"] is None:
        return "not measured: no prompt has several videos"
    means = f"base {ratio['base']:.3f}, tuned {ratio['tuned']:.3f}"
    return f"{means}; ratio {_with_interval(ratio['ratio'], ratio['low'], ratio['high'], '.2f')}"


def _correlation(correlation: Mapping[str, float | None]) -> str:
    parts = [f"{name} {'–' if value is None else format(value, '+z.2f')}" for name, value in correlation.items()]
    return "with " + ", ".join(parts)


def comparison(line: Mapping[str, Any]) -> str:
    """A line of `comparisons` in words."""
    if line["base"] is None:
        return "no video could be scored"
    change = _with_interval(line["difference"], line["low"], line["high"], "+z.2f")
    return f"base {line['base']:.2f}, tuned {line['tuned']:.2f}, difference {change}, {line['verdict']}"


def _with_interval(value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None:
        return "–"
    return format(value, form) + (f" ({format(low, form)} to {format(high, form)})" if None not in (low, high) else "")

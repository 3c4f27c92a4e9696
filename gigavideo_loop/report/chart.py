"""Charts of a reward over rounds, as coordinates for inline SVG.

All charts of a page cover the same range of reward, each around its own values, so that equal changes look equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gigavideo_loop.report.tables import Comparison, Lines

MIN_RANGE = 0.1  # of reward
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # between two ticks


@dataclass(frozen=True)
class Size:
    """A chart in SVG units: width, height, the margins of its area, and how many rounds its axis can name."""

    width: float
    height: float
    max_labels: int
    left: float = 32
    right: float = 12
    top: float = 10
    bottom: float = 20


@dataclass(frozen=True)
class Point:
    """One round: its reward, and the ends of the interval of the difference added to the base; None without one."""

    number: int
    x: float
    y: float
    low_y: float | None
    high_y: float | None
    kind: str  # good or bad where the interval excludes zero, else mute
    text: str


@dataclass(frozen=True)
class Chart:
    """One dimension over rounds.

    Attributes:
        size: of the chart.
        base, path: SVG paths of the base's and of the tuned models' rewards.
        points: one per round that has a reward.
        ticks: y and label of rewards.
        labels: x and label of rounds.
        summary: all values as text.
    """

    size: Size
    base: str
    path: str
    points: list[Point]
    ticks: list[tuple[float, str]]
    labels: list[tuple[float, str]]
    summary: str


def common_range(lines: Lines) -> float:
    """The range of reward that holds the values and intervals of every dimension."""
    ends = [_ends(mine) for mine in lines.values()]
    return max([MIN_RANGE, *(high - low for low, high in ends)]) * 1.08  # so that no mark touches the border


def chart(comparisons: list[Comparison | None], numbers: list[int], size: Size, span: float) -> Chart:
    """Draw one dimension.

    Args:
        comparisons: one per round.
        numbers: of the rounds.
        size: of the chart.
        span: range of reward of the chart.
    """
    low, high = _ends(comparisons)
    bottom = (low + high - span) / 2
    step_x = (size.width - size.left - size.right) / max(len(numbers), 1)

    def x_of(position: int) -> float:
        return round(size.left + step_x * position, 2)

    def y_of(value: float) -> float:
        return round(size.top + (size.height - size.top - size.bottom) * (1 - (value - bottom) / span), 2)

    known = [
        (at, number, line)
        for at, (number, line) in enumerate(zip(numbers, comparisons, strict=True), 1)
        if line and line["tuned"] is not None
    ]
    points = [_point(number, line, x_of(at), y_of) for at, number, line in known]
    base = [(x_of(at), y_of(line["base"])) for at, _, line in known]
    if base:
        base = [(x_of(0), base[0][1]), *base]
    every = math.ceil(len(numbers) / size.max_labels)
    labels = [(x_of(at), str(number)) for at, number in enumerate(numbers, 1) if at % every == 0]
    return Chart(
        size,
        base=_path(base),
        path=_path([*base[:1], *((point.x, point.y) for point in points)]),
        points=points,
        ticks=[(y_of(value), f"{value:.2f}") for value in _ticks(bottom, span) if points],
        labels=[(x_of(0), "base"), *labels],
        summary="; ".join(point.text for point in points) or "no values",
    )


def _point(number: int, line: Comparison, x: float, y_of: Callable[[float], float]) -> Point:
    text = f"round {number}: {line['tuned']:.3f}, base {line['base']:.3f}, difference {line['difference']:+z.3f}"
    if line["low"] is None:
        return Point(number, x, y_of(line["tuned"]), None, None, "mute", text)
    kind = "good" if line["low"] > 0 else "bad" if line["high"] < 0 else "mute"
    text += f" ({line['low']:+z.3f} to {line['high']:+z.3f})"
    low_y, high_y = (y_of(line["base"] + line[end]) for end in ("low", "high"))
    return Point(number, x, y_of(line["tuned"]), low_y, high_y, kind, text)


def _ends(comparisons: list[Comparison | None]) -> tuple[float, float]:
    """The lowest and the highest value of a chart."""
    known = [line for line in comparisons if line and line["tuned"] is not None]
    values = [line[side] for line in known for side in ("base", "tuned")]
    values += [line["base"] + line[end] for line in known for end in ("low", "high") if line[end] is not None]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _ticks(bottom: float, span: float) -> list[float]:
    step = next((step for step in STEPS if span / step <= 4), STEPS[-1])
    first = math.ceil(bottom / step)
    return [number * step for number in range(first, math.floor((bottom + span) / step) + 1)]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points) if points else ""

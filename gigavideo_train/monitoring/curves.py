"""Training curves as an SVG for the model card: losses, gradient norm and sample rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, MARGIN = 720, 190, 56  # px of a panel; the margin holds the axis labels
MAX_POINTS = 200  # per line: neighbours are averaged, which also smooths a noisy loss
COLORS = {"loss": "#1f6feb", "held_out": "#d1242f", "grad_norm": "#57606a", "sample_reward": "#1a7f37"}
PANELS = (("loss", "held_out"), ("grad_norm",), ("sample_reward",))

Point = tuple[float, float]


def svg(lines: list[dict[str, Any]]) -> str:
    """Draw the objects of metrics.jsonl. Null values are skipped, and so is a panel without any value."""
    last = max((line["step"] for line in lines), default=0) or 1
    panels: list[str] = []
    for names in PANELS:
        series = {name: _points(lines, name) for name in names}
        series = {name: points for name, points in series.items() if points}
        if series:
            panels.append(_panel(series, last, HEIGHT * len(panels)))
    height = HEIGHT * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _points(lines: list[dict[str, Any]], name: str) -> list[Point]:
    """(step, value), neighbours averaged."""
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    size = -(-len(points) // MAX_POINTS) or 1
    return [_mean(points[start : start + size]) for start in range(0, len(points), size)]


def _mean(points: Sequence[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _panel(series: dict[str, list[Point]], last: float, top_px: int) -> str:
    values = [y for points in series.values() for _, y in points]
    low, high = min(values), max(values)
    plot_px = HEIGHT - MARGIN
    parts = []
    for number, (name, points) in enumerate(series.items()):
        coordinates = " ".join(
            f"{MARGIN + x / last * (WIDTH - 2 * MARGIN):.1f},"
            f"{top_px + MARGIN / 2 + (high - y) / ((high - low) or 1) * plot_px:.1f}"
            for x, y in points
        )
        parts.append(f'<polyline points="{coordinates}" fill="none" stroke="{COLORS[name]}" stroke-width="1.5"/>')
        label = f'x="{MARGIN + 90 * number}" y="{top_px + 16}" fill="{COLORS[name]}"'
        parts.append(f"<text {label}>{name.replace('_', ' ')}</text>")
    for value, y_px in ((high, MARGIN / 2 + 4), (low, MARGIN / 2 + plot_px + 4)):
        parts.append(f'<text x="{MARGIN - 6}" y="{top_px + y_px}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{WIDTH - MARGIN}" y="{top_px + HEIGHT - 8}" text-anchor="end">step {last}</text>')
    return "".join(parts)

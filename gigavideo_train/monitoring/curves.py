"""How a run went, as a picture for its model card: losses, gradient norm and rewards of samples, without a library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, MARGIN = 720, 190, 56  # px of a panel; the margin is for the numbers at its sides
MAX_POINTS = 200  # of a line: neighbours are averaged, which also lets a noisy loss be read
COLORS = {"loss": "#1f6feb", "held_out": "#d1242f", "grad_norm": "#57606a", "sample_reward": "#1a7f37"}
PANELS = (("loss", "held_out"), ("grad_norm",), ("sample_reward",))

Point = tuple[float, float]


def svg(lines: list[dict[str, Any]]) -> str:
    """Draw the objects of metrics.jsonl; what was skipped, and a panel without any number, is left out."""
    last = max((line["step"] for line in lines), default=0) or 1
    panels: list[str] = []
    for names in PANELS:
        found = {name: _points(lines, name) for name in names}
        found = {name: points for name, points in found.items() if points}
        if found:
            panels.append(_panel(found, last, HEIGHT * len(panels)))
    height = HEIGHT * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _points(lines: list[dict[str, Any]], name: str) -> list[Point]:
    """(step, value), neighbours averaged."""
    found = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    size = -(-len(found) // MAX_POINTS) or 1
    return [_mean(found[start : start + size]) for start in range(0, len(found), size)]


def _mean(points: Sequence[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _panel(found: dict[str, list[Point]], last: float, top_px: int) -> str:
    values = [y for points in found.values() for _, y in points]
    least, most = min(values), max(values)
    room_px = HEIGHT - MARGIN
    parts = []
    for number, (name, points) in enumerate(found.items()):
        at = " ".join(
            f"{MARGIN + x / last * (WIDTH - 2 * MARGIN):.1f},"
            f"{top_px + MARGIN / 2 + (most - y) / ((most - least) or 1) * room_px:.1f}"
            for x, y in points
        )
        parts.append(f'<polyline points="{at}" fill="none" stroke="{COLORS[name]}" stroke-width="1.5"/>')
        label = f'x="{MARGIN + 90 * number}" y="{top_px + 16}" fill="{COLORS[name]}"'
        parts.append(f"<text {label}>{name.replace('_', ' ')}</text>")
    for value, y_px in ((most, MARGIN / 2 + 4), (least, MARGIN / 2 + room_px + 4)):
        parts.append(f'<text x="{MARGIN - 6}" y="{top_px + y_px}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{WIDTH - MARGIN}" y="{top_px + HEIGHT - 8}" text-anchor="end">step {last}</text>')
    return "".join(parts)

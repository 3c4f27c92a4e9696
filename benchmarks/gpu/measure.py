"""Time, compare and record: every figure is printed and appended to results.jsonl as soon as it is measured."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], object]


@dataclass(frozen=True)
class Figure:
    """A median with its lowest and highest value."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def scaled(self, change: Callable[[float], float]) -> Figure:
        """The figure in another unit; `change` may reverse the order."""
        low, high = sorted((change(self.low), change(self.high)))
        return Figure(change(self.median), low, high, self.count)


@dataclass(frozen=True)
class Timing:
    """The first call, with compilation and allocation, and the calls after the warm-up; seconds."""

    first_s: float
    steady_s: Figure


def once(run: Run, device: torch.device) -> float:
    """Seconds of one call: by CUDA events on a GPU, by the clock on a CPU."""
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def timed(run: Run, device: torch.device, rounds: int, budget_s: float) -> Timing:
    """Time a call from the first one; the second is not counted.

    Args:
        run: the call.
        device: that it uses.
        rounds: calls after these two, as in `steady`.
        budget_s: for them.
    """
    first_s = once(run, device)
    once(run, device)
    return Timing(first_s, steady(run, device, rounds, budget_s))


def steady(run: Run, device: torch.device, rounds: int, budget_s: float) -> Figure:
    """Time a call that is warm.

    Args:
        run: the call; it takes no time-dependent input.
        device: that it uses.
        rounds: calls that are timed; fewer if they would exceed the budget, but at least three.
        budget_s: for all of them.
    """
    began = time.perf_counter()
    values: list[float] = []
    while len(values) < rounds and (len(values) < 3 or time.perf_counter() - began < budget_s):
        values.append(once(run, device))
    return Figure.of(values)


def compared(run: Run, baseline: Run, device: torch.device, rounds: int) -> tuple[Figure, Figure]:
    """Ratios of one call to another, interleaved: baseline, run, baseline.

    Returns:
        run over the mean of the two baselines, and the second baseline over the first: the control, 1 without noise.
    """
    ratios, controls = [], []
    once(baseline, device), once(run, device)
    for _ in range(rounds):
        before, middle, after = (once(call, device) for call in (baseline, run, baseline))
        ratios.append(2 * middle / (before + after))
        controls.append(after / before)
    return Figure.of(ratios), Figure.of(controls)


def relative_error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference over the norm of the reference; NaN if a value is not finite."""
    found, reference = found.detach().double().cpu(), reference.detach().double().cpu()
    return float((found - reference).norm() / reference.norm())


class Recorder:
    """Prints figures of one section and appends them to a file."""

    def __init__(self, path: Path, section: str) -> None:
        self.path, self.section = path, section

    def figure(self, name: str, value: Figure | float, unit: str, **more: Any) -> None:
        """Record a figure; `more` holds what else is known of it: a goal, a note, whether it is calculated."""
        figure = value if isinstance(value, Figure) else Figure(value, value, value, 1)
        spread = f"  ({figure.low:.4g} to {figure.high:.4g}, n = {figure.count})" if figure.count > 1 else ""
        notes = "".join(f"  {key}: {shown(value)}" for key, value in more.items())
        print(f"  {name:<58} {figure.median:10.4g} {unit}{spread}{notes}", flush=True)
        self._append(
            name=name, value=figure.median, low=figure.low, high=figure.high, count=figure.count, unit=unit, **more
        )

    def note(self, name: str, text: str) -> None:
        """Record something that is not a number, such as why a part was left out."""
        print(f"  {name:<58} {text}", flush=True)
        self._append(name=name, text=text)

    def _append(self, **entry: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"section": self.section, **entry}) + "\n")


def shown(value: Any) -> str:
    """A value as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""Progress of a run, stage by stage: a bar with rows/s and remaining time on a terminal, plain lines elsewhere.

Stages run one after the other; each is started, advanced and finished:

    with Progress(Console(stderr=True)) as progress:
        progress.start("synthesize", total=168, cached=12)
        progress.advance()
        progress.finish()
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich is imported when a Progress is created
    from rich import progress as bars
    from rich.console import Console

LINE_EVERY_S = 15.0  # between two plain lines of a stage


class Progress:
    """Shows one stage at a time. Rows from the store count as done, but not for the speed."""

    def __init__(self, console: Console) -> None:
        from rich import progress as bars

        self._console = console
        self._bars: bars.Progress | None = None
        if console.is_terminal:
            self._bars = bars.Progress(
                bars.TextColumn("{task.description:<11}"),
                bars.BarColumn(),
                bars.TextColumn("{task.fields[count]}"),
                bars.TextColumn("{task.fields[note]}"),
                console=console,
            )
        self._task = bars.TaskID(0)
        self._stage = ""
        self._in_bytes = False
        self._total = self._cached = self._made = 0
        self._started = self._printed = 0.0

    def __enter__(self) -> Progress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars:
            self._bars.stop()

    def start(self, stage: str, total: int, cached: int = 0, *, in_bytes: bool = False) -> None:
        """Start a stage of `total` rows, of which `cached` are finished already; or of bytes, shown as MB."""
        self._stage, self._total, self._cached, self._made, self._in_bytes = stage, total, cached, 0, in_bytes
        self._started = self._printed = time.monotonic()
        if self._bars:
            self._task = self._bars.add_task(
                stage, total=total, completed=cached, count=self._count(), note=self._speed()
            )
        elif cached < total:
            self._print()

    def advance(self, num_rows: int = 1) -> None:
        """Count rows (or bytes) that the stage just finished; rejected rows count too."""
        self._made += num_rows
        if self._bars:
            self._bars.update(self._task, advance=num_rows, count=self._count(), note=self._speed())
        elif time.monotonic() - self._printed >= LINE_EVERY_S:
            self._print()

    def finish(self) -> None:
        """End the stage."""
        seconds = time.monotonic() - self._started
        note = f"done in {seconds:.0f} s" + (f", {self._cached} from the store" if self._cached else "")
        if self._bars:
            self._bars.update(self._task, completed=self._cached + self._made, count=self._count(), note=note)
        else:
            self._print(note)

    def note(self, text: str) -> None:
        """Print a message above the bars."""
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    def _speed(self) -> str:
        elapsed = time.monotonic() - self._started
        if not self._made or elapsed <= 0:
            return f"{self._cached} from the store" if self._cached else "starting"
        rate = self._made / elapsed
        minutes, seconds = divmod(round((self._total - self._cached - self._made) / rate), 60)
        speed = f"{rate / 1e6:.2f} MB/s" if self._in_bytes else f"{rate:.2f} rows/s"
        return f"{speed}, {minutes}:{seconds:02} left"

    def _count(self) -> str:
        done = self._cached + self._made
        return f"{done / 1e6:.1f}/{self._total / 1e6:.1f} MB" if self._in_bytes else f"{done}/{self._total}"

    def _print(self, note: str = "") -> None:
        self._printed = time.monotonic()
        self.note(f"{self._stage:<11} {self._count()}  {note or self._speed()}")

"""Tables and text for the terminal: plain, safe, and never wider than the screen.

On a terminal a table is fitted to its width without cutting words; where that is impossible, each row is printed as a
block of lines `column value`. In a pipe or a file every row is one line. Text from datasets is printed as it is: it is
never read as markup and cannot contain escape codes.

    report = Table("Rewards", "dimension", ">mean");  report.add("mechanics", number(0.5));  console().print(report)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GAP = 2  # spaces between columns
MIN_TEXT = 12  # characters; a column of longer texts is not made narrower
PIPE_WIDTH = 100_000  # characters; no line of a file or pipe is wrapped


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console for results (stdout), or for messages and progress (stderr)."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or stderr else PIPE_WIDTH
    return Console(stderr=stderr, quiet=quiet, width=width, markup=False, highlight=False, emoji=False)


class Table:
    """A title, named columns and rows of plain text. A column named with a leading > is right-aligned."""

    def __init__(self, title: str, *columns: str) -> None:
        self.title = title
        self.columns = [plain(name.removeprefix(">")) for name in columns]
        self.right = [name.startswith(">") for name in columns]
        self.rows: list[list[Text]] = []

    def add(self, *cells: object) -> None:
        """Add a row; every cell is printed as plain text."""
        self.rows.append([plain(str(cell)) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print columns, or blocks of lines where columns would have to cut words."""
        longest, widest = [], []
        for at, name in enumerate(self.columns):
            cells = [row[at].plain for row in self.rows]
            lines = max(map(_longest_line, cells), default=0)
            words = lines if self.right[at] else max(map(_longest_word, cells), default=0)  # numbers are not wrapped
            widest.append(max(cell_len(name.plain), lines))
            longest.append(max(_longest_word(name.plain), words, min(widest[-1], MIN_TEXT)))
        if self.title:
            yield Text(self.title, style="bold")
        if not console.is_terminal:
            for row in (self.columns, *self.rows):
                yield self._line([Text(" ".join(cell.plain.splitlines())) for cell in row], widest)
        elif widths := fit(longest, widest, options.max_width):
            yield from self._wrapped(self.columns, widths, console)
            yield Text("─" * (sum(widths) + GAP * (len(widths) - 1)), style="dim")
            for row in self.rows:
                yield from self._wrapped(row, widths, console)
        else:
            for number, row in enumerate(self.rows):
                if number:
                    yield Text()
                named = zip(self.columns, row, strict=True)
                yield from (Text.assemble((f"{name.plain}: ", "dim"), cell) for name, cell in named if cell)
        yield Text()

    def _wrapped(self, row: list[Text], widths: list[int], console: Console) -> Iterator[Text]:
        """The lines of one row, each cell wrapped to the width of its column."""
        columns = [cell.wrap(console, width) for cell, width in zip(row, widths, strict=True)]
        for cells in zip_longest(*columns, fillvalue=Text()):
            yield self._line(list(cells), widths)

    def _line(self, cells: list[Text], widths: list[int]) -> Text:
        """One line: cells of one line each, padded to the widths of their columns."""
        line = Text()
        for cell, width, right in zip(cells, widths, self.right, strict=True):
            cell.rstrip()
            padding = " " * (width - cell.cell_len)
            line.append_text(Text(padding) + cell if right else cell + padding).append(" " * GAP)
        line.rstrip()
        return line


def fit(longest: list[int], widest: list[int], width: int) -> list[int] | None:
    """Widths of columns that fit into `width` characters, or None if some word would have to be cut.

    Args:
        longest: per column, the least width, which is at least that of its longest word.
        widest: per column, the length of its longest line.
        width: of the screen.
    """
    free = width - GAP * (len(longest) - 1) - sum(longest)
    if free < 0:
        return None
    widths = list(longest)
    wanting = sorted(range(len(widths)), key=lambda at: widest[at] - longest[at])
    for number, at in enumerate(wanting):  # equal shares, and what short columns do not need goes to the others
        added = min(free // (len(wanting) - number), widest[at] - longest[at])
        widths[at] += added
        free -= added
    return widths


def plain(text: str) -> Text:
    """Text that cannot control the terminal: no markup, no escape codes, no direction marks."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))


def counted(counts: dict[str, int]) -> str:
    """Numbers with their names: "3 duplicate, 1 low_mass"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def words(name: str) -> str:
    """A dimension's name as words: camera_motion -> camera motion."""
    return name.replace("_", " ")


def targets_and_others(targets: Iterable[str], others: Iterable[str]) -> list[str]:
    """Lines that say which dimensions are to be improved, and which must only not get worse; none without others."""
    kept = ", ".join(map(words, others))
    return [f"targets: {', '.join(map(words, targets))}", f"others, which must not get worse: {kept}"] if kept else []


def number(value: float | None) -> str:
    """Two decimals, or a dash for a missing value."""
    return "-" if value is None else f"{value:.2f}"


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _longest_line(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)

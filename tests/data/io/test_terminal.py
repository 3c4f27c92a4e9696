"""Tables: one line per row in a pipe, never wider than the terminal, and no word cut."""

import io

import pytest
from rich.console import Console

from gigavideo_data.io import terminal

PROMPT = "a tennis ball drops on a stone floor and bounces three times before it rests"


def printed(table: terminal.Table, width: int, *, is_terminal: bool) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=is_terminal, color_system=None).print(table)
    return screen.getvalue().splitlines()


def example() -> terminal.Table:
    table = terminal.Table("Videos", "dimension", ">reward", "prompt")
    table.add("dynamic_spatial_relationship", terminal.number(0.5), PROMPT)
    table.add("mechanics", terminal.number(None), "[red]一个球[/red]")
    return table


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_fits_the_terminal_without_cutting_words(width: int) -> None:
    lines = printed(example(), width, is_terminal=True)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for word in ("dynamic_spatial_relationship", "0.50", "[red]一个球[/red]", *PROMPT.split()):
        assert word in words


def test_a_table_that_cannot_fit_becomes_blocks_of_lines() -> None:
    lines = printed(example(), 40, is_terminal=True)
    assert "dimension: dynamic_spatial_relationship" in lines
    assert "reward: 0.50" in lines
    assert max(map(len, lines)) <= 40


def test_in_a_pipe_each_row_is_one_line() -> None:
    lines = printed(example(), terminal.PIPE_WIDTH, is_terminal=False)
    assert [line.split("  ")[0] for line in lines[:4]] == [
        "Videos",
        "dimension",
        "dynamic_spatial_relationship",
        "mechanics",
    ]
    assert lines[2].endswith(PROMPT)
    assert all(line == line.rstrip() for line in lines)


def test_text_cannot_control_the_terminal() -> None:
    assert terminal.plain("[b]\x1b[2J\u202eend").plain == "[b]\ufffd[2J\ufffdend"


@pytest.mark.parametrize(
    ("longest", "widest", "width", "widths"),
    [
        ([4, 4], [10, 30], 42, [10, 30]),
        ([4, 4], [10, 30], 30, [10, 18]),  # the short column is not wrapped
        ([4, 4], [30, 30], 30, [14, 14]),
        ([20, 20], [20, 20], 41, None),
    ],
)
def test_columns_share_the_width(longest: list[int], widest: list[int], width: int, widths: list[int] | None) -> None:
    assert terminal.fit(longest, widest, width) == widths

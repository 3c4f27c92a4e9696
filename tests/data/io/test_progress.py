"""Progress away from a terminal: lines a log can keep."""

import io

from rich.console import Console

from gigavideo_data.io.progress import Progress


def test_without_a_terminal_a_stage_is_plain_lines() -> None:
    log = io.StringIO()
    with Progress(Console(file=log, force_terminal=False, width=40)) as progress:
        progress.start("synthesize", total=5, cached=2)
        progress.advance()
        progress.note("one [red]prompt[/x] was damaged; made again")
        progress.advance(2)
        progress.finish()
    assert log.getvalue().splitlines() == [
        "synthesize  2/5  2 from the store",
        "one [red]prompt[/x] was damaged; made again",
        "synthesize  5/5  done in 0 s, 2 from the store",
    ]


def test_on_a_terminal_a_bar_shows_speed_and_time_left() -> None:
    screen = io.StringIO()
    with Progress(Console(file=screen, force_terminal=True, width=120)) as progress:
        progress.start("judge", total=4)
        progress.advance()
        progress.note("worth knowing")
    assert "rows/s" in screen.getvalue()
    assert "left" in screen.getvalue()
    assert "worth knowing" in screen.getvalue()


def test_bytes_are_shown_as_megabytes_however_small_the_files() -> None:
    log = io.StringIO()
    with Progress(Console(file=log, force_terminal=False, width=80)) as progress:
        progress.start("upload", total=2_340_000, in_bytes=True)
        progress.advance(40_000)
        progress.advance(2_300_000)
        progress.finish()
    assert log.getvalue().splitlines() == ["upload      0.0/2.3 MB  starting", "upload      2.3/2.3 MB  done in 0 s"]

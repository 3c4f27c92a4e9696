"""The page of a loop: one static HTML file with rewards over rounds, guards, measures, clips and cost.

It is a single file without server or network access, in the frame and style of the dataset report. Clips are embedded
as data URIs up to a size limit.

    write(Path("runs/loop"))  ->  runs/loop/report.html
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from gigavideo_data.dataset.report import frame
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.scoring import bootstrap
from gigavideo_loop.report import chart, shots, tables

FOLDER = Path(__file__).parent / "report"
PAGE: Final = "report.html"
LARGE = chart.Size(340, 210, max_labels=8)
SMALL = chart.Size(170, 130, max_labels=4, left=30, right=9, top=8)
ABSOLUTE_PATH = re.compile(r"""(?<![^\s"'=])/[^\s"]*/(?=[^\s"])""")  # its folders, without the last part
UNMEASURED: Final = dict.fromkeys(("realism", "motion", "spread", "correlation", "plain"))


def write(out: Path) -> Path:
    """Write the page of a loop.

    Args:
        out: the loop's folder, with loop.json and the folders of its rounds.

    Returns:
        The file written.

    Raises:
        DatasetError: loop.json, or the eval.json of a round, is missing or not readable.
    """
    try:
        loop = json.loads(_without_paths((out / "loop.json").read_text("utf-8"), out))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{out}: no readable loop.json ({error}). `gv-loop` writes one.") from error
    write_durably(out / PAGE, _render(out, loop).encode("utf-8"))
    return out / PAGE


def _render(out: Path, loop: dict[str, Any]) -> str:
    loop["rounds"] = [each | {"measures": each["measures"] or UNMEASURED} for each in loop["rounds"]]
    rounds, targets = loop["rounds"], loop["targets"]
    numbers = [each["number"] for each in rounds]
    lines = tables.by_dimension(rounds, targets)
    if len(targets) > 1:  # also of loops whose comparisons have no such line
        lines.pop(bootstrap.MEAN_OF_TARGETS, None)
        lines = {tables.MEAN_OF_TARGETS: [each["targets"] for each in rounds]} | lines
    span = chart.common_range(lines)
    charts = {
        name: chart.chart(mine, numbers, LARGE if _is_target(name, targets) else SMALL, span)
        for name, mine in lines.items()
    }
    dimensions = [name for name in lines if name not in (tables.MEAN_OF_TARGETS, *bootstrap.MEANS)]
    chosen, clips = shots.choose(out, rounds, dimensions, frame.EMBED_BYTES)
    second = [{"comparisons": each["second"]["comparisons"] if each["second"] else []} for each in rounds]
    totals = [sum(filter(None, each["seconds"].values())) for each in rounds]
    return frame.render(
        FOLDER / "loop.html.j2",
        styles=[frame.FOLDER / "report.css", FOLDER / "loop.css"],
        scripts=[frame.FOLDER / "player.js", FOLDER / "loop.js"],
        data={"shots": chosen, "clips": clips, "rounds": numbers, "best": loop["best"]},
        facts=loop,  # Jinja's own name is `loop`
        verdict=tables.verdict(loop),
        progress=tables.progress(loop),
        best=next((each for each in rounds if each["number"] == loop["best"]), None),
        settings=json.dumps(loop["settings"], indent=1, sort_keys=True, ensure_ascii=False),
        lines=lines,
        means=bootstrap.MEANS,
        second=tables.by_dimension(second, targets),
        second_judge=next((each["second"]["judge"] for each in rounds if each["second"]), None),
        target_charts={name: drawn for name, drawn in charts.items() if _is_target(name, targets)},
        other_charts={name: drawn for name, drawn in charts.items() if not _is_target(name, targets)},
        span=span,
        has_plain=any(each["measures"]["plain"] for each in rounds),
        num_shots=len(chosen),
        totals=totals,
        total=sum(totals),
        duration=duration,
    )


def _is_target(name: str, targets: list[str]) -> bool:
    return name in targets or name == tables.MEAN_OF_TARGETS


def duration(seconds: float | None) -> str:
    """Seconds in words: "3.4 s", "2 min 05 s", "1 h 10 min"."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _without_paths(text: str, out: Path) -> str:
    """The text of a loop.json that names no folder outside the loop's: a page may be published."""
    return ABSOLUTE_PATH.sub("", text.replace(f"{out.absolute()}/", f"{out.absolute().name}/"))

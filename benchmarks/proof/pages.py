"""The pages of the proof, written from result files alone. What has not been run says so."""

from __future__ import annotations

from pathlib import Path

from benchmarks.proof import arms, claims, dev_table, final, pace, rounds_dev
from benchmarks.proof.results import NOT_MEASURED, Results, label_of, numbers, table
from benchmarks.proof.rounds import Loop
from benchmarks.proof.runs import DIMENSIONS, FOCUS, Run
from gigavideo_data.io.terminal import words

HERE = Path(__file__).parent
MAIN = (final.NFT, final.CONTROL, final.ROUNDS, final.ROUNDS_CONTROL, final.ROUNDS_REWEIGHT)

# A file of tables: its title, and the title and the tables of runs of each of its parts.
FILES: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "alone": ("Table 1: `nft` on each dimension alone", {words(FOCUS): ("method",), "Other dimensions": ("alone",)}),
    "data": (f"Table 2: kinds of rows, {words(FOCUS)}", {"reweight": ("data",)}),
    "strategies": (f"Table 3: strategies, {words(FOCUS)}", {"On all rows": ("strategies",)}),
    "jointly": ("Table 4: dimensions jointly", {"Mean over the trained dimensions": ("jointly",)}),
    "controls": (f"Training without rewards, {words(FOCUS)}", {"Controls": ("method", "controls")}),
    "curves": (
        f"How much of the data `nft` needs, {words(FOCUS)}",
        {
            "Share of the rewards exchanged at random": ("method", "corrupted"),
            "Clips per group": ("clips",),
            "Kept rows": ("method", "kept"),
        },
    ),
}


def write(work: Path, to: Path) -> None:
    """Write result.md, its tables, and rounds_dev.md.

    Args:
        work: folder of the proof.
        to: folder of the pages.
    """
    (to / "tables").mkdir(parents=True, exist_ok=True)
    found = results(work, "test")
    for name, (title, parts) in FILES.items():
        lines = [f"# {title}", ""]
        for part, tables in parts.items():
            kinds = [kind for kind in found.kinds if kind[0] in tables]
            lines += [f"## {part}", "", table(found, kinds), ""]
        lines += ["## Time per step", "", pace.table(work), ""] if name == "strategies" else []
        _write(to / "tables" / f"{name}.md", "\n".join(lines))
    _write(to / "tables" / "rounds.md", _rounds(work))
    _write(to / "tables" / "others.md", _others(found))
    text = (HERE / "head.md").read_text("utf-8")
    text = text.replace("{answer}", claims.answer(found)).replace("{claims}", claims.claims(found))
    _write(to / "result.md", text)
    text = (HERE / "rounds_dev_head.md").read_text("utf-8")
    _write(to / "rounds_dev.md", text.replace("{table}", rounds_dev.table(work)))


def write_arms(work: Path, to: Path) -> None:
    """Write dev.md, the page of `--arms`."""
    text = (HERE / "dev_head.md").read_text("utf-8")
    parts = {
        "{verdict}": dev_table.verdict(work),
        "{table}": dev_table.table(work, DIMENSIONS),
        "{settings}": dev_table.table_of(work, arms.setting_arms()),
        "{guidance}": dev_table.table_of(work, arms.guidance_arms()),
    }
    for mark, part in parts.items():
        text = text.replace(mark, part)
    _write(to / "dev.md", text)


def results(work: Path, view: str) -> Results:
    """The results of all sections on test prompts, on one view."""
    runs = [run for runs_of in final.SECTIONS.values() for run in runs_of()]
    return Results(final.folder(work), view, [*runs, *(loop.best for loop in final.loops())])


def _rounds(work: Path) -> str:
    """Every round on dev prompts, the best one on all views, and one round of `nft` beside it."""
    lines = [f"# Rounds, {words(FOCUS)}", ""]
    for view in final.VIEWS:
        lines += [f"## {view.capitalize()}: the best round of each loop, and one round", ""]
        lines += [table(results(work, view), MAIN), ""]
    loops = list(final.loops())
    found = Results(final.folder(work), "dev", [run for loop in loops for run in _runs(loop)])
    lines += ["## Dev: every round", "", table(found, found.kinds), ""]
    return "\n".join(lines)


def _runs(loop: Loop) -> list[Run]:
    return [loop.run(number) for number in loop.numbers]


def _others(found: Results) -> str:
    """The untrained dimensions of the main rows, one by one."""
    lines = [
        "# Untrained dimensions",
        "",
        "Better and worse: the interval leaves out zero, and a sign-flip test corrected for the number of dimensions",
        "does too. Perhaps: only the interval does.",
        "",
        "| trained | dimension | base | tuned | gain | 95 % over prompts | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [(kind, each) for kind in MAIN for each in found.others(kind) if each.dimension != "mean"]
    lines += [
        f"| {' | '.join([label_of(kind), words(each.dimension), *numbers(each), each.verdict])} |"
        for kind, each in rows
    ]
    return "\n".join(lines) + "\n" if rows else f"{lines[0]}\n\n{NOT_MEASURED}\n"


def _write(file: Path, text: str) -> None:
    file.write_text(text.rstrip() + "\n", "utf-8")

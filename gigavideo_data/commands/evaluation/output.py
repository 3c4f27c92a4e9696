"""The comparison of `gv-data eval` as a table on the terminal, and in the model card of gv-train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from gigavideo_data.io import terminal
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.models.generators.stored_weights import Rounding
from gigavideo_data.scoring import bootstrap, measures_text, pixels

SCORES = ("<!-- scores -->", "<!-- /scores -->")  # around the comparison in the model card of gv-train


def write_scores(folder: Path, facts: dict[str, Any]) -> None:
    """Write the comparison into the model card of gv-train, between its two marks; other cards stay as they are."""
    card = folder / "README.md"
    text = card.read_text("utf-8") if card.is_file() else ""
    start, mark, rest = text.partition(SCORES[0])
    _, end, after = rest.partition(SCORES[1])
    if not (mark and end):
        return
    lines = [
        *(f"**{kind}**: {text}  " for kind, text in headline(facts)),
        "",
        f"Held-out prompts (split {facts['split']}), judge `{facts['judge']}`"
        + (f". {facts['judge_note']}" if facts["judge_note"] else "."),
        "",
        "| dimension | base | tuned | difference | 95 % interval | videos in both | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in facts["comparisons"]:
        interval = "–" if line["low"] is None else f"{line['low']:+z.3f} to {line['high']:+z.3f}"
        change = "–" if line["difference"] is None else f"{line['difference']:+z.3f}"
        base, tuned = terminal.number(line["base"]), terminal.number(line["tuned"])
        both = f"{line['both']} of {line['videos']}"
        cells = (_words(line["dimension"], facts), base, tuned, change, interval, both, line["verdict"])
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", bootstrap.correction_note(facts["comparisons"])]
    if lost := rounding_note(facts.get("rounding")):
        lines += ["", lost]
    if measured := measures_text.lines(facts):
        lines += ["", *(f"- {name}: {text}" for name, text in measured)]
    write_durably(card, (start + mark + "\n" + "\n".join(lines) + "\n" + end + after).encode())


def headline(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The targets and the others as a whole, each in words."""
    summed = bootstrap.headline(facts["comparisons"], facts["others"])
    return [(kind, f"{_of(line)}: {measures_text.comparison(line)}") for kind, line in summed.items()]


def _of(line: dict[str, Any]) -> str:
    return "mean" if line["dimension"] in bootstrap.MEANS else terminal.words(line["dimension"])


def rounding_note(rounding: Rounding | None) -> str | None:
    """What is left of a fine-tune in bfloat16; None if nothing was compared, or no weight differs."""
    if not rounding or not rounding["changed"]:
        return None
    changed, kept = rounding["changed"] / rounding["weights"], rounding["kept"] / rounding["changed"]
    return (
        f"The tuned model differs from its base in {changed:.1%} of the weights. Rounded to bfloat16, {kept:.1%} of "
        "these still differ. Both models were sampled with float32 weights; load the tuned one in float32, too."
    )


def _words(dimension: str, facts: dict[str, Any]) -> str:
    return terminal.words(dimension) + (" (other)" if dimension in facts["others"] else "")


def show(facts: dict[str, Any], console: Console) -> None:
    """Print the comparison as a table."""
    commit = facts["base"]["commit"]
    base = facts["base"]["name"] + (f" at {commit[:12]}" if commit else "")
    title = f"{facts['tuned']['name']} against {base}, split {facts['split']}"
    columns = ("dimension", ">base", ">tuned", ">diff.", ">95 % interval", ">both", "verdict")
    table = terminal.Table(title, *columns)
    for line in facts["comparisons"]:
        low, high = line["low"], line["high"]
        table.add(
            _words(line["dimension"], facts) + (" *" if line["dimension"] in facts["trained"] else ""),
            terminal.number(line["base"]),
            terminal.number(line["tuned"]),
            "-" if line["difference"] is None else f"{line['difference']:+z.2f}",
            "-" if low is None else f"{low:+z.2f} .. {high:+z.2f}",
            f"{line['both']}/{line['videos']}",
            line["verdict"],
        )
    console.print(table)
    for kind, text in headline(facts):
        console.print(f"{kind}, {text}")
    other = " (other): not to be improved, but must not get worse." if facts["others"] else ""
    console.print(f"* trained dimension. both: number of videos scored for both models.{other}")
    console.print(bootstrap.correction_note(facts["comparisons"]))
    for line in facts["comparisons"]:
        if line["base_scorable"] != line["tuned_scorable"]:
            shares = (
                f"{line['base_scorable']:.0%} of the base's videos, {line['tuned_scorable']:.0%} of the tuned one's"
            )
            console.print(f"{terminal.words(line['dimension'])}: could be scored {shares}")
    for name, text in measures_text.lines(facts):
        console.print(f"{name}: {text}")
    if lost := rounding_note(facts.get("rounding")):
        console.print(lost)
    if facts["judge_note"]:
        console.print(facts["judge_note"])
    for name, counts in facts["pixels"].items():
        for warning in pixels.warnings(counts):
            console.print(f"warning: {name}: {warning}")

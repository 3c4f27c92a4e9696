"""From results.jsonl to a page for people (gpu.md) and rates for programs (gpu_rates.json).

    python -m benchmarks.gpu.report DIR      # writes both anew from DIR/results.jsonl

Each run begins with a line that names the machine and the command, so the results of several runs may be put together
into one file. Of a section that ran more than once, the last run counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.measure import shown
from benchmarks.gpu.sections import SECTIONS

Entry = dict[str, Any]
NOT_SHOWN = {"section", "name", "value", "low", "high", "count", "unit"}
RUN = ("machine", "date", "command", "trial")  # keys of the line that a run begins with
# What programs read: a key, and the section and name of the figure that it is.
RATES: Mapping[str, tuple[str, str]] = {
    "matmul_tflops": ("ceilings", "matmul, bfloat16"),
    "copy_gb_per_s": ("ceilings", "copy in memory, read and written"),
    "training_pass_s": ("training", "full, selective, compiled, synthetic, a pass"),
    "training_peak_gb": ("training", "full, selective, compiled, synthetic, peak memory"),
    "training_pair_peak_gb": ("training", "full, selective, compiled, pair, peak memory"),
    "lora_pass_s": ("training", "lora, full, compiled, synthetic, a pass"),
    "nft_over_reweight": ("references", "full, selective, nft over reweight"),
    "nft_anchored_over_reweight": ("references", "full, selective, nft with a second reference over reweight"),
    "trainer_over_loop": ("trainer", "trainer over by hand"),
    "synthesis_forward_s": ("synthesis", "compiled, forward pass"),
    "synthesis_clip_s": ("synthesis", "compiled, a clip of 50 steps"),
    **{
        f"{mode}_{key}_s": ("synthesis", f"{mode}, {name}")
        for mode in ("compiled", "eager")
        for key, name in (
            ("step", "denoising step"),
            ("decode", "decoder"),
            ("rest", "text, frames to the host, other"),
        )
    },
    "encode_clip_s": ("encoding", "autoencoder, encode one clip, float32"),
    "decode_clip_s": ("encoding", "autoencoder, decode one clip, float32"),
    "encode_prompt_s": ("encoding", "text encoder, float32, one prompt of 512 tokens"),
    "judge_clip_s": ("judge", "one clip, 8 questions"),
    "judge_clip_shared_s": ("judge", "one clip, 8 questions, video shared"),
}


@dataclass
class Run:
    """What one command measured.

    Attributes:
        number: from 1, in the order of the file.
        machine: facts of `probe`.
        date: in UTC.
        command: that was run.
        trial: whether the smallest models were used.
        entries: figures and notes.
    """

    number: int
    machine: dict[str, Any]
    date: str
    command: str
    trial: bool
    entries: list[Entry] = field(default_factory=list)

    def of(self, section: str) -> list[Entry]:
        return [entry for entry in self.entries if entry["section"] == section]


def begin(path: Path, machine: Mapping[str, Any], date: str, command: str, *, trial: bool) -> None:
    """Append the line that a run begins with; a half line before it stays a line of its own."""
    with path.open("a", encoding="utf-8") as file:
        line = json.dumps(dict(zip(RUN, (dict(machine), date, command, trial), strict=True)))
        file.write(("\n" if file.tell() else "") + line + "\n")


def read(path: Path) -> list[Run]:
    """Runs with the entries that were written whole: a process that was ended may leave half a line."""
    runs: list[Run] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "machine" in entry:
            runs.append(Run(len(runs) + 1, **{key: entry[key] for key in RUN}))
        else:
            runs[-1].entries.append(entry)
    return runs


def latest(runs: Sequence[Run]) -> dict[str, Run]:
    """By section, the last run that measured it; the last one with a note, if none did."""
    by_section: dict[str, Run] = {}
    for section in SECTIONS:
        started = [run for run in runs if run.of(section.name)]
        measured = [run for run in started if any("value" in entry for entry in run.of(section.name))]
        if started:
            by_section[section.name] = (measured or started)[-1]
    return by_section


def rates(runs: Sequence[Run]) -> dict[str, Any]:
    """Figures of the last run's GPU by the keys of `RATES`; what was not measured is left out."""
    last = runs[-1]
    by_name = {
        (section, entry["name"]): entry
        for section, run in latest(runs).items()
        if run.machine["gpu"] == last.machine["gpu"]
        for entry in run.of(section)
        if "value" in entry
    }
    by_key = {
        key: {
            **{name: by_name[place][name] for name in ("value", "low", "high", "unit")},
            "calculated": by_name[place].get("calculated", False),
        }
        for key, place in RATES.items()
        if place in by_name
    }
    return {"format": 1, "date": last.date, "trial": last.trial, "machine": last.machine, "rates": by_key}


def markdown(runs: Sequence[Run]) -> str:
    """The runs, and a table for each section, in the order of the sections; what was left out, with the reason."""
    trial = any(run.trial for run in runs)
    lines = [
        "# Measured on a GPU" if not trial else "# A trial of the GPU benchmark on the smallest models",
        "",
        *(["The figures of a trial mean nothing.", ""] if trial else []),
        *_commands(runs),
        "Random weights and inputs. Medians; the range is the lowest and the highest value. *calculated* figures come",
        "from measured parts and were not measured themselves.",
    ]
    for section in SECTIONS:
        run = latest(runs).get(section.name)
        if run is None:
            continue
        of_run = f" (run {run.number})" if len(runs) > 1 else ""
        lines += ["", f"## {section.number}. {section.title}{of_run}", ""]
        figures = [entry for entry in run.of(section.name) if "value" in entry]
        if figures:
            lines += ["| figure | value | range | |", "| --- | --- | --- | --- |"]
        lines += [_row(entry) for entry in figures]
        notes = [entry for entry in run.of(section.name) if "value" not in entry]
        lines += [""] * bool(figures and notes) + [f"- {entry['name']}: {entry['text']}" for entry in notes]
    return "\n".join(lines) + "\n"


def _commands(runs: Sequence[Run]) -> list[str]:
    """The runs, by the machine that they ran on."""
    lines = []
    for machine in dict.fromkeys(_described(run.machine) for run in runs):
        own = [run for run in runs if _described(run.machine) == machine]
        lines += [f"On {machine}:", "", *(f"{run.number}. `{run.command}`, {run.date}" for run in own), ""]
    return lines


def _described(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    place = "a CPU"
    if machine["gpu"]:
        place = f"{machine['gpu']} ({machine['memory_gb']:.0f} GB), driver {machine['driver']}, CUDA {machine['cuda']}"
    return f"{place}, Python {machine['python']}, {versions}"


def _row(entry: Entry) -> str:
    spread = f"{shown(entry['low'])} to {shown(entry['high'])}" if entry["count"] > 1 else ""
    notes = [f"{key} {shown(value)}" for key, value in entry.items() if key not in NOT_SHOWN and key != "calculated"]
    notes = ["*calculated*"] * entry.get("calculated", False) + notes
    return f"| {entry['name']} | {shown(float(entry['value']))} {entry['unit']} | {spread} | {', '.join(notes)} |"


def write(folder: Path) -> None:
    """Write gpu.md and gpu_rates.json from results.jsonl in the same folder."""
    runs = read(folder / "results.jsonl")
    (folder / "gpu.md").write_text(markdown(runs), "utf-8")
    (folder / "gpu_rates.json").write_text(json.dumps(rates(runs), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    write(parser.parse_args().folder)

"""From results.jsonl to a page for people (gpu.md) and rates for programs (gpu_rates.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.measure import shown
from benchmarks.gpu.sections import SECTIONS

Entry = dict[str, Any]
NOT_SHOWN = {"section", "name", "value", "low", "high", "count", "unit"}
# What programs read: a key, and the section and name of the figure that it is.
RATES: Mapping[str, tuple[str, str]] = {
    "matmul_tflops": ("ceilings", "matmul, bfloat16"),
    "copy_gb_per_s": ("ceilings", "copy in memory, read and written"),
    "training_pass_s": ("training", "full, selective, compiled, synthetic, a pass"),
    "training_peak_gb": ("training", "full, selective, compiled, synthetic, peak memory"),
    "training_pair_peak_gb": ("training", "full, selective, compiled, pair, peak memory"),
    "lora_pass_s": ("training", "lora, full, compiled, synthetic, a pass"),
    "trainer_over_loop": ("trainer", "trainer over by hand"),
    "synthesis_forward_s": ("synthesis", "compiled, forward pass"),
    "synthesis_clip_s": ("synthesis", "compiled, a clip of 50 steps"),
    "encode_clip_s": ("encoding", "autoencoder, encode one clip, float32"),
    "decode_clip_s": ("encoding", "autoencoder, decode one clip, float32"),
    "encode_prompt_s": ("encoding", "text encoder, float32, one prompt of 512 tokens"),
    "judge_clip_s": ("judge", "one clip, 8 questions"),
}


def read(path: Path) -> list[Entry]:
    """Entries that were written whole: a process that was ended may leave half a line."""
    entries = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def rates(entries: Sequence[Entry], machine: Mapping[str, Any], date: str, *, tiny: bool) -> dict[str, Any]:
    """Figures by the keys of `RATES`; a key without a figure was not measured, and is left out."""
    by_name = {(entry["section"], entry["name"]): entry for entry in entries if "value" in entry}
    found = {
        key: {
            **{name: by_name[place][name] for name in ("value", "low", "high", "unit")},
            "calculated": by_name[place].get("calculated", False),
        }
        for key, place in RATES.items()
        if place in by_name
    }
    return {"format": 1, "date": date, "trial": tiny, "machine": dict(machine), "rates": found}


def markdown(entries: Sequence[Entry], machine: Mapping[str, Any], date: str, command: str, *, tiny: bool) -> str:
    """A table for each section, in the order of the sections; what was left out, with the reason."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    place = "a CPU"
    if machine["gpu"]:
        place = f"{machine['gpu']} ({machine['memory_gb']:.0f} GB), driver {machine['driver']}, CUDA {machine['cuda']}"
    lines = [
        "# Measured on a GPU" if not tiny else "# A trial of the GPU benchmark on the smallest models",
        "",
        *(["The figures of a trial mean nothing.", ""] if tiny else []),
        f"`{command}` on {place}, Python {machine['python']}, {versions}, {date}.",
        "Random weights and inputs. Medians; the range is the lowest and the highest value. *calculated* figures come",
        "from measured parts and were not measured themselves.",
    ]
    for section in SECTIONS:
        own = [entry for entry in entries if entry["section"] == section.name]
        if not own:
            continue
        lines += ["", f"## {section.number}. {section.title}", ""]
        figures = [entry for entry in own if "value" in entry]
        if figures:
            lines += ["| figure | value | range | |", "| --- | --- | --- | --- |"]
        lines += [_row(entry) for entry in figures]
        notes = [entry for entry in own if "value" not in entry]
        lines += ["", *(f"- {entry['name']}: {entry['text']}" for entry in notes)] if notes else []
    return "\n".join(lines) + "\n"


def _row(entry: Entry) -> str:
    spread = f"{shown(entry['low'])} to {shown(entry['high'])}" if entry["count"] > 1 else ""
    notes = [f"{key} {shown(value)}" for key, value in entry.items() if key not in NOT_SHOWN and key != "calculated"]
    notes = ["*calculated*"] * entry.get("calculated", False) + notes
    return f"| {entry['name']} | {shown(float(entry['value']))} {entry['unit']} | {spread} | {', '.join(notes)} |"

"""Flaws that the pixels of a generated clip show without a judge: it is black, or it is frozen.

Both are measured on the encoded clip and stored in `measurements`. They reject a clip only if the recipe's
`reject_videos` lists them, since a prompt may ask for night, or for a still picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gigavideo_data.reasons import PixelFlaw
from gigavideo_data.rows import DatasetRow, MeasurementEntry

JUDGE = {"backend": "pixels", "model": "pixels", "revision": "1"}  # settings of an entry of a row's `judges`
JUDGE_ID = f"{JUDGE['model']}@{JUDGE['revision']}"
BRIGHTEST, CHANGE = "brightest level", "change of level"
BLACK_LEVEL = 16  # of 255: a clip without a brighter value is black
FROZEN_CHANGE = 16  # levels: more than compression changes equal frames
CHANGED_SHARE = 0.001  # of the pixels: this many may change more in a frozen clip


def measure(frames_THWC: np.ndarray) -> dict[str, float]:
    """Measure the brightest value of all pixels, and how much pixels change over the clip, in levels of 255.

    The change is the range of a pixel's values over time that only CHANGED_SHARE of the pixels exceed.

    Args:
        frames_THWC: uint8 RGB.
    """
    range_HW = (frames_THWC.max(0) - frames_THWC.min(0)).max(-1)
    return {BRIGHTEST: float(frames_THWC.max()), CHANGE: float(np.quantile(range_HW, 1 - CHANGED_SHARE))}


def levels(record: Mapping[str, Any]) -> dict[str, float]:
    """The measurements in the record of a clip; records of older versions have none."""
    return record.get("pixels", {})


def describe(record: Mapping[str, Any]) -> str:
    """The measurements of a record in words."""
    return ", ".join(f"{name} {value:g} of 255" for name, value in levels(record).items())


def flaw(levels: Mapping[str, float]) -> PixelFlaw | None:
    """`black` or `frozen`, by the results of `measure`; None for neither, or if the clip was not measured."""
    if levels.get(BRIGHTEST, 255.0) <= BLACK_LEVEL:
        return "black"
    return "frozen" if levels.get(CHANGE, 255.0) <= FROZEN_CHANGE else None


def measurements(levels: Mapping[str, float], dimensions: Iterable[str]) -> list[MeasurementEntry]:
    """Entries of the column `measurements` for every dimension that a clip is scored on."""
    return [
        {"dimension": dimension, "name": name, "judge": JUDGE_ID, "values": [value]}
        for dimension in dimensions
        for name, value in levels.items()
    ]


def measured(row: DatasetRow) -> dict[str, dict[str, float]]:
    """The results of `measure` in the column `measurements` of a row, by dimension."""
    found: dict[str, dict[str, float]] = {}
    for one in row["measurements"] or []:
        if one["judge"] == JUDGE_ID:
            found.setdefault(one["dimension"], {})[one["name"]] = one["values"][0]
    return found


def flaws(clips: Iterable[tuple[str, Mapping[str, float]]]) -> dict[str, dict[str, int]]:
    """Count per dimension the measured clips (videos), and those that are black and frozen.

    Args:
        clips: dimension and measurements of each.
    """
    counts: dict[str, dict[str, int]] = {}
    for dimension, levels in clips:
        if levels:
            count = counts.setdefault(dimension, {"videos": 0, "black": 0, "frozen": 0})
            count["videos"] += 1
            if found := flaw(levels):
                count[found] += 1
    return counts


def warnings(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """One sentence per dimension and flaw that occurs."""
    return [
        f"{dimension}: {count[name]} of {count['videos']} videos are {name}"
        for dimension, count in counts.items()
        for name in ("black", "frozen")
        if count[name]
    ]

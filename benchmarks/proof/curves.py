"""Curves of the gain of `nft`: against corrupted rewards, clips per group, and kept rows. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.proof.final import CLIPS, CORRUPTED, KEPT, NFT
from benchmarks.proof.results import Kind, Results
from benchmarks.proof.runs import FOCUS
from gigavideo_data.io.terminal import words

Points = dict[float, Kind]


def draw(results: Results, to: Path) -> None:
    """Draw the curves of which all points are measured."""
    shares: Points = {0.0: NFT} | {share: ("corrupted", f"{share:.0%}") for share in CORRUPTED}
    clips: Points = {3 * number: ("clips", f"{3 * number}") for number in CLIPS}
    kept = {("kept", f"{number} prompts") for number in KEPT} | {NFT}
    rows: Points = {results.by_name[kind][0].plan["kept"]: kind for kind in kept if kind in results.by_name}
    _curve(shares, "share of the rewards exchanged at random", results, to / "corrupted.svg")
    _curve(clips, "clips per group", results, to / "clips.svg")
    if len(rows) == len(kept):
        _curve(dict(sorted(rows.items())), "kept rows", results, to / "kept.svg")


def _curve(points: Points, label: str, results: Results, to: Path) -> None:
    gains = [gain for kind in points.values() if (gain := results.gain(kind))]
    if len(gains) < len(points):
        return
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "proof", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3))
    at = list(points)
    low, middle, high = (
        np.array([getattr(gain.prompts, name) for gain in gains], float) for name in ("low", "difference", "high")
    )
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.fill_between(at, low, high, color="tab:blue", alpha=0.15, linewidth=0, label="95 % over prompts")
    axes.plot(at, middle, color="tab:blue", marker="o", markersize=3, label="mean of the training seeds")
    if max(at) > 1:
        axes.set_xscale("log", base=2)
        axes.set_xticks(at, [f"{x:g}" for x in at])
    axes.set(xlabel=label, ylabel=f"gain, {words(FOCUS)}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(to, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)

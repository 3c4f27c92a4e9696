"""The results of the proof as Markdown: claims with verdicts, tables, and two curves, from the result files alone."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof.runs import CORRUPTED, EPOCHS, FOCUS, JOINT, KEPT, OFFLINE, SEEDS, STEPS, Run, result_file
from gigavideo_data.io.terminal import words
from gigavideo_data.scoring.bootstrap import Comparison, Scored, compare

METHOD = ("method", "all rows, reweighted")

Rewards = dict[tuple[str, str, int], float | None]  # (dimension, prompt, seed of the video) -> reward


@dataclass(frozen=True)
class Trained:
    """The result of one run."""

    run: Run
    plan: dict[str, Any]
    rewards: Rewards


@dataclass(frozen=True)
class Contrast:
    """A comparison of two kinds of training on the same prompts and seeds: over prompts, and for each training seed."""

    prompts: Comparison
    by_seed: list[float]

    @property
    def spread(self) -> float | None:
        """Standard deviation over training seeds."""
        return statistics.stdev(self.by_seed) if len(self.by_seed) > 1 else None

    @property
    def verdict(self) -> str:
        """Above or below 0 if the interval over prompts and every training seed are; noise otherwise."""
        low, high = self.prompts.low, self.prompts.high
        if low is not None and low > 0 and min(self.by_seed) > 0:
            return "above"
        if high is not None and high < 0 and max(self.by_seed) < 0:
            return "below"
        return "noise"


class Results:
    """All result files of a split."""

    def __init__(self, work: Path, split: str, runs: Iterable[Run]) -> None:
        self.base = rewards_of(json.loads(result_file(work, split, None).read_text()))
        self.by_name: dict[tuple[str, str], list[Trained]] = defaultdict(list)
        self.refused: dict[tuple[str, str], str] = {}
        for run in runs:
            found = json.loads(result_file(work, split, run).read_text())
            if "refused" in found:
                self.refused[run.table, run.name] = found["refused"]
            else:
                self.by_name[run.table, run.name].append(Trained(run, found["plan"], rewards_of(found)))

    def gain(self, table: str, name: str, dimensions: Iterable[str] | None = None) -> Contrast:
        """Tuned model against base, on the trained dimensions or on those given."""
        mine = self.by_name[table, name]
        return _contrast([(self.base, one.rewards) for one in mine], set(dimensions or mine[0].run.dimensions))

    def against(self, one: tuple[str, str], other: tuple[str, str], dimension: str = FOCUS) -> Contrast:
        """One kind of training against another, training seed by training seed."""
        pairs = zip(self.by_name[other], self.by_name[one], strict=True)
        return _contrast([(b.rewards, a.rewards) for b, a in pairs], {dimension})


def rewards_of(result: dict[str, Any]) -> Rewards:
    """The rewards of a result file."""
    return {(r["dimension"], r["prompt_id"], r["seed"]): r["reward"] for r in result["rewards"]}


def _contrast(pairs: list[tuple[Rewards, Rewards]], dimensions: set[str]) -> Contrast:
    def scored(pair: tuple[Rewards, Rewards]) -> list[Scored]:
        base, tuned = pair
        return [Scored(*key, base[key], tuned[key]) for key in tuned if key[0] in dimensions]

    def whole(these: list[Scored]) -> Comparison:
        return compare(these)[-1]  # the mean over dimensions, where there are several

    by_seed = [whole(scored(pair)).difference for pair in pairs]
    together = whole([one for pair in pairs for one in scored(pair)])
    return Contrast(together, [difference for difference in by_seed if difference is not None])


# --- text ------------------------------------------------------------------------------------------------------------


def choice(results: Results) -> str:
    """The settings tried on the dev prompts, as a table."""
    lines = ["| trained on | learning rate | steps | base | tuned | gain | 95 % over prompts | other dimensions |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for (table, name), (one,) in results.by_name.items():
        gain, others = results.gain(table, name), _others(results, table, name)
        cells = [words(one.run.dimensions[0]), f"{one.run.lr:g}", str(one.run.steps), *_numbers(gain)]
        lines.append(f"| {' | '.join(cells)} | {others.prompts.difference:+z.3f} |")
    return "\n".join(lines)


def table(results: Results, title: str, names: Iterable[tuple[str, str]]) -> list[str]:
    """One row per kind of training: kept samples, gain, and its uncertainty."""
    lines = [
        f"### {title}",
        "",
        "| | kept | steps | base | tuned | gain | 95 % over prompts | SD over seeds | others | 95 % over prompts |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in names:
        label = kind[1] if " " in kind[1] else words(kind[1])  # P_s keeps its underscore
        if kind in results.refused:
            lines.append(f"| {label} | 0 | - | - | - | - | nothing to train on | - | - | - |")
            continue
        mine, gain = results.by_name[kind], results.gain(*kind)
        kept = "/".join(dict.fromkeys(str(one.plan["kept"]) for one in mine))
        steps = "/".join(dict.fromkeys(str(one.plan["steps"]) for one in mine))
        cells = [label, kept, steps, *_numbers(gain), "-" if gain.spread is None else f"{gain.spread:.3f}"]
        if mine[0].run.others:
            others = _others(results, *kind).prompts
            cells += [f"{others.difference:+z.3f}", interval(others)]
        else:
            cells += ["-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _others(results: Results, table: str, name: str) -> Contrast:
    """The mean over the dimensions that were not trained."""
    trained = results.by_name[table, name][0]
    return results.gain(table, name, {key[0] for key in trained.rewards} - set(trained.run.dimensions))


def _numbers(contrast: Contrast) -> list[str]:
    over = contrast.prompts
    return [f"{over.base:.3f}", f"{over.tuned:.3f}", f"{over.difference:+z.3f}", interval(over)]


def interval(over: Comparison) -> str:
    """The 95 % interval of a difference over prompts."""
    return "-" if over.low is None else f"{over.low:+z.3f} to {over.high:+z.3f}"


def claims(results: Results) -> str:
    """The claims of the paper as a table, each with the contrast that tests it, and a verdict by one rule."""
    four = f"{EPOCHS} epochs"
    found = [
        (f"Tuning on {words(name)} alone improves it (Table 1)", results.gain("alone", name))
        for table, name in results.by_name
        if table == "alone"
    ]
    found.append((f"Tuning on {words(FOCUS)} alone improves it, larger dataset", results.gain(*METHOD)))
    found += [
        (f"All three kinds of rows beat {name} (Table 2)", results.against(METHOD, ("arms", name)))
        for table, name in results.by_name
        if table == "arms"
    ]
    for rival, what in (
        ("sft", "SFT on all videos"),
        ("sft-filtered", "SFT on the kept videos"),
        ("dpo", "DPO, which is not in the paper"),
        ("reweight-online", "reweighting by online rewards"),
        ("backprop-online", "backpropagating online rewards"),
    ):
        same = results.against(METHOD, ("strategies", f"{rival}, {STEPS} steps"))
        found.append((f"Reweighting beats {what}, at {STEPS} steps (Table 3)", same))
        if rival in OFFLINE:
            epochs = results.against(("strategies", f"reweight, {four}"), ("strategies", f"{rival}, {four}"))
            found.append((f"Reweighting beats {what}, at {four} (Table 3)", epochs))
    for dimension in JOINT:
        joint = results.against(("jointly", "both"), ("alone", dimension), dimension)
        claim = f"Training on two dimensions improves {words(dimension)} more than training on it alone (Table 4)"
        found.append((claim, joint))
    base_data = results.against(METHOD, ("controls", "continued base training"))
    found.append(("Control: the gain exceeds that of continued base training", base_data))
    shuffled = results.against(METHOD, ("controls", "shuffled rewards"))
    found.append(("Control: the gain exceeds that with shuffled rewards", shuffled))
    verdicts = {"above": "**holds**", "below": "**fails**", "noise": "unclear"}
    lines = [
        "| claim | difference | 95 % over prompts | by training seed | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for claim, contrast in found:
        seeds = ", ".join(f"{value:+z.3f}" for value in contrast.by_seed)
        over = contrast.prompts
        cells = [claim, f"{over.difference:+z.3f}", interval(over), seeds, verdicts[contrast.verdict]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def curves(results: Results, to: Path) -> None:
    """Draw gain against corrupted rewards and against kept rows."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "proof", "svg.fonttype": "none", "font.size": 9}
    _curve(
        [(0.0, METHOD)] + [(share, ("corrupted", f"{share:.0%}")) for share in CORRUPTED],
        "share of the rewards exchanged at random",
        results,
        to / "corrupted.svg",
    )
    whole = results.by_name["arms", "P_s V_s"][0].plan["kept"]
    _curve(
        [(number, ("kept", str(number))) for number in KEPT if number < whole] + [(whole, ("arms", "P_s V_s"))],
        "kept rows",
        results,
        to / "kept.svg",
    )


def _curve(points: list[tuple[float, tuple[str, str]]], label: str, results: Results, to: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3))
    gains = [results.gain(*kind) for _, kind in points]
    at = [x for x, _ in points]
    low, middle, high = (
        np.array([getattr(gain.prompts, name) for gain in gains], float) for name in ("low", "difference", "high")
    )
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.fill_between(at, low, high, color="tab:blue", alpha=0.15, linewidth=0, label="95 % over prompts")
    axes.plot(at, middle, color="tab:blue", label="mean of the training seeds")
    for x, gain in zip(at, gains, strict=True):
        axes.scatter([x] * len(gain.by_seed), gain.by_seed, s=12, color="tab:blue")
    if max(at) > 1:
        axes.set_xscale("log", base=2)
        axes.set_xticks(at, [f"{x:g}" for x in at])
    axes.set(xlabel=label, ylabel=f"gain, {words(FOCUS)}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(to, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)


def times(pace: dict[str, Any]) -> list[str]:
    """Seconds per step of each strategy, relative to reweight."""
    lines = ["| | seconds per step relative to reweight | range over rounds |", "| --- | --- | --- |"]
    measured = {**pace["ratios"], "reweight again (control)": pace["control"]}
    for name, ratios in measured.items():
        lines.append(f"| {name} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |")
    how = f"median of {len(pace['control'])} rounds, {pace['threads']} threads, batches of 16 videos"
    return [*lines, "", f"A step of reweight took {pace['seconds']:.2f} s ({how}).", ""]


def tables(results: Results, pace: dict[str, Any]) -> str:
    """Everything measured on the test prompts, and the time per step of the strategies, as Markdown."""
    kinds = list(dict.fromkeys([*results.by_name, *results.refused]))

    def of(table: str) -> list[tuple[str, str]]:
        return [kind for kind in kinds if kind[0] == table]

    lines = table(results, "1. Each dimension alone", of("alone"))
    lines += table(results, f"2. Data arms, {words(FOCUS)}", [*of("arms"), METHOD])
    lines += table(results, f"3. Strategies, {words(FOCUS)}", [*of("strategies"), METHOD])
    lines += times(pace)
    lines += table(results, "4. Two dimensions jointly", of("jointly"))
    lines += table(results, f"Controls, {words(FOCUS)}", of("controls"))
    lines += table(results, f"Corrupted rewards, {words(FOCUS)}", [METHOD, *of("corrupted")])
    lines += ["![Gain against the share of rewards exchanged at random](corrupted.svg)", ""]
    lines += table(results, f"Kept rows, {words(FOCUS)}", [*of("kept"), ("arms", "P_s V_s")])
    lines += ["![Gain against the number of kept rows](kept.svg)", ""]
    return "\n".join([*lines, f"Training seeds: {len(SEEDS)}."])

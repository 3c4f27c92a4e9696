"""The pages of the proof say what the result files say, and the hours follow from what is missing."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.proof import final, hours, pages, tiny
from benchmarks.proof.rounds import Loop
from benchmarks.proof.runs import DIMENSIONS, FOCUS, STEPS, Run, result_file
from benchmarks.proof.sections import NAMES, section

PROMPTS = [(d, f"{d} {n}", seed) for d in DIMENSIONS for n in range(20) for seed in (0, 1)]


def all_runs() -> list[Run]:
    return [run for runs_of in final.SECTIONS.values() for run in runs_of()]


def write_results(work: Path, gains: dict[tuple[str, str], float]) -> None:
    """Results of everything, in which the named kinds of training gain on the focus and nothing else changes."""
    rng = np.random.default_rng(0)
    base = {key: float(rng.uniform(0.2, 0.4)) for key in PROMPTS}
    loops = list(final.loops())
    listed = [None, *all_runs(), *(loop.best for loop in loops)]
    rounds = [loop.run(number) for loop in loops for number in loop.numbers]
    for run in (*listed, *rounds):
        gain = gains.get((run.table, run.name), 0.0) if run else 0.0
        rewards = [
            {"dimension": d, "prompt_id": p, "seed": s, "reward": base[d, p, s] + gain * (d == FOCUS)}
            for d, p, s in PROMPTS
        ]
        found: dict[str, Any] = {"plan": {"kept": 7, "steps": 9}, "rewards": rewards}
        if run and (run.table, run.name) == ("alone", "mechanics"):
            found = {"refused": "nothing to train on"}
        for view in final.VIEWS if run is None else run.views:
            file = result_file(final.folder(work), view, run)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found))


def verdicts(text: str) -> dict[str, str]:
    rows = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    return {cells[1].strip(): cells[-2].strip() for cells in rows}


def test_without_results_every_page_says_so_and_the_result_page_is_short(tmp_path: Path) -> None:
    pages.write(tmp_path, tmp_path)
    text = (tmp_path / "result.md").read_text()
    assert len(text.splitlines()) < 150
    assert set(verdicts(text).values()) == {"verdict", "---", "not measured"}
    assert text.count("not measured.") == 3  # the answers
    for file in (*(tmp_path / "tables").iterdir(), tmp_path / "rounds_dev.md"):
        assert "Not measured." in file.read_text(), file.name
    linked = {part.split(")")[0] for part in text.split("(tables/")[1:]}
    assert linked == {file.name for file in (tmp_path / "tables").iterdir()}


def test_the_pages_say_of_every_claim_what_the_results_say(tmp_path: Path) -> None:
    write_results(tmp_path, {final.NFT: 0.2, final.ROUNDS: 0.3, ("strategies", "dpo"): 0.1})
    pages.write(tmp_path, tmp_path)
    text = (tmp_path / "result.md").read_text()
    assert len(text.splitlines()) < 150
    found = verdicts(text)
    assert found["`nft` in rounds gains more than with shuffled rewards"] == "**holds**"
    assert found["`nft` in rounds gains more than one round of it"] == "**holds**"
    assert found["Table 1: `nft` on composition alone improves it"] == "unclear"
    assert found["Table 3: `reweight` beats `dpo` at equal steps"] == "**fails**"
    assert found["Table 1: `nft` on mechanics alone improves it"] == "not measured"
    assert "not measured." not in text
    assert "gain +0.300 (+0.300 to +0.300) on test prompts" in text
    assert "do not overlap" in text
    assert "of 6 dimensions, 1 have an interval above zero and 0 below it" in text
    assert "rounds of `nft`: none." in text
    alone = (tmp_path / "tables" / "alone.md").read_text()
    assert "| mechanics | 0 | - | - | - | - | nothing to train on |" in alone
    assert "| nft, one round | 7 | 9 |" in alone
    assert "nft, round 5" in (tmp_path / "tables" / "rounds.md").read_text()


def test_a_partial_table_has_the_rows_that_are_there(tmp_path: Path) -> None:
    write_results(tmp_path, {})
    for file in (final.folder(tmp_path) / "results" / "test").glob("strategies-*"):
        if "dpo" not in file.name:
            file.unlink()
    pages.write(tmp_path, tmp_path)
    text = (tmp_path / "tables" / "strategies.md").read_text()
    assert [line.split("|")[1].strip() for line in text.splitlines() if "| 7 |" in line] == ["dpo", "dpo, 4 epochs"]


def test_the_hours_are_those_of_what_is_missing(tmp_path: Path) -> None:
    run = Run("t", "n", (FOCUS,), others=0, views=("test", "dev"))
    training = STEPS * hours.STEP_S
    expected = training + (111 + 87) * 4 * hours.CLIP_SCORED_S
    assert hours.of_run(run, 120, 4, tmp_path) == pytest.approx(expected)
    assert hours.of_run(replace(run, strategy="dpo"), 120, 4, tmp_path) == pytest.approx(expected + 1.6 * training)
    file = result_file(tmp_path, "test", run)
    file.parent.mkdir(parents=True)
    file.touch()
    left = hours.of_run(run, 120, 4, tmp_path)
    assert left == pytest.approx(training + 87 * 4 * hours.CLIP_SCORED_S)
    loop = Loop("nft", num_rounds=2, others=0)
    one = hours.of_set([FOCUS], {**final.SHARED, "samples_per_prompt": 2, "captions.count": 0}) / 2
    assert hours.of_loop(loop, 120, 4, tmp_path) == pytest.approx(2 * (one + left))


def test_the_parts_take_as_long_as_the_whole_and_no_part_needs_more_than_ten_hours(tmp_path: Path) -> None:
    parts = [section(name, tmp_path, is_tiny=False).hours for name in NAMES]
    assert 0 < max(parts) <= 10
    assert section("test", tmp_path, is_tiny=False).hours <= sum(parts[1:-1])  # parts share a base and a dataset


def test_a_section_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.proof", "test", "--work", str(tmp_path), "--hours", "0.5"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."})
    assert (ended.returncode, "hours on this machine" in ended.stdout) == (2, True)
    assert "--hours 0.5" in ended.stderr
    assert not (tmp_path / "store").exists(), "nothing was built"


def test_runs_have_files_of_their_own_and_equal_clips_per_skill() -> None:
    runs = [*all_runs(), *(loop.best for loop in final.loops())]
    assert len({run.key for run in runs}) == len(runs)
    assert all(tiny.run(run).key == run.key and tiny.run(run).steps == 2 for run in runs)
    joint = [run for run in final.jointly() if len(run.dimensions) > 1]
    assert {run.steps for run in joint} == {2 * STEPS, 7 * STEPS}
    assert all(run.samples is None and run.prompts is None for run in joint)
    seeds = {kind: {run.seed for run in runs if (run.table, run.name) == kind} for kind in (final.NFT, final.CONTROL)}
    assert set(map(len, seeds.values())) == {3}

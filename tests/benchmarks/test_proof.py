import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.proof import arms, dev_table
from benchmarks.proof.results import Contrast
from benchmarks.proof.runs import DIMENSIONS, FOCUS, SYNTHETIC, Run, corrupt, result_file, rows_for
from gigavideo_data.scoring.bootstrap import Scored, compare
from tests.support.train_set import row


def focus_row(seed: int, reward: float, source: str = "synthetic", dimension: str = FOCUS) -> Any:
    made = row(seed, source, reward=reward)
    entry = {"dimension": dimension, "value": reward, "status": "scored", "reason": None}
    return {**made, "dimension": dimension if source == "synthetic" else None, "rewards": [entry], "reward": reward}


ROWS = [focus_row(seed, seed / 40) for seed in range(1, 41)]


def values(rows: list[Any]) -> list[float]:
    return [reward["value"] for row in rows for reward in row["rewards"]]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_corrupted_rewards_are_the_same_ones_in_other_places(share: float) -> None:
    corrupted = corrupt(ROWS, share, seed=0)
    assert Counter(values(corrupted)) == Counter(values(ROWS))
    moved = sum(a != b for a, b in zip(values(corrupted), values(ROWS), strict=True))
    assert 0.8 * share * len(ROWS) <= moved <= share * len(ROWS)
    assert values(ROWS) == [seed / 40 for seed in range(1, 41)]  # the given rows are left alone
    assert values(corrupt(ROWS, share, seed=0)) == values(corrupted)


def test_rewards_are_exchanged_within_their_dimension_only() -> None:
    others = [focus_row(seed, 0.001 * seed, dimension="mechanics") for seed in range(50, 60)]
    corrupted = corrupt([*ROWS, *others], 1.0, seed=1)
    assert sorted(values(corrupted[:40])) == sorted(values(ROWS))
    assert sorted(values(corrupted[40:])) == sorted(values(others))


def test_a_run_sees_the_rows_of_its_dimensions_and_sources_and_no_others() -> None:
    twin, other = focus_row(60, 0.9, "twin"), focus_row(61, 0.9, dimension="mechanics")
    rows = [*ROWS, twin, other]
    assert rows_for(Run("t", "n", (FOCUS,)), rows) == [*ROWS, twin]
    assert rows_for(Run("t", "n", (FOCUS,), sources=SYNTHETIC), rows) == ROWS


def test_a_run_takes_whole_prompts_and_the_first_samples_of_each() -> None:
    rows = [row | {"prompt_id": f"p{n // 4}", "sample": n % 4} for n, row in enumerate(ROWS)]
    few = rows_for(Run("t", "n", (FOCUS,), sources=SYNTHETIC, prompts=3, samples=4), rows)
    assert Counter(Counter(row["prompt_id"] for row in few).values()) == {4: 3}
    single = rows_for(Run("t", "n", (FOCUS,), samples=1), rows)
    assert [row["prompt_id"] for row in single] == [f"p{n}" for n in range(10)]
    assert {row["sample"] for row in rows_for(Run("t", "n", (FOCUS,)), rows)} == {0, 1}  # of the focus by default
    mechanics = [row | {"dimension": "mechanics"} for row in rows]
    assert {row["sample"] for row in rows_for(Run("t", "n", ("mechanics",)), mechanics)} == {0, 1, 2, 3}


def test_the_base_trained_on_its_own_data_sees_real_clips_alone_each_worth_1() -> None:
    real = focus_row(62, 0.0, "real") | {"rewards": [], "reward": None}
    (seen,) = rows_for(Run("t", "n", (FOCUS,), 0, strategy="sft", own_data=True), [*ROWS, real])
    assert (seen["id"], seen["reward"], seen["pair_id"]) == (real["id"], 1.0, None)


@pytest.mark.parametrize(
    ("gain", "by_seed", "verdict"),
    [
        (0.2, [0.1, 0.3], "above"),
        (-0.2, [-0.1, -0.3], "below"),
        (0.2, [0.5, -0.1], "noise"),
        (0.0, [0.1, 0.1], "noise"),
    ],
)
def test_a_claim_needs_both_the_prompts_and_every_training_seed(gain: float, by_seed: list, verdict: str) -> None:
    scored = [Scored(FOCUS, f"p{n}", 0, 0.5, 0.5 + gain + 0.01 * (n - 5)) for n in range(11)]
    assert Contrast(compare(scored)[0], by_seed).verdict == verdict


def test_an_arm_is_compared_with_the_same_training_on_shuffled_rewards(tmp_path: Path) -> None:
    """Results in which only nft learns from its rewards, and every run loses 0.1 for other reasons."""
    here = arms.folder(tmp_path, FOCUS)
    prompts = [(f"p{n}", seed) for n in range(30) for seed in (0, 1)]
    rng = np.random.default_rng(0)
    base = {key: float(rng.uniform(0.2, 0.4)) for key in prompts}
    for run in (None, *arms.arms(FOCUS)):
        gain = (-0.1 if run else 0.0) + (0.3 if run and run.strategy == "nft" and not run.corrupted else 0.0)
        rewards = [
            {"dimension": FOCUS, "prompt_id": p, "seed": s, "reward": base[p, s] + gain + rng.normal(0, 0.01)}
            for p, s in prompts
        ]
        file = result_file(here, "dev", run)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"plan": {"kept": 7}, "rewards": rewards}))
    text = dev_table.table(tmp_path, DIMENSIONS)
    cells = {line.split(" | ")[1]: line.strip("| ").split(" | ")[5:8] for line in text.splitlines()[2:]}
    numbers = {name: [float(cell.split()[0]) for cell in row] for name, row in cells.items()}
    assert numbers["nft"] == pytest.approx([0.2, 0.3, -0.1], abs=0.02)
    assert numbers["reweight"] == pytest.approx([-0.1, 0.0, -0.1], abs=0.02)
    assert "which is above zero" in dev_table.verdict(tmp_path)
    assert dev_table.table_of(tmp_path, arms.guidance_arms()) == "Not measured."
    some = dev_table.table_of(tmp_path, [*arms.arms(FOCUS), *arms.setting_arms()]).splitlines()
    assert len(some) == 2 + 6 + 2
    assert some[-1].startswith("Not measured: sft-filtered, lr 0.0001; ")
    assert len(text.splitlines()) == 2 + len(arms.STRATEGIES)  # the other dimensions have no results


def test_every_arm_has_a_control_with_the_same_settings() -> None:
    for dimension in DIMENSIONS:
        runs_of = list(arms.arms(dimension))
        for real, control in zip(runs_of[::2], runs_of[1::2], strict=True):
            assert replace(real, name=control.name, corrupted=1.0) == control
    others = (*arms.guidance_arms(), *arms.setting_arms())
    assert len({run.key for run in (*arms.arms(FOCUS), *others)}) == 2 * 3 + 9 + 18

from collections import Counter

import pytest
from train_set import row

from benchmarks.proof.runs import FOCUS, Run, corrupt, rows_for
from benchmarks.proof.tell import Contrast
from gigavideo_data.paired import Scored, compare


def focus_row(seed: int, reward: float, source: str = "synthetic", dimension: str = FOCUS) -> dict:
    made = row(seed, source, reward=reward)
    entry = {"dimension": dimension, "value": reward, "status": "scored", "reason": None}
    return {**made, "dimension": dimension if source == "synthetic" else None, "rewards": [entry], "reward": reward}


ROWS = [focus_row(seed, seed / 40) for seed in range(1, 41)]


def values(rows: list[dict]) -> list[float]:
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
    assert rows_for(Run("t", "n", (FOCUS,), 0), rows) == [*ROWS, twin]
    assert rows_for(Run("t", "n", (FOCUS,), 0, sources=("synthetic",)), rows) == ROWS
    few = rows_for(Run("t", "n", (FOCUS,), 0, sources=("synthetic",), kept=5), rows)
    assert len({row["id"] for row in few}) == 5
    assert all(row["reward"] > 0.5 for row in few)


def test_the_base_trained_on_its_own_data_sees_real_clips_alone_each_worth_1() -> None:
    real = {**focus_row(62, 0.0, "real"), "rewards": [], "reward": None}
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

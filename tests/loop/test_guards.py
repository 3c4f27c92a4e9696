"""Each guard fires where it must, and stays quiet elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gigavideo_data.scoring.bootstrap import Scored
from gigavideo_loop import guards
from gigavideo_loop.scores import of_targets, read_evaluation
from gigavideo_loop.setting import GUARDS
from tests.support.loop_commands import OTHER, TARGET, write_evaluation


def scored(gains: dict[str, float], spread: float = 0.01, prompts: int = 30) -> list[Scored]:
    """Differences with these means and standard deviation over prompts."""
    noise = np.random.default_rng(0).standard_normal((len(gains), prompts)) * spread
    noise -= noise.mean(1, keepdims=True)
    return [
        Scored(name, f"{name}-{prompt}", 1, 0.4, 0.4 + gain + float(noise[row, prompt]))
        for row, (name, gain) in enumerate(gains.items())
        for prompt in range(prompts)
    ]


@pytest.mark.parametrize(
    ("means", "fired"),
    [
        ([0.29], False),
        ([0.29, 0.28], True),  # two rounds below the base
        ([0.35, 0.34], False),
        ([0.35, 0.34, 0.36, 0.35], False),  # a new best between
        ([0.35, 0.34, 0.35], True),  # as good as the best is no new best
        ([0.35, None, None], True),
    ],
)
def test_no_new_best(means: list[float | None], fired: bool) -> None:
    guard = guards.no_new_best(0.3, means)
    assert guard["fired"] == fired
    assert f"{max([0.3, *(mean for mean in means if mean)]):.3f}" in guard["detail"]


def test_other_dimensions_fire_below_the_limit_and_not_for_a_small_or_an_uncertain_loss() -> None:
    level = guards.LEVEL / 3
    lower = guards.other_dimensions(scored({"a": 0.1, "b": -0.08, "c": 0.0}), ["a"], level)
    assert lower["fired"]
    assert "b -0.07" in lower["detail"]
    for gains, spread in (({"a": 0.1, "b": -0.04, "c": 0.0}, 0.01), ({"a": 0.1, "b": -0.08}, 0.2)):
        assert not guards.other_dimensions(scored(gains, spread), ["a"], level)["fired"]
    assert not guards.other_dimensions(scored({"a": -0.3, "b": 0.0}), ["a"], level)["fired"], "a target"


def test_other_dimensions_are_corrected_for_their_number_and_for_the_rounds() -> None:
    one = {"t": 0.1, "b": -0.061}
    several = one | {f"other{number}": 0.0 for number in range(8)}
    fires = [
        guards.other_dimensions(scored(gains, 0.03), ["t"], guards.LEVEL / rounds)["fired"]
        for gains, rounds in ((one, 1), (several, 1), (one, 20))
    ]
    assert fires == [True, False, False]


def test_after_the_worst_dimension_the_next_one_is_tested_less_strictly() -> None:
    second, worst = (
        guards.other_dimensions(scored({"t": 0.1, "b": b, "c": -0.0608}, 0.03), ["t"], guards.LEVEL)
        for b in (-0.2, 0.0)
    )
    assert ("b -0.1" in second["detail"], "c -0.05" in second["detail"]) == (True, True)
    assert not worst["fired"], "alone, the same dimension is tested at half of the level"


def test_other_dimensions_without_prompts_are_not_measured() -> None:
    assert guards.other_dimensions(scored({"a": 0.1}), ["a"], 0.05) == {
        "name": "other dimensions",
        "fired": False,
        "detail": guards.NOT_MEASURED,
    }


@pytest.mark.parametrize(
    ("low", "fired"), [(0.001, True), (0.0, False), (-0.01, False)], ids=["above", "at zero", "below"]
)
def test_realism(low: float, fired: bool) -> None:
    assert guards.realism({"excess": {"value": 0.01, "low": low, "high": 0.02}})["fired"] == fired


@pytest.mark.parametrize(("high", "fired"), [(0.79, True), (0.8, False), (1.1, False)])
def test_ratios(high: float, fired: bool) -> None:
    for name in ("motion", "spread"):
        guard = guards.ratio(name, {"base": 2.0, "tuned": 1.4, "ratio": 0.7, "low": 0.6, "high": high})
        assert (guard["name"], guard["fired"]) == (name, fired)


@pytest.mark.parametrize(
    ("first", "second", "fired"),
    [(0.1, -0.1, True), (0.1, -0.002, False), (-0.1, -0.1, False), (0.1, 0.1, False)],
    ids=["parted", "not significant", "both fall", "both rise"],
)
def test_second_judge(first: float, second: float, fired: bool) -> None:
    sides = [of_targets(scored({"a": gain}, 0.03), ["a"]) for gain in (first, second)]
    assert guards.second_judge(*sides)["fired"] == fired


@pytest.mark.parametrize("measured", [None, {}, {"excess": None}, {"excess": {"low": None}}, {"high": None}])
def test_what_was_not_measured_does_not_fire(measured: dict[str, Any] | None) -> None:
    nothing = of_targets([], ["a"])
    for guard in (
        guards.realism(measured),
        guards.ratio("motion", measured or None),
        guards.second_judge(of_targets(scored({"a": 0.1}), ["a"]), nothing),
    ):
        assert (guard["fired"], guard["detail"]) == (False, guards.NOT_MEASURED)


def test_all_guards_of_a_round_are_reported_and_can_be_switched_off(tmp_path: Path) -> None:
    lower = {"base": 1.0, "tuned": 0.5, "ratio": 0.5, "low": 0.4, "high": 0.6}
    excess = {"value": 0.2, "low": 0.1, "high": 0.3}
    write_evaluation(
        tmp_path,
        {TARGET: 0.1, OTHER: -0.2},
        measures={"realism": {"excess": excess}, "motion": lower, "spread": lower},
    )
    evaluation = read_evaluation(tmp_path)
    for off in ((), ("motion", "realism")):
        results = guards.check(evaluation, [TARGET], 0.3, [0.2, 0.2], 3, frozenset(off))
        assert [guard["name"] for guard in results] == list(GUARDS)
        assert [guard["name"] for guard in results if not guard["fired"]] == [
            name for name in GUARDS if name in (*off, "second judge")
        ]


def test_the_mean_over_several_targets_has_an_interval_over_their_prompts() -> None:
    both = of_targets(scored({"a": 0.1, "b": 0.2, "c": 0.9}, 0.03), ["a", "b"])
    assert both["difference"] == pytest.approx(0.15)
    assert both["low"] is not None
    assert both["high"] is not None
    assert 0.13 < both["low"] < 0.15 < both["high"] < 0.17

"""The signal of an adaptive number of samples: which clips it makes, and what they offer per clip."""

import pytest

from benchmarks.adaptive_samples import RULES, Rewards, Signal, differ, made, right_and_wrong, signal, table

WRONG: Rewards = [0.1, 0.4, 0.1, 0.4]


def test_only_groups_whose_rewards_differ_have_a_signal() -> None:
    assert signal([1.0, 0.0, None]) == Signal(clips=3, groups=1, compared=2, squares=0.5)
    assert signal([0.2, 0.2]) == Signal(clips=2, groups=0, compared=0, squares=0.0)
    assert signal([None]) == Signal(clips=1, groups=0, compared=0, squares=0.0)


def test_a_rule_decides_by_the_first_clips_alone() -> None:
    assert made(WRONG, 2, differ) == WRONG
    assert made(WRONG, 2, right_and_wrong) == [0.1, 0.4]
    assert made([0.1, 0.1, 0.9, 0.9], 2, differ) == [0.1, 0.1]
    assert made([None, None, 0.9, 0.1], 2, differ) == [None, None]


def test_prompts_that_always_have_equal_rewards_cost_an_adaptive_build_less() -> None:
    prompts: list[Rewards] = [[0.0, 1.0, 0.5, 0.7, 0.2, 0.9], [0.1] * 6] * 20
    head, _, fixed, *lines = table(prompts)
    assert head.startswith("| first | more |")
    assert fixed.split(" | ")[3] == "240"
    assert len(lines) == 3 * len(RULES)
    cells = lines[0].split(" | ")
    assert cells[:4] == ["| 2", "4", "rewards differ", "160"]
    assert float(cells[6].split()[0]) == pytest.approx(1.5)  # the same signal in 160 clips as in 240

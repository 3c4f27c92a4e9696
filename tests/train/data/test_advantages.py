"""Advantages: they sum to zero in every group, ignore groups without spread, and compare groups on one scale."""

import random

import pytest

from gigavideo_train.data.advantages import Scored, advantages, spreads


def group(name: str, *rewards: float, dimension: str = "mechanics") -> list[Scored]:
    return [Scored(name, dimension, reward) for reward in rewards]


def binary(rng: random.Random) -> float:
    return float(rng.random() < 0.27)


def graded(rng: random.Random) -> float:
    return rng.random() ** 3


@pytest.mark.parametrize("draw", [binary, graded])
def test_advantages_sum_to_zero_in_every_group_and_stay_within_1(draw) -> None:
    rng = random.Random(0)
    groups = [group(str(i), *(draw(rng) for _ in range(rng.randint(2, 12)))) for i in range(50)]
    scored = [sample for members in groups for sample in members]
    by_group: dict[str, list[float]] = {}
    for sample, a in zip(scored, advantages(scored), strict=True):
        if a is not None:
            assert -1 - 1e-12 <= a <= 1 + 1e-12
            by_group.setdefault(str(sample.group), []).append(a)
    assert len(by_group) > 25
    for found in by_group.values():
        assert sum(found) == pytest.approx(0, abs=1e-12)
        assert max(found) > 0


def test_groups_without_spread_have_no_advantage() -> None:
    scored = [
        *group("equal", 0.4, 0.4, 0.4),
        *group("alone", 0.9),
        *group("near", 0.4, 0.401),
        *group("some", 0.1, 0.9),
    ]
    found = advantages(scored)
    assert found[:6] == [None] * 6
    assert found[6:] == [-1.0, 1.0]
    assert advantages([]) == []


def test_a_better_sample_has_the_larger_advantage() -> None:
    scored = group("some", 0.2, 0.8, 0.5, 0.3)
    found = advantages(scored)
    order = sorted(range(4), key=lambda i: scored[i].reward)
    assert [found[i] for i in order] == sorted(a for a in found if a is not None)


def test_rewards_are_compared_on_the_scale_of_their_dimension_and_not_of_their_group() -> None:
    """A group whose rewards differ little gets small advantages, where others of the dimension differ much."""
    scored = [*group("noise", 0.50, 0.54), *group("signal", 0.0, 1.0)]
    low, high, *_ = advantages(scored)
    assert low == pytest.approx(-0.02 / 0.3537, rel=0.01)
    assert high == pytest.approx(0.02 / 0.3537, rel=0.01)


def test_one_prompt_with_two_dimensions_is_two_groups() -> None:
    scored = [*group("same", 0.2, 0.8), *group("same", 0.9, 0.9, dimension="composition")]
    assert advantages(scored)[2:] == [None, None]


def test_the_spread_of_each_dimension_is_summed_up() -> None:
    scored = [*group("a", 0.1, 0.9), *group("b", 0.7, 0.7), *group("c", 0.2, 0.3), *group("d", 0.0, 0.0)]
    (found,) = spreads(scored, {scored[0].dimension: 0.5})
    assert (found.with_spread, found.without_spread, found.samples) == (2, 2, 4)
    assert (found.always_right, found.always_wrong) == (0.25, 0.5)
    assert found.std == pytest.approx((0.4 + 0.05) / 4)

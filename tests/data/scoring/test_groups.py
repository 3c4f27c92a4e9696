"""What a group of samples is by its rewards, and where right begins."""

import pytest

from gigavideo_data.scoring.groups import Outcome, default_tau, has_spread, outcome


@pytest.mark.parametrize(
    ("rewards", "tau", "expected"),
    [
        ([0.9, 0.1], 0.5, Outcome.DIFFERENT),
        ([0.6, 0.9], 0.5, Outcome.DIFFERENT),  # though both are right
        ([0.1, 0.4], 0.5, Outcome.DIFFERENT),  # though both are wrong
        ([0.95, 0.96], 0.5, Outcome.ALWAYS_RIGHT),
        ([0.02, 0.03], 0.5, Outcome.ALWAYS_WRONG),
        ([0.5, 0.5], 0.5, Outcome.ALWAYS_WRONG),  # tau itself is not right
        ([0.5, 0.501], 0.5, Outcome.DIFFERENT),  # one is right
        ([0.9], 0.5, Outcome.ALWAYS_RIGHT),
        ([], 0.5, Outcome.UNSCORED),
        ([0.0, 1.0], 0.0, Outcome.DIFFERENT),
        ([1.0, 1.0], 0.0, Outcome.ALWAYS_RIGHT),
    ],
)
def test_a_group_without_spread_is_always_right_or_always_wrong(rewards, tau, expected):
    assert outcome(rewards, tau) is expected


def test_tau_is_zero_only_where_all_answers_are_hard():
    assert [default_tau(readouts) for readouts in ({"text"}, {"text", "logits"}, {"logits"}, set())] == [
        0,
        0.5,
        0.5,
        0.5,
    ]


def test_a_difference_of_rounding_is_no_spread():
    assert not has_spread([0.4, 0.4001, 0.4])
    assert has_spread([0.4, 0.45])

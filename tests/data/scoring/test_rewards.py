"""Rewards by hand: each rule on numbers small enough to work out."""

import math
from typing import Any

import pytest

from gigavideo_data.scoring.rewards import Reward, auc, harden, row_outcome, score


def answer(p_yes: float, p_no: float, expected: str = "yes", gate: bool = False, question: str = "q") -> dict[str, Any]:
    return {"question": question, "expected": expected, "gate": gate, "p_yes": p_yes, "p_no": p_no}


def entry(dimension: str, value: float | None, reason: str | None = None) -> Any:
    return {
        "dimension": dimension,
        "value": value,
        "status": "scored" if reason is None else "unscorable",
        "reason": reason,
    }


HALF, GOOD, BAD = answer(0.4, 0.4), answer(0.9, 0.1), answer(0.2, 0.8)


@pytest.mark.parametrize(
    ("combine", "answers", "value"),
    [
        ("mean", [HALF, GOOD, BAD], (0.5 + 0.9 + 0.2) / 3),
        ("all", [HALF, GOOD, BAD], 0.2),
        ("prefix", [GOOD, HALF, BAD], (0.9 + 0.9 * 0.5 + 0.9 * 0.5 * 0.2) / 3),
        ("prefix", [BAD, GOOD], (0.2 + 0.2 * 0.9) / 2),
        ("gate", [answer(0.6, 0.4, gate=True), GOOD, BAD], 0.55),
        ("gate", [GOOD, BAD], 0.55),
        ("mean", [answer(0.6, 0.4, gate=True), BAD], 0.4),  # only the rule "gate" knows gates
        ("all", [answer(0.1, 0.7, expected="no")], 0.875),
    ],
)
def test_rules(combine: str, answers: list[dict[str, Any]], value: float) -> None:
    reward = score(answers, combine, min_mass=0.5)
    assert reward.value == pytest.approx(value)
    assert (reward.status, reward.reason) == ("scored", None)


def test_a_gate_that_fails_makes_the_video_unscorable_not_bad() -> None:
    gate = answer(0.49, 0.51, gate=True, question="Is there a ball?")
    assert score([gate, GOOD], "gate", 0.5) == Reward(None, "unscorable", "gate_failed: Is there a ball?")
    assert score([answer(0.5, 0.5, gate=True), GOOD], "gate", 0.5).value == pytest.approx(0.9)
    assert score([answer(0.4, 0.6, expected="no", gate=True), GOOD], "gate", 0.5).value == pytest.approx(0.9)


@pytest.mark.parametrize(
    "bad", [answer(0.3, 0.1), answer(0.0, 0.0), answer(math.nan, 0.5), answer(0.3, 0.1, gate=True)]
)
def test_one_answer_without_mass_makes_the_whole_unscorable(bad: dict[str, Any]) -> None:
    assert score([GOOD, bad], "gate", 0.5) == Reward(None, "unscorable", "low_mass")


def test_no_mass_is_never_divided_by() -> None:
    assert score([answer(0.0, 0.0)], "mean", min_mass=0.0).reason == "low_mass"
    assert score([answer(0.3, 0.1)], "mean", min_mass=0.0).value == pytest.approx(0.75)


def test_a_judge_says_why_its_answers_have_no_mass() -> None:
    silent = answer(0.0, 0.0)
    assert score([silent], "all", 0.5, ["camera dx", "no answer: cut"]) == Reward(None, "unscorable", "cut")
    assert score([silent], "all", 0.5, ["camera dx"]).reason == "low_mass"
    assert score([GOOD], "all", 0.5, ["no answer: cut"]).value is not None  # of another question


def test_without_questions_there_is_no_reward() -> None:
    assert score([], "all", 0.5) == Reward(None, "unscorable", "no_questions")
    assert score([answer(1.0, 0.0, gate=True)], "gate", 0.5).reason == "no_questions"


def test_an_unknown_rule_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        score([GOOD], "median", 0.5)


def test_a_row_is_summed_up_on_its_own_dimension() -> None:
    rewards = [entry("a", 0.2), entry("b", 0.8), entry("c", None, "low_mass")]
    assert row_outcome(rewards, "b", ["a", "b"]).value == 0.8
    assert row_outcome(rewards, "c", ["a", "c"]) == Reward(None, "unscorable", "low_mass")
    assert row_outcome([], "c", ["c"]) == Reward(None, "unscorable", "no_questions")


def test_a_caption_is_summed_up_over_the_targets_known() -> None:
    rewards = [entry("a", 0.2), entry("b", 0.8), entry("c", None, "low_mass"), entry("other", 0.0)]
    assert row_outcome(rewards, None, ["a", "b", "c"]).value == pytest.approx(0.5)
    assert row_outcome(rewards, None, ["c"]).reason == "low_mass"
    assert row_outcome([entry("a", 0.0)], None, ["a"]).value == 0.0


def test_auc_counts_pairs_and_halves_ties() -> None:
    assert auc([0.9, 0.8], [0.1, 0.2]) == 1.0
    assert auc([0.1], [0.9]) == 0.0
    assert auc([0.5, 0.5], [0.5]) == 0.5
    assert auc([0.3, 0.7], [0.5, 0.1]) == 0.75
    assert auc([], [0.5]) is None
    assert auc([0.5], []) is None


def test_a_hard_answer_keeps_its_mass_and_loses_its_doubt():
    assert harden({"p_yes": 0.3, "p_no": 0.2}) == {"p_yes": 0.5, "p_no": 0.0}
    assert harden({"p_yes": 0.2, "p_no": 0.2}) == {"p_yes": 0.0, "p_no": 0.4}

"""Motion, spread and correlations of two models, and their words."""

import numpy as np
import pytest

from gigavideo_data.scoring import measures, measures_text


def record(features: list[float], motion: float = 1.0, brightness: float = 100.0) -> dict[str, object]:
    return {"features": features, "motion_px": motion, "brightness": brightness, "length_s": 2.0}


def pairs(
    num_prompts: int = 10, *, still: bool = False, copies: bool = False, real: bool = True
) -> list[measures.Pair]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(num_prompts):
        for seed in range(2):
            mine, other, true = rng.normal(size=(3, 4))
            found.append(
                measures.Pair(
                    dimension="mechanics",
                    prompt_id=f"p{number}",
                    base=record(mine.tolist(), 1 + 0.1 * number, 100 + seed),
                    tuned=record([0.5] * 4 if copies else other.tolist(), 0.0 if still else 1 + 0.1 * number),
                    rewards=(0.1 * number, 0.5),
                    real=true.tolist() if real else None,
                )
            )
    return found


def test_a_ratio_of_equal_values_is_one_and_one_of_noisy_values_has_an_interval() -> None:
    values = {f"p{number}": 1.0 + number for number in range(8)}
    assert measures.ratio(values, values) == {"base": 4.5, "tuned": 4.5, "ratio": 1.0, "low": 1.0, "high": 1.0}
    half = {name: value * (0.4 + 0.2 * (at % 2)) for at, (name, value) in enumerate(values.items())}
    found = measures.ratio(values, half)
    assert found["low"] is not None
    assert found["ratio"] is not None
    assert found["high"] is not None
    assert 0.4 <= found["low"] < found["ratio"] < found["high"] <= 0.6
    assert measures.ratio({"p": 1.0}, {"p": 2.0}) == {"base": 1, "tuned": 2, "ratio": 2, "low": None, "high": None}
    assert measures.ratio({"p": 0.0, "q": 0.0}, values | {"p": 1.0, "q": 1.0})["ratio"] is None
    assert set(measures.ratio({}, {}).values()) == {None}


def test_copies_of_one_clip_have_no_spread_and_still_clips_no_motion() -> None:
    assert measures.spread(np.ones((3, 5))) == 0
    found = measures.facts(pairs(still=True, copies=True), "test")
    assert (found["spread"]["tuned"], found["spread"]["high"]) == (0, 0)
    assert found["spread"]["base"] > 0.5
    assert (found["motion"]["tuned"], found["motion"]["ratio"], found["motion"]["high"]) == (0, 0, 0)


def test_correlations_are_within_dimensions_and_missing_where_nothing_varies() -> None:
    assert measures.correlation([0, 1, 2], [5, 7, 9], ["a"] * 3) == pytest.approx(1)
    assert measures.correlation([0, 1, 5, 6], [9, 8, 1, 0], ["a", "a", "b", "b"]) == pytest.approx(-1)
    assert measures.correlation([0, 0, 1, 1], [0, 0, 9, 9], ["a", "a", "b", "b"]) is None  # dimensions alone differ
    assert measures.correlation([0, 1], [0, 1], ["a", "a"]) is None
    found = measures.facts(pairs(), "test")["correlation"]
    assert found["base"]["motion"] == pytest.approx(1)
    assert found["base"]["length"] is None
    assert found["tuned"]["motion"] is None  # all rewards are equal


def test_without_real_clips_the_rest_is_measured() -> None:
    found = measures.facts(pairs(real=False), "test")
    assert found["realism"] is None
    assert found["spread"]["ratio"] is not None
    assert measures.facts([], "test")["motion"]["ratio"] is None


def test_measures_in_words() -> None:
    facts = {"measures": measures.facts(pairs(), "vae m@1") | {"plain": {"base": 0.5, "tuned": 0.25}}, "second": None}
    words = dict(measures_text.lines(facts))
    assert words["realism"].startswith("inconclusive: the base's own interval contains zero. Distance to 20 real clips")
    assert "ratio 1.00 (1.00 to 1.00)" in words["motion (optical flow, px per frame)"]
    assert words["plain questions passed"] == "base 50%, tuned 25% of the videos"
    assert words["correlation of the reward, base"].endswith("length –")
    few = {"measures": measures.facts(pairs(2, real=False), "m") | {"plain": None}, "second": None}
    assert dict(measures_text.lines(few))["realism"].startswith("not measured")
    assert measures_text.lines({"measures": None, "second": None}) == []
    assert measures_text.lines({}) == []  # an eval.json of an older version

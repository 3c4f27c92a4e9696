"""A judge against people: known agreements, ties, thresholds, and intervals that follow the number of prompts."""

import numpy as np
import pytest

from gigavideo_data.scoring.calibration import Pair, Rating, agreement, pairs_of, ranking


def judged(noise: float, num_prompts: int = 60, per_prompt: int = 4, prompt: str | None = None) -> list[Rating]:
    rng = np.random.default_rng(0)
    human = rng.integers(1, 6, (num_prompts, per_prompt))
    return [
        Rating(f"p{p}" if prompt is None else prompt, human[p, v] / 5 + noise * rng.normal(), float(human[p, v]))
        for p in range(num_prompts)
        for v in range(per_prompt)
    ]


def test_a_judge_that_thinks_as_people_do_is_usable_and_a_random_one_is_not() -> None:
    for noise, verdict, low, high in (
        (0.0, "usable", 1.0, 1.0),
        (0.3, "usable", 0.6, 0.9),
        (50.0, "not usable", 0.3, 0.7),
    ):
        found = agreement(pairs_of(judged(noise)))
        assert found.verdict == verdict
        assert found.agreement.value == pytest.approx((low + high) / 2, abs=(high - low) / 2 + 1e-9)
        assert found.pairs == 60 * 6


def test_ties_of_people_do_not_count_and_ties_of_the_judge_count_half() -> None:
    pairs = [Pair("p", 0.9, 0.1, "a"), Pair("p", 0.9, 0.1, "b"), Pair("q", 0.5, 0.5, "a"), Pair("q", 0.5, 0.49, "same")]
    found = agreement(pairs)
    assert (found.human_ties, found.judge_ties, found.prompts) == (1, 2, 2)
    assert found.agreement.value == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.with_ties == 0.5
    assert found.tie == pytest.approx(0.01)


def test_calling_close_scores_a_tie_helps_only_where_people_see_ties() -> None:
    decided = [Pair(str(n), 0.5, 0.5 + 0.1 * n, "b") for n in range(1, 9)]
    assert (agreement(decided).with_ties, agreement(decided).tie) == (1.0, 0.0)
    close = [Pair(f"t{n}", 0.5, 0.51, "same") for n in range(4)]
    assert agreement(decided + close).with_ties == 1.0
    assert agreement(decided + close).tie == pytest.approx(0.01)


def test_fewer_prompts_give_a_wider_interval_and_one_gives_none() -> None:
    widths = []
    for num_prompts in (10, 60):
        found = agreement(pairs_of(judged(0.3, num_prompts))).agreement
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1]
    assert agreement(pairs_of(judged(0.3, 1))).verdict == "too few"


def test_without_prompts_no_video_is_in_two_pairs() -> None:
    ratings = judged(0.3, prompt="")
    pairs = pairs_of(ratings)
    assert len(pairs) == len(ratings) // 2 == len({pair.prompt for pair in pairs})
    assert sorted(score for pair in pairs for score in (pair.a, pair.b)) == sorted(one.judge for one in ratings)


def test_rank_correlations_are_those_of_the_definition() -> None:
    judge, human = (0.1, 0.4, 0.35, 0.8, 0.8), (1, 2, 3, 4, 5)
    found = ranking([Rating(str(n), j, h) for n, (j, h) in enumerate(zip(judge, human, strict=True))])
    # Ranks 0 2 1 3.5 3.5 against 0 1 2 3 4; of ten pairs, eight agree, one disagrees, one is a tie of the judge.
    assert found.spearman.value == pytest.approx(np.corrcoef([0, 2, 1, 3.5, 3.5], range(5))[0, 1])
    assert found.kendall == pytest.approx(7 / np.sqrt(9 * 10))


def test_the_suggested_threshold_separates_good_from_bad() -> None:
    found = ranking(judged(0.0))
    assert found.good == 3.0
    assert found.tau.value == pytest.approx((3 + 4) / 2 / 5)
    assert [one["good"] for one in found.bins] == sorted(one["good"] for one in found.bins)
    assert sum(one["videos"] for one in found.bins) == found.videos == 240


def test_equal_ratings_or_scores_say_nothing() -> None:
    same = ranking([Rating(str(n), 0.1 * n, 3.0) for n in range(5)])
    assert (same.spearman.value, same.kendall, same.tau.value) == (None, None, None)
    assert agreement([]).verdict == "too few"

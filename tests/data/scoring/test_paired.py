import random
from collections.abc import Sequence

import pytest

from gigavideo_data.scoring.bootstrap import Comparison, Scored, compare, correction_note, facts, headline


def scored(dimension: str, pairs: Sequence[tuple[float | None, float | None]], seeds: int = 1) -> list[Scored]:
    return [Scored(dimension, f"p{i // seeds}", i % seeds, base, tuned) for i, (base, tuned) in enumerate(pairs)]


def holds(found: Comparison, truth: float | None) -> bool:
    assert found.low is not None
    assert found.high is not None
    assert truth is not None
    return found.low <= truth <= found.high


def test_a_difference_is_paired_and_averaged_over_seeds_before_prompts() -> None:
    # Two seeds of one prompt count as one prompt.
    found = compare(scored("a", [(0.0, 1.0), (0.0, 1.0), (0.5, 0.5), (None, 0.5)], seeds=2))[0]
    assert (found.prompts, found.both, found.videos) == (2, 3, 4)
    assert (found.base, found.tuned, found.difference) == (0.25, 0.75, 0.5)
    assert (found.base_scorable, found.tuned_scorable) == (0.75, 1.0)


def test_a_clear_gain_a_clear_loss_and_noise_are_told_apart() -> None:
    rng = random.Random(0)
    gain = [(x := rng.random() * 0.5, x + 0.2 + 0.1 * rng.random()) for _ in range(30)]
    loss = [(b, a) for a, b in gain]
    half = [(rng.random(), rng.random()) for _ in range(15)]
    noise = half + [(b, a) for a, b in half]
    found = {c.dimension: c for c in compare([*scored("g", gain), *scored("l", loss), *scored("n", noise)])}
    assert [found[name].verdict for name in "gln"] == ["better", "worse", "unclear"]
    assert holds(found["g"], found["g"].difference)
    assert found["mean"].difference == pytest.approx(sum(found[n].difference or 0 for n in "gln") / 3)
    assert found["mean"].prompts == 90


def test_targets_and_others_are_summed_up_apart() -> None:
    gain: list[tuple[float | None, float | None]] = [(0.2, 0.6)] * 4
    loss: list[tuple[float | None, float | None]] = [(0.5, 0.4)] * 4
    pairs = {"a": gain, "b": gain, "c": loss, "d": loss}
    found = compare([one for name, mine in pairs.items() for one in scored(name, mine)], others=["c", "d"])
    assert [each.dimension for each in found] == ["a", "b", "c", "d", "mean_of_targets", "mean_of_others"]
    lines = facts(found)
    assert "number of dimensions (4)" in correction_note(lines)
    summed = headline(lines, ["c", "d"])
    assert {kind: round(line["difference"], 6) for kind, line in summed.items()} == {"targets": 0.4, "others": -0.1}
    assert [line["tests"] for line in summed.values()] == [1, 1]


def test_an_only_target_is_its_own_mean_and_without_others_the_mean_is_that_of_the_targets() -> None:
    three = [one for name in "abc" for one in scored(name, [(0.2, 0.6)] * 4)]
    lines = facts(compare(three, others=["b", "c"]))
    assert [line["dimension"] for line in lines] == ["a", "b", "c", "mean_of_others"]
    assert headline(lines, ["b", "c"])["targets"] is lines[0]
    plain = facts(compare(three))
    assert headline(plain, []) == {"targets": plain[-1]}
    # An older evaluation has one mean over both kinds, which sums up neither.
    assert headline(plain, ["b", "c"]) == {"targets": plain[0]}
    assert [line["dimension"] for line in facts(compare(three, others=list("abc")))][-1] == "mean"


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(1)
    hits = 0
    for _ in range(100):
        pairs = [(0.5, 0.5 + rng.gauss(0.1, 0.2)) for _ in range(40)]
        hits += holds(compare(scored("a", pairs))[0], 0.1)
    assert 88 <= hits <= 100


def test_the_same_numbers_give_the_same_interval() -> None:
    pairs = [(i / 10, i / 12) for i in range(10)]
    assert compare(scored("a", pairs)) == compare(scored("a", pairs))


def test_nothing_in_common_is_no_difference_of_zero() -> None:
    found = compare(scored("a", [(None, 0.5), (0.5, None)]))[0]
    assert (found.base, found.difference, found.low, found.verdict) == (None, None, None, "too few")
    assert (found.base_scorable, found.tuned_scorable) == (0.5, 0.5)


def test_a_difference_of_few_prompts_among_several_dimensions_is_marked() -> None:
    gain = [(0.5, 0.5 + (i + 1) / 40) for i in range(8)]
    none: list[tuple[float | None, float | None]] = [(0.5, 0.5)] * 8
    alone = compare(scored("a", gain))[0]
    assert (alone.p, alone.tests, alone.verdict) == (2 / 2**8, 1, "better")
    several = compare([*scored("a", gain), *(one for name in "bcdefg" for one in scored(name, none))])
    assert several[0].low == alone.low
    assert (several[0].tests, several[0].verdict) == (7, "perhaps better")  # 0.0078 > 0.05 / 7
    assert [one.verdict for one in several[1:-1]] == ["unclear"] * 6
    assert (several[-1].tests, several[-1].verdict) == (1, "better")
    loss = compare([*scored("a", [(b, a) for a, b in gain[:4]]), *scored("b", none)])[0]
    assert (loss.p, loss.verdict) == (2 / 2**4, "perhaps worse")
    assert "number of dimensions (7)" in correction_note(facts(several))
    assert "in 30% of comparisons" in correction_note(facts(several))


def test_without_a_difference_a_verdict_is_as_rare_as_it_says() -> None:
    rng = random.Random(2)
    wrong = 0
    for _ in range(60):
        drawn = [scored(name, [(0.5, 0.5 + rng.gauss(0, 0.2)) for _ in range(16)]) for name in "abcdefg"]
        found = compare(one for mine in drawn for one in mine)[:-1]
        wrong += any(each.verdict in ("better", "worse") for each in found)
    assert wrong <= 7  # 5 % of 60 is 3

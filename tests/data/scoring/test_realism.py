"""Realism: an unbiased distance to real clips, its bootstrap over prompts, and the verdict."""

import numpy as np
import pytest

from gigavideo_data.scoring import realism

PROMPTS, SEEDS, WIDTH = 24, 2, 12


def features(rng: np.random.Generator, shift: float = 0.0) -> np.ndarray:
    """Clips of PROMPTS x SEEDS; those of one prompt resemble each other."""
    centres = rng.normal(size=(PROMPTS, 1, WIDTH))
    return (centres + 0.5 * rng.normal(size=(PROMPTS, SEEDS, WIDTH)) + shift).reshape(-1, WIDTH)


def labels() -> np.ndarray:
    return np.repeat([f"p{number:02}" for number in range(PROMPTS)], SEEDS)


def compared(seed: int, base: float, tuned: float) -> realism.Realism:
    rng = np.random.default_rng(seed)
    return realism.compare(features(rng, base), features(rng, tuned), features(rng), labels())


def test_the_distance_of_two_samples_of_one_distribution_is_zero_on_average_and_may_be_below() -> None:
    values = np.array([compared(seed, 0.0, 0.0).base.value for seed in range(40)])
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    assert values.min() < 0 < values.max()


def test_a_distribution_that_is_shifted_further_is_further_away() -> None:
    result = compared(0, 0.5, 1.0)
    ends = [result.base.low, result.base.value, result.base.high, result.tuned.low]
    known = [end for end in ends if end is not None]
    assert len(known) == 4
    assert 0 < known[0] < known[1] < known[2] < known[3]


def test_the_value_is_the_mean_over_pairs_of_clips_of_different_prompts() -> None:
    rng = np.random.default_rng(3)
    samples, real, names = features(rng, 0.3)[:6], features(rng)[:6], labels()[:6]
    ours = realism.compare(samples, samples, real, names).base.value
    x, r = realism.standardized(samples, real), realism.standardized(real, real)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / WIDTH + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6) if names[i] != names[j]]
    terms = [kernel(x[i], x[j]) + kernel(r[i], r[j]) - kernel(x[i], r[j]) - kernel(r[i], x[j]) for i, j in pairs]
    assert ours == pytest.approx(np.mean(terms))


def test_the_order_of_the_lines_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    one, other, real = features(rng, 0.2), features(rng, 0.4), features(rng)
    order = rng.permutation(len(one))
    shuffled = realism.compare(one[order], other[order], real[order], labels()[order])
    assert shuffled.excess.low == pytest.approx(realism.compare(one, other, real, labels()).excess.low)


@pytest.mark.parametrize(
    ("base", "tuned", "verdict"),
    [
        (0.6, 0.6, "passed"),  # as far as the base
        (0.6, 0.2, "passed"),  # nearer
        (0.6, 0.9, "failed"),
        (0.0, 0.0, "inconclusive"),  # 1.05 times a distance that may be zero says nothing
        (0.0, 0.6, "failed"),  # further than the base, however near that is
    ],
)
def test_verdicts(base: float, tuned: float, verdict: str) -> None:
    assert compared(5, base, tuned).verdict == verdict


def test_few_prompts_have_a_value_but_no_interval() -> None:
    rng = np.random.default_rng(0)
    base, tuned, real = (features(rng, shift)[:8] for shift in (0.5, 0.5, 0.0))
    result = realism.compare(base, tuned, real, labels()[:8])
    assert result.base.value is not None
    assert (result.base.low, result.excess.high, result.verdict) == (None, None, "inconclusive")
    one = realism.compare(base[:2], tuned[:2], real[:2], labels()[:2])
    assert one.base.value is None  # one prompt has no pair


def test_a_feature_that_real_clips_hardly_vary_in_does_not_decide_alone() -> None:
    real = np.stack([np.linspace(-1, 1, 10), np.full(10, 2.0)], axis=1)
    scaled = realism.standardized(real + np.array([0, 1e-9]), real)
    assert np.abs(scaled).max() < 2

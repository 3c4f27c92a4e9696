import math

import pytest
import torch

from gigavideo_train.losses import flow, objectives


def latents(seed: int, size: int = 3, frames: int = 4) -> torch.Tensor:
    return torch.randn(size, 4, frames, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_losses_are_one_number_per_sample() -> None:
    a, b, sigma = latents(0), latents(1), torch.full((3,), 0.1)
    found = (
        objectives.matching(a, b),
        objectives.kl_gaussian(a, b),
        objectives.kl_moment(a, b, sigma),
        objectives.kl_softmax(a, b, 1.0),
    )
    for loss_B in found:
        assert loss_B.shape == (3,)
        assert loss_B.dtype == torch.float32
        assert (loss_B > 0).all()


@pytest.mark.parametrize("kl", [objectives.kl_gaussian, lambda a, b: objectives.kl_softmax(a, b, 0.5)])
def test_a_perfect_estimate_has_no_divergence(kl) -> None:
    real = latents(0)
    assert torch.allclose(kl(real, real), torch.zeros(3), atol=1e-6)


def test_the_gaussian_reading_of_the_endpoint_is_half_of_flow_matching_on_the_real_clip() -> None:
    real, noise, velocity = latents(0), latents(1), latents(2)
    half = objectives.matching(velocity, flow.target(real, noise)) / 2
    assert torch.allclose(objectives.kl_gaussian(flow.endpoint(velocity, noise), real), half)


def test_the_gaussian_reading_of_tweedie_is_weighted_by_sigma_squared() -> None:
    real, noise, velocity, sigma = latents(0), latents(1), latents(2), torch.tensor([0.2, 0.5, 0.9])
    noisy = flow.interpolate(real, noise, sigma)
    found = objectives.kl_gaussian(flow.tweedie(velocity, noisy, sigma), real)
    assert torch.allclose(found, sigma**2 * objectives.matching(velocity, flow.target(real, noise)) / 2, rtol=1e-4)


def test_the_moment_reading_does_not_care_where_things_are_or_how_long_clips_are() -> None:
    real, sigma = latents(0), torch.full((3,), 0.1)
    moved = real.flatten(2)[:, :, torch.randperm(real[0, 0].numel())].view_as(real)
    assert torch.allclose(objectives.kl_moment(moved, real, sigma), torch.zeros(3), atol=1e-5)
    twice = torch.cat([real, real], 2)
    assert torch.allclose(objectives.kl_moment(twice, real, sigma), torch.zeros(3), atol=1e-5)
    assert (objectives.kl_moment(real + 1, real, sigma) > 0.3).all()


def test_the_moment_reading_is_silent_at_high_sigma_and_finite_for_a_constant_estimate() -> None:
    real = latents(0)
    sigma = torch.tensor([0.29, 0.31, 0.9])
    assert (objectives.kl_moment(real * 2, real, sigma) > 0).tolist() == [True, False, False]
    assert objectives.kl_moment(torch.zeros_like(real), real, torch.zeros(3)).isfinite().all()


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_the_bias_of_the_moment_reading_at_the_analytic_optimum(sigma: float) -> None:
    """For white Gaussian data the best estimate shrinks towards 0, so even a perfect model pays this much."""
    real = latents(0, size=1, frames=200)
    noise = latents(1, size=1, frames=200)
    sigma_B = torch.tensor([sigma])
    noisy = flow.interpolate(real, noise, sigma_B)
    shrink = (1 - sigma) / ((1 - sigma) ** 2 + sigma**2)
    velocity = (noisy - shrink * noisy) / sigma_B  # tweedie of it is E[clean | noisy] = shrink * noisy
    variance = (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
    expected = (variance - math.log(variance) - 1) / 2
    found = objectives.kl_moment(flow.tweedie(velocity, noisy, sigma_B), real, sigma_B)
    assert found.item() == pytest.approx(expected, abs=0.002)
    assert found.item() > 0


def test_the_softmax_reading_has_a_direction_and_ignores_a_constant_per_channel() -> None:
    a, b = latents(0), 3 * latents(1)
    assert not torch.allclose(objectives.kl_softmax(a, b, 1.0), objectives.kl_softmax(b, a, 1.0), rtol=0.05)
    assert torch.allclose(objectives.kl_softmax(a + 5, a, 1.0), torch.zeros(3), atol=1e-5)


def test_preference_starts_at_log_2_and_falls_when_the_winner_gains() -> None:
    error = torch.tensor([0.4, 0.7])
    start = objectives.preference(error, error + 0.1, error, error + 0.1, beta=50.0)
    assert torch.allclose(start, torch.full((2,), math.log(2)))
    better = objectives.preference(error - 0.1, error + 0.1, error, error + 0.1, beta=50.0)
    worse = objectives.preference(error, error, error, error + 0.1, beta=50.0)
    assert (better < start).all()
    assert (worse > start).all()


def test_gradients_pass_through_an_online_reward_but_not_through_an_online_weight() -> None:
    error, reward = torch.tensor([0.4, 0.7]), torch.tensor([0.5, 0.0], requires_grad=True)
    assert not objectives.reweighted(error, reward).requires_grad
    assert objectives.reweighted(error, reward).tolist() == pytest.approx([0.2, 0.0])
    assert objectives.backprop(error, reward, eta=0.1).tolist() == pytest.approx([0.35, 0.7])
    (slope,) = torch.autograd.grad(objectives.backprop(error, reward, eta=0.1).sum(), reward)
    assert slope.tolist() == pytest.approx([-0.1, -0.1])  # minimising it raises the reward

import math

import pytest
import torch

from gigavideo_train.losses import flow, objectives

SCHEDULE = flow.Schedule("logit_normal", mean=0.0, std=1.0, shift=3.0)


def latents(seed: int, size: int = 3) -> torch.Tensor:
    return torch.randn(size, 4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


def test_an_oracle_has_no_loss_in_either_convention() -> None:
    clean, noise, sigma = latents(0), latents(1), torch.tensor([0.05, 0.5, 0.95])
    noisy = flow.interpolate(clean, noise, sigma)
    # The paper: z_t = t z1 + (1 - t) z0, u = v = z1 - z0.
    t = (1 - sigma).view(-1, 1, 1, 1, 1)
    assert torch.allclose(noisy, t * clean + (1 - t) * noise)
    u = clean - noise
    assert torch.allclose(noisy + (1 - t) * u, clean, atol=1e-5)
    # Diffusers: velocity = noise - clean = -u.
    velocity = -u
    assert objectives.matching(velocity, flow.target(clean, noise)).tolist() == [0, 0, 0]
    assert torch.allclose(flow.endpoint(velocity, noise), clean, atol=1e-5)
    assert torch.allclose(flow.tweedie(velocity, noisy, sigma), clean, atol=1e-5)
    # A slip of the sign is no small mistake.
    assert objectives.matching(u, flow.target(clean, noise)).min() > 1


def test_one_euler_step_of_diffusers_with_the_oracle_ends_at_the_clean_latent() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    clean, noise = latents(0), latents(1)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    noisy = noise
    for timestep in scheduler.timesteps:
        noisy = scheduler.step(flow.target(clean, noise), timestep, noisy, return_dict=False)[0]
    assert torch.allclose(noisy, clean, atol=1e-5)


def test_draws_depend_on_seed_epoch_and_name_alone() -> None:
    shape = (2, 3, 4, 4)
    sigma, noise = flow.draws(["a", "b", "c"], shape, 7, 1, SCHEDULE)
    again = flow.draws(["c", "a"], shape, 7, 1, SCHEDULE)
    assert torch.equal(again[0], sigma[[2, 0]])
    assert torch.equal(again[1], noise[[2, 0]])
    for seed, epoch, name in ((8, 1, "a"), (7, 2, "a"), (7, 1, "d")):
        other_sigma, other_noise = flow.draws([name], shape, seed, epoch, SCHEDULE)
        assert other_sigma[0] != sigma[0]
        assert not torch.equal(other_noise[0], noise[0])


def test_noise_is_standard_normal_and_sigma_follows_its_density() -> None:
    names = [str(i) for i in range(2000)]
    sigma, noise = flow.draws(names, (1, 1, 2, 2), 0, 0, SCHEDULE)
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert sigma.median() == pytest.approx(0.75, abs=0.02)  # shift 3 moves 1/2 to 3/4
    uniform, _ = flow.draws(names, (1, 1, 1, 1), 0, 0, flow.Schedule("uniform", 0.0, 1.0, shift=1.0))
    assert uniform.mean() == pytest.approx(0.5, abs=0.03)
    assert uniform.std() == pytest.approx(math.sqrt(1 / 12), abs=0.02)
    assert 0 < uniform.min() < uniform.max() < 1

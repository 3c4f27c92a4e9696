"""The loss of negative-aware fine-tuning: its identities, its gradient, and where repeated rounds end."""

import pytest
import torch

from gigavideo_train.losses import nft


def velocities(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, 2, 5, 5, generator=generator) for _ in range(3)]


def gradient(value_B: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(value_B.sum(), at)
    return found


def squared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().mean((1, 2, 3, 4))


@pytest.mark.parametrize("beta", [0.1, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("a", [-1.0, -0.3, 0.0, 0.7])
def test_it_is_the_distance_to_a_shifted_target_up_to_a_constant(beta: float, a: float) -> None:
    now, old, target = velocities()
    now.requires_grad_()
    advantage = torch.full((3,), a)
    shifted = old + a / beta * (target - old)
    ours = gradient(nft.loss(now, old, target, advantage, beta), now)
    torch.testing.assert_close(ours, gradient(beta * squared(now, shifted), now), atol=1e-6, rtol=1e-4)
    constant = beta * squared(old, shifted)
    torch.testing.assert_close(nft.loss(now, old, target, advantage, beta), beta * squared(now, shifted) - constant)


@pytest.mark.parametrize(("a", "end"), [(1.0, "clip"), (-1.0, "mirror"), (0.0, "old")])
def test_at_beta_1_it_is_fine_tuning_its_mirror_image_or_distillation(a: float, end: str) -> None:
    now, old, target = velocities()
    now.requires_grad_()
    goal = {"clip": target, "mirror": 2 * old - target, "old": old}[end]
    ours = gradient(nft.loss(now, old, target, torch.full((3,), a), 1.0), now)
    torch.testing.assert_close(ours, gradient(squared(now, goal), now), atol=1e-6, rtol=1e-4)


def test_it_weighs_good_and_bad_directions_as_in_the_paper() -> None:
    """R |v+ - v|^2 + (1 - r) |v- - v|^2 with v+- = v_old +- beta d, divided by beta, less |e|^2 / beta."""
    now, old, target = velocities()
    beta, advantage = 0.4, torch.tensor([0.8, 0.0, -0.6])
    r, d = (1 + advantage) / 2, now - old
    paper = (r * squared(old + beta * d, target) + (1 - r) * squared(old - beta * d, target)) / beta
    torch.testing.assert_close(nft.loss(now, old, target, advantage, beta), paper - squared(target, old) / beta)


def test_at_the_start_the_gradient_does_not_depend_on_beta_and_advantages_that_sum_to_zero_cancel() -> None:
    _, old, target = velocities()
    advantage = torch.tensor([0.5, 0.5, -1.0])
    found = []
    for beta in (0.1, 1.0):
        now = old.clone().requires_grad_()
        found.append(gradient(nft.loss(now, old, target, advantage, beta), now))
    torch.testing.assert_close(*found)
    shared = old.clone().requires_grad_()
    common = old + torch.ones_like(old)  # an error that all samples have
    total = gradient(nft.loss(shared, old, common, advantage, 0.3), shared).sum(0)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-6, rtol=0)


def test_the_anchor_bounds_the_distance_to_the_first_model_over_rounds() -> None:
    """On one number: D_k = (beta D_{k-1} + g) / (beta + kappa), which tends to g / kappa."""
    beta, kappa, g = 0.3, 0.1, 0.05
    first = torch.zeros(1, 1, 1, 1, 1)
    old = first.clone()
    expected = 0.0
    for _ in range(30):
        now = old.clone().requires_grad_()
        optimizer = torch.optim.SGD([now], lr=0.5)
        for _ in range(100):
            optimizer.zero_grad()
            value = nft.loss(now, old, old + g, torch.ones(1), beta) + nft.anchor(now, first, kappa)
            value.sum().backward()
            optimizer.step()
        old = now.detach()
        expected = (beta * expected + g) / (beta + kappa)
        assert float(old) == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(g / kappa, rel=0.01)


def test_the_relative_change_is_0_at_the_start() -> None:
    now, old, target = velocities()
    assert not nft.relative_change(old, old, target).any()
    assert (nft.relative_change(now, old, target) > 0).all()

"""The losses of one pass by strategy, on a toy model whose parameter is its velocity."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.data.samples import Sample
from gigavideo_train.losses.flow import interpolate
from gigavideo_train.losses.inputs import Inputs, Noised
from gigavideo_train.losses.losses import Losses, losses
from gigavideo_train.models.base import Condition, Velocity

SHAPE = (2, 3, 2, 4, 4)


def noised(seed: int) -> Noised:
    generator = torch.Generator().manual_seed(seed)
    clean, noise = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    sigma = torch.tensor([0.3, 0.7])
    nothing = torch.zeros(2)
    return Noised(clean, noise, interpolate(clean, noise, sigma), sigma, Condition(nothing, nothing, nothing))


def inputs(advantage: float, weight: float = 1.0, *, pair: bool = False) -> Inputs:
    row: Any = {"id": "one", "source": "twin" if pair else "synthetic", "dimension": None}
    ones = torch.ones(2)
    samples = [Sample(row, row if pair else None)] * 2
    real = noised(1) if pair else None
    return Inputs(samples, True, noised(0), real, None, weight * ones, 2 * ones, 0 * ones, advantage * ones)


def constant(velocity: torch.Tensor) -> Velocity:
    return lambda noisy_BCFHW, *_: velocity + 0 * noisy_BCFHW


def gradient(found: Callable[[Velocity], Losses], at: torch.Tensor) -> torch.Tensor:
    now = at.clone().requires_grad_()
    found(constant(now)).loss_B.sum().backward()
    assert now.grad is not None
    return now.grad


@pytest.fixture
def now() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def old() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize(("advantage", "goal"), [(1.0, "clip"), (-1.0, "mirror"), (0.0, "old")])
def test_nft_at_beta_1_has_the_gradient_of_sft_of_its_mirror_image_or_of_distillation(
    now: torch.Tensor, old: torch.Tensor, advantage: float, goal: str
) -> None:
    config = TrainConfig(strategy="nft", nft_beta=1.0, nft_kappa=0.0)
    ours = gradient(lambda velocity: losses(inputs(advantage), velocity, constant(old), None, config), now)
    clip = noised(0)
    target = clip.noise_BCFHW - clip.clean_BCFHW
    if goal == "clip":
        sft = TrainConfig(strategy="sft")
        expected = gradient(lambda velocity: losses(inputs(advantage), velocity, None, None, sft), now)
    else:
        aim = 2 * old - target if goal == "mirror" else old
        expected = 2 * 2 * (now - aim) / now[0].numel()  # of the mean square, times the scale
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)


def test_a_pair_without_an_advantage_gets_the_gradient_of_its_realism_term_alone(
    now: torch.Tensor, old: torch.Tensor
) -> None:
    config = TrainConfig(strategy="nft")
    ours = gradient(
        lambda velocity: losses(inputs(0.0, weight=0.0, pair=True), velocity, constant(old), None, config), now
    )
    real = noised(1)
    estimate = now + real.clean_BCFHW - real.noise_BCFHW  # half of flow matching on the real clip
    torch.testing.assert_close(ours, 2 * config.lambda_kl * estimate / now[0].numel(), atol=1e-6, rtol=1e-4)


def test_the_anchor_pulls_to_the_first_model_and_takes_a_pass_of_it_only_where_it_is_not_the_old_one(
    now: torch.Tensor, old: torch.Tensor
) -> None:
    config = TrainConfig(strategy="nft", nft_beta=0.3, nft_kappa=0.1)
    calls: list[str] = []
    first = old + 1

    def counted(name: str, velocity: torch.Tensor) -> Velocity:
        def of(noisy_BCFHW: torch.Tensor, *_: object) -> torch.Tensor:
            calls.append(name)
            return velocity + 0 * noisy_BCFHW

        return of

    alone = losses(inputs(0.0), counted("now", now), counted("old", old), None, config)
    assert calls == ["now", "old"]
    assert not alone.distance_B.any()
    calls.clear()
    later = losses(inputs(0.0), counted("now", now), counted("old", old), None, config, counted("first", first))
    assert calls == ["now", "old", "first"]
    assert (later.distance_B > 0).all()
    torch.testing.assert_close(later.change_B, alone.change_B)
    both = gradient(lambda velocity: losses(inputs(0.0), velocity, constant(old), None, config, constant(first)), now)
    expected = 2 * 2 * (0.3 * (now - old) + 0.1 * (now - first)) / now[0].numel()
    torch.testing.assert_close(both, expected, atol=1e-6, rtol=1e-4)

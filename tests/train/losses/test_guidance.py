"""Prompt dropout, and the guided prediction in the loss."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.data.samples import Sample
from gigavideo_train.losses import flow, nft
from gigavideo_train.losses.inputs import VALIDATION_EPOCH, Inputs, Noised
from gigavideo_train.losses.losses import losses
from gigavideo_train.models.base import Condition

SCHEDULE = flow.Schedule("uniform", 0.0, 1.0, 1.0)
W = 3.0


class Texts:
    """Encoded rows whose text embedding is 0 for the empty prompt and 1 for any other."""

    def latents(self, rows: list[dict[str, Any]]) -> torch.Tensor:
        return torch.stack([torch.full((2, 1, 2, 2), float(len(row["id"]))) for row in rows])

    def condition(self, rows: list[dict[str, Any]], device: torch.device) -> Condition:
        text_B = torch.tensor([float(row["prompt"] != "") for row in rows], device=device)
        return Condition(text_B[:, None, None], torch.ones(len(rows), 1, dtype=torch.bool), torch.ones(len(rows)))


def sample(name: str, *, pair: bool = False) -> Sample:
    row: Any = {"id": name, "prompt": f"a prompt of {name}", "fps": 8.0, "source": "twin" if pair else "synthetic"}
    return Sample(row, row | {"id": f"real of {name}"} if pair else None)


def inputs(samples: list[Sample], epoch: int = 0, **settings: Any) -> Inputs:
    encoded: Any = Texts()
    return Inputs.of(samples, epoch, encoded, SCHEDULE, TrainConfig(**settings))


def with_prompt(clip: Noised | None) -> list[bool]:
    assert clip
    return [bool(value) for value in clip.condition.text_BLD.flatten()]


def test_the_share_of_dropped_prompts_is_right_in_every_epoch() -> None:
    for epoch in range(2):
        dropped = sum(flow.drops_prompt(f"sample {number}", 0, epoch, 0.1) for number in range(20_000))
        assert dropped / 20_000 == pytest.approx(0.1, abs=0.01)
    assert not any(flow.drops_prompt(str(number), 0, 0, 0.0) for number in range(1000))


def test_a_prompt_is_dropped_by_seed_epoch_and_id_whatever_the_batch() -> None:
    samples = [sample(f"sample {number}") for number in range(64)]
    found = with_prompt(inputs(samples, prompt_dropout=0.5).clip)
    assert 0 < sum(found) < 64
    assert found == [with_prompt(inputs([each], prompt_dropout=0.5).clip)[0] for each in samples]
    assert found[::-1] == with_prompt(inputs(samples[::-1], prompt_dropout=0.5).clip)
    assert found != with_prompt(inputs(samples, epoch=1, prompt_dropout=0.5).clip)
    assert found != with_prompt(inputs(samples, seed=1, prompt_dropout=0.5).clip)
    assert all(with_prompt(inputs(samples, epoch=VALIDATION_EPOCH, prompt_dropout=0.5).clip))


def test_all_terms_of_a_sample_lose_the_prompt_and_its_noise_stays() -> None:
    pairs = [sample(f"pair {number}", pair=True) for number in range(32)]
    dropped, plain = inputs(pairs, prompt_dropout=0.5), inputs(pairs)
    assert with_prompt(dropped.clip) == with_prompt(dropped.real)
    assert not all(with_prompt(dropped.clip))
    assert torch.equal(dropped.clip.noisy_BCFHW, plain.clip.noisy_BCFHW)


def linear(parameters: torch.Tensor) -> Any:
    """A velocity that is linear in the noisy clip: parameters are factor and constant without and with a prompt."""

    def velocity(noisy_BCFHW: torch.Tensor, _sigma_B: torch.Tensor, condition: Condition) -> torch.Tensor:
        factor_B, constant_B = parameters[condition.text_BLD.flatten().long()].unbind(1)
        return factor_B.view(-1, 1, 1, 1, 1) * noisy_BCFHW + constant_B.view(-1, 1, 1, 1, 1)

    return velocity


START = torch.tensor([[0.4, -0.2], [0.7, 0.1]], dtype=torch.float64)


def doubled(made: Inputs) -> Inputs:
    return made.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def best_fit(clip: Noised) -> torch.Tensor:
    """Factor and constant with the least squared error of the velocity."""
    noisy, target = clip.noisy_BCFHW.flatten(), (clip.noise_BCFHW - clip.clean_BCFHW).flatten()
    return torch.linalg.lstsq(torch.stack([noisy, torch.ones_like(noisy)], 1), target[:, None]).solution.flatten()


def test_the_optimum_of_the_guided_loss_sampled_with_that_guidance_is_the_target() -> None:
    made = doubled(inputs([sample("a" * number) for number in range(1, 9)], loss_guidance=W, lambda_kl=0.0))
    config = TrainConfig(strategy="sft", loss_guidance=W, lambda_kl=0.0)
    parameters = START.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        value = losses(made, linear(parameters), linear(START), None, config).loss_B.sum()
        value.backward()
        return value

    optimizer.step(step)
    guided = START[0] + W * (parameters.detach()[1] - START[0])
    torch.testing.assert_close(guided, best_fit(made.clip), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(parameters.detach()[1], best_fit(made.clip), atol=0.05), "without guidance it is not"


@pytest.mark.parametrize("estimate", ["endpoint", "tweedie"])
def test_the_guided_loss_is_that_of_the_guided_prediction_divided_by_its_square(estimate: str) -> None:
    settings: Any = {"strategy": "sft", "estimate": estimate, "loss_guidance": W}
    made = inputs([sample("a", pair=True), sample("bb", pair=True)], **settings)
    now, start = START.float() + 0.3, START.float()
    found = losses(made, linear(now), linear(start), None, TrainConfig(**settings))

    def guided(noisy: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        empty = condition._replace(text_BLD=torch.zeros_like(condition.text_BLD))
        unconditional = linear(start)(noisy, sigma, empty)
        return unconditional + W * (linear(now)(noisy, sigma, condition) - unconditional)

    plain = losses(made, guided, None, None, TrainConfig(**settings | {"loss_guidance": None}))
    torch.testing.assert_close(found.match_B, plain.match_B / W**2)
    torch.testing.assert_close(found.kl_B, plain.kl_B / W**2)
    torch.testing.assert_close(found.loss_B, plain.loss_B / W**2)


def test_guided_nft_is_nft_of_the_guided_velocities_with_a_smaller_step() -> None:
    advantage_B = torch.tensor([0.8, -0.8])
    samples = [replace(sample("a"), advantage=0.8), replace(sample("bb"), advantage=-0.8)]
    made = inputs(samples, strategy="nft", loss_guidance=W)
    config, start = TrainConfig(strategy="nft", nft_kappa=0.0, loss_guidance=W), START.float()
    now = start + 0.3
    clip = made.clip
    old, new = (linear(values)(clip.noisy_BCFHW, clip.sigma_B, clip.condition) for values in (start, now))
    assert clip.unconditional
    unconditional = linear(start)(clip.noisy_BCFHW, clip.sigma_B, clip.unconditional)
    guided_old, guided_new = (unconditional + W * (each - unconditional) for each in (old, new))
    target = flow.target(clip.clean_BCFHW, clip.noise_BCFHW)
    expected = nft.loss(guided_new, guided_old, target, advantage_B, config.nft_beta) / W**2
    found = losses(made, linear(now), linear(start), None, config).match_B
    torch.testing.assert_close(found, expected)

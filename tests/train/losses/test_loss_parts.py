"""Going back through a pass part by part: the same losses and gradients, with one forward pass alive at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.losses import flow, objectives
from gigavideo_train.losses.inputs import Inputs, Noised
from gigavideo_train.losses.losses import Losses, combined, loss_parts, losses
from gigavideo_train.losses.metrics import sums_of
from gigavideo_train.models.base import Condition
from gigavideo_train.step import backward
from tests.train.losses.test_losses import SHAPE, inputs, noised

CPU = torch.device("cpu")
FLOPS = {torch.Size(SHAPE[1:]): 7}


class Toy(torch.nn.Module):
    """A velocity that is not linear in its weights, and a record of its passes forward and back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(3)))
        self.passes: list[str] = []

    def forward(self, noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, _condition: Condition) -> torch.Tensor:
        velocity = torch.tanh(self.weight * noisy_BCFHW) + sigma_B.view(-1, 1, 1, 1, 1) * self.weight
        self.passes.append("forward")
        if velocity.requires_grad:
            velocity.register_hook(lambda _grad: self.passes.append("back"))
        return velocity


class Scorer:
    """A reward that depends on the estimate in place of a judge."""

    def rewards(self, latents_BCFHW: torch.Tensor, _rows: object) -> tuple[torch.Tensor, torch.Tensor]:
        return latents_BCFHW.sigmoid().flatten(1).mean(1), torch.tensor([True, False])


def old(noisy_BCFHW: torch.Tensor, *_: Any) -> torch.Tensor:
    return 0.3 * noisy_BCFHW


def pair(config: TrainConfig) -> Inputs:
    made = inputs(0.5, weight=0.7, pair=True)
    if config.loss_guidance is None:
        return made
    assert made.real

    def guided(clip: Noised) -> Noised:
        return clip._replace(unconditional=clip.condition)

    return Inputs(**{**vars(made), "clip": guided(made.clip), "real": guided(made.real)})


def found(
    config: TrainConfig, parts_of: Callable[[Inputs, Toy], list[Losses]] | None = None
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Gradient, sums of the metrics, and passes of one step of a pair; by default part by part."""
    toy: Any = Toy()
    scorer: Any = Scorer() if config.online else None
    made = pair(config)
    arguments = (toy, old, scorer, config)
    of = (lambda one: parts_of(one, toy)) if parts_of else (lambda one: loss_parts(one, *arguments))
    sums = backward([made], of, config, FLOPS, CPU)
    return toy.weight.grad, sums, toy.passes


SEPARATE: list[dict[str, Any]] = [
    {"strategy": "reweight"},
    {"strategy": "reweight", "estimate": "tweedie"},
    {"strategy": "reweight", "kl": "softmax"},
    {"strategy": "reweight", "loss_guidance": 3.0},
    {"strategy": "nft"},
    {"strategy": "reweight-online"},
    {"strategy": "backprop-online"},
]


@pytest.mark.parametrize("settings", SEPARATE)
def test_parts_have_the_gradient_and_the_metrics_of_the_whole(settings: dict[str, Any]) -> None:
    config = TrainConfig(batch_size=2, **settings)
    scorer: Any = Scorer() if config.online else None
    by_parts = found(config)
    at_once = found(config, lambda one, toy: [losses(one, toy, old, scorer, config)])
    torch.testing.assert_close(by_parts[0], at_once[0])
    torch.testing.assert_close(by_parts[1], at_once[1])
    assert by_parts[0].abs().max() > 0


@pytest.mark.parametrize("settings", SEPARATE)
def test_each_forward_pass_is_gone_back_through_before_the_next_one(settings: dict[str, Any]) -> None:
    passes = found(TrainConfig(batch_size=2, **settings))[2]
    if settings["strategy"] == "reweight-online":  # its reward is a pass without gradients, which weights the first
        assert passes == ["forward", "forward", "back", "forward", "back"]
    else:
        assert passes == ["forward", "back"] * (3 if settings["strategy"] == "backprop-online" else 2)


def test_the_moment_form_and_dpo_are_one_part() -> None:
    moment = TrainConfig(kl="moment")
    assert len(list(loss_parts(inputs(0.0, pair=True), Toy(), old, None, moment))) == 1
    made = inputs(0.0)
    compared = Inputs(**{**vars(made), "loser": noised(5)})
    toy = Toy()
    (part,) = loss_parts(compared, toy, old, None, TrainConfig(strategy="dpo"))
    assert toy.passes == ["forward", "forward"], "the loss is not a sum over the two passes"
    assert part.forwards == {torch.Size(SHAPE[1:]): 4}


def test_the_loss_of_a_pair_is_equation_5() -> None:
    config = TrainConfig(batch_size=2)
    made, toy = inputs(0.0, weight=0.7, pair=True), Toy()
    assert made.real
    clip, real = made.clip, made.real
    match_B = objectives.matching(toy(*clip[2:5]), flow.target(*clip[:2]))
    kl_B = objectives.kl_gaussian(flow.endpoint(toy(*real[2:5]), real.noise_BCFHW), real.clean_BCFHW)
    expected_B = 2 * (0.7 * match_B + config.lambda_kl * kl_B)
    whole = combined(loss_parts(made, toy, old, None, config))
    torch.testing.assert_close(whole.loss_B, expected_B)
    (expected,) = torch.autograd.grad(expected_B.sum() / 2, toy.weight)
    torch.testing.assert_close(found(config)[0], expected)
    assert sums_of(whole, made, FLOPS)[0] == pytest.approx(float(expected_B.detach().sum()))

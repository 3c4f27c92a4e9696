"""The validation loss."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gigavideo_train import plan
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.dataset import read
from gigavideo_train.data.encode import EncodedRows
from gigavideo_train.data.samples import held_out
from gigavideo_train.distributed.world import World
from gigavideo_train.losses import flow
from gigavideo_train.losses.inputs import VALIDATION_EPOCH
from gigavideo_train.models import wan
from gigavideo_train.models.loading import load_pipeline
from gigavideo_train.monitoring.validation import ValidationSchedule
from tests.e2e.test_train import arguments, losses, metrics, run, same, weights
from tests.support.ranks import run_together
from tests.support.train_set import row, rows, training_set

pytestmark = pytest.mark.timeout(600)


def validating(made: list[Any]) -> list[Any]:
    return [each | {"split": "validation"} for each in made]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held out are two kept rows, one with too low a reward, and a pair."""
    out = [row(51, reward=0.9), row(52, reward=0.6), row(53, reward=0.1), row(54, "twin"), row(54, "real")]
    return training_set(tmp_path_factory.mktemp("held-out") / "set", [*rows(), *validating(out)])


@pytest.fixture(scope="module")
def reference(dataset: Path) -> Path:
    out = dataset.parent / "reference"
    facts = run(dataset, out, validate_every="3")
    assert (facts["kept"], facts["held_out"]) == (7, 3)
    return out


def validation_losses(out: Path) -> dict[int, float]:
    return {line["step"]: line["held_out"] for line in metrics(out) if "held_out" in line}


def test_the_validation_loss_is_measured_before_between_and_after_steps_and_changes_none(
    dataset: Path, reference: Path, tmp_path: Path
) -> None:
    assert list(validation_losses(reference)) == [0, 3, 6, 8]
    assert len(set(validation_losses(reference).values())) == 4
    found = validation_losses(reference)
    card = (reference / "model" / "README.md").read_text()
    assert f"| validation loss | {found[0]:.4g} before the first step, {found[8]:.4g} after the last |" in card
    run(dataset, tmp_path / "never", validate_every="null")
    assert validation_losses(tmp_path / "never") == {}
    assert losses(tmp_path / "never") == losses(reference)
    assert same(weights(tmp_path / "never"), weights(reference))


def test_a_resumed_run_and_two_processes_measure_the_same_validation_loss(
    dataset: Path, reference: Path, tmp_path: Path
) -> None:
    run(dataset, tmp_path / "cut", validate_every="3", max_steps="3")
    run(dataset, tmp_path / "cut", "--resume", validate_every="3")
    assert validation_losses(tmp_path / "cut") == validation_losses(reference)
    run_together(2, arguments(dataset, tmp_path / "two", validate_every="3"))
    assert validation_losses(tmp_path / "two") == pytest.approx(validation_losses(reference), rel=1e-4)


def test_the_validation_loss_uses_the_noise_of_each_row(tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set", [row(1), *validating([row(2)])])
    run(dataset, tmp_path / "out")
    planned = plan.make(read(dataset), None, None, [])
    pipeline, tensors = (
        load_pipeline(planned.model_folder),
        EncodedRows.open(
            planned.model_folder,
            planned.profile.max_tokens,
            planned.latents,
            tmp_path / "latents",
            World(0, 1, torch.device("cpu")),
        ),
    )
    held = [sample.row for sample in planned.held_out]
    clean = tensors.latents(held)
    schedule = flow.Schedule("logit_normal", 0.0, planned.config.logit_std, planned.shift)
    sigma_B, noise = flow.draws([held[0]["id"]], clean.shape[1:], 0, VALIDATION_EPOCH, schedule)
    with torch.inference_mode():
        noisy = flow.interpolate(clean, noise, sigma_B)
        conditioning = tensors.condition(held, torch.device("cpu"))
        error = wan.velocity(pipeline, pipeline.transformer, noisy, sigma_B, conditioning) - (noise - clean)
    assert validation_losses(tmp_path / "out")[0] == pytest.approx(float(error.square().mean()), rel=1e-4)


def test_with_an_ema_the_validation_loss_is_that_of_the_ema(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "ema", ema="0.9", max_steps="3")
    run(dataset, tmp_path / "plain", ema="null", max_steps="3")
    assert losses(tmp_path / "ema") == losses(tmp_path / "plain")
    assert validation_losses(tmp_path / "ema")[0] == validation_losses(tmp_path / "plain")[0]
    assert validation_losses(tmp_path / "ema")[3] != validation_losses(tmp_path / "plain")[3]


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def validated(total: int, every: int, share: float | None, step_s: float, validation_s: float) -> list[int]:
    """The steps after which a run validates whose first step compiles."""
    clock = Clock()
    found: list[int] = []
    schedule = ValidationSchedule(total, 0, share, clock)

    def validate(step: int) -> None:
        found.append(step)
        schedule.measure(step, lambda: clock.passes(validation_s))

    validate(0)
    for step in range(1, total + 1):
        schedule.add_step(60 * step_s if step == 1 else step_s)
        if (step % every == 0 or step == total) and schedule.allows(step):
            validate(step)
    return found


def test_validations_take_at_most_their_share_of_the_run_and_are_spread_over_it() -> None:
    found = validated(1000, 100, share=0.01, step_s=1.0, validation_s=2.0)
    assert found == [0, 300, 600, 800, 1000]
    assert 2.0 * len(found) <= 0.01 * 1000
    assert validated(1000, 100, share=0.01, step_s=1.0, validation_s=0.5) == list(range(0, 1001, 100))
    for validation_s in (0.7, 1.1, 3.0):
        assert validation_s * len(validated(1000, 50, 0.01, 1.0, validation_s)) <= 0.01 * 1100
    assert validated(1000, 100, share=0.01, step_s=1.0, validation_s=50.0) == [0, 1000], "always the first and the last"
    assert validated(300, 100, share=None, step_s=1.0, validation_s=50.0) == [0, 100, 200, 300]


def test_a_resumed_run_measures_the_time_of_its_first_validation() -> None:
    clock = Clock()
    schedule = ValidationSchedule(1000, 500, 0.01, clock)
    schedule.add_step(1.0)
    assert schedule.allows(600)
    schedule.measure(600, lambda: clock.passes(10.0))
    schedule.add_step(1.0)
    assert not schedule.allows(700)


def test_a_run_leaves_validations_out_that_take_too_much_of_its_time(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "run", validate_every="3", validate_share="1e-9")
    assert list(validation_losses(tmp_path / "run")) == [0, 8]


def test_validation_samples_are_selected_and_weighted_among_themselves() -> None:
    made = [row(1, reward=0.9), row(2, reward=0.6), row(3, reward=0.1), row(4, "twin"), row(4, "real")]
    config = TrainConfig()
    samples = held_out(made, ["mechanics"], config)
    assert {sample.row["id"]: sample.weight for sample in samples} == pytest.approx(
        {made[0]["id"]: 1.2, made[1]["id"]: 0.8, made[3]["id"]: 1.0}
    )
    assert [sample.scale for sample in samples if sample.branch == "pr"] == [1.5]
    assert held_out([], ["mechanics"], config) == []
    few = held_out(made[::-1], ["mechanics"], config.model_copy(update={"validate_samples": 2}))
    assert [sample.id for sample in few] == [sample.id for sample in samples][:2]

"""Runs of the miniature with guidance in the loss, and without some prompts."""

from pathlib import Path

import pytest

from tests.e2e.test_train import losses, metrics, run
from tests.support.train_set import row, training_set

pytestmark = pytest.mark.timeout(600)
ONE_STEP = {"strategy": "sft", "max_steps": "1", "validate_every": "null"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [row(1), row(2), row(20, "twin"), row(20, "real")]
    return training_set(tmp_path_factory.mktemp("guided") / "set", made)


def test_the_unconditional_velocity_is_that_of_the_start_model_with_all_weights_and_with_an_adapter(
    dataset: Path, tmp_path: Path
) -> None:
    settings = ONE_STEP | {"max_steps": "3", "batch_size": "1"}
    run(dataset, tmp_path / "plain", **settings)
    for tune in ("full", "lora"):
        run(dataset, tmp_path / tune, tune=tune, loss_guidance="3", **settings)
    first = [metrics(tmp_path / name)[0]["match"] for name in ("plain", "full", "lora")]
    assert first[1] == pytest.approx(first[2], rel=1e-5)
    assert first[0] != pytest.approx(first[1], rel=1e-3)


def test_a_guidance_of_1_is_the_plain_loss(dataset: Path, tmp_path: Path) -> None:
    for name, guidance in (("plain", "null"), ("guided", "1")):
        run(dataset, tmp_path / name, loss_guidance=guidance, **ONE_STEP)
    assert losses(tmp_path / "guided") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


def test_a_prompt_that_is_dropped_changes_the_loss(dataset: Path, tmp_path: Path) -> None:
    for name, share in (("plain", "0"), ("dropped", "0.99")):
        run(dataset, tmp_path / name, prompt_dropout=share, **ONE_STEP)
    assert losses(tmp_path / "plain") != pytest.approx(losses(tmp_path / "dropped"), rel=1e-4)

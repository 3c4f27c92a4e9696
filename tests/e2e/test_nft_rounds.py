"""The second round of `nft`: the start is what the first round published, v_old a frozen copy of it, v_ref the base."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline

from gigavideo_data.models.generators.profiles import lineage_of, model_folder
from tests.e2e.test_train import arguments, losses, metrics, refused, run, weights
from tests.support.ranks import run_together
from tests.support.train_set import generated_by, row, training_set

pytestmark = pytest.mark.timeout(600)
NFT = ("--strategy", "nft")
SHORT = {"epochs": "2", "validate_every": "null", "ema": "0.5"}


def rows() -> list[dict]:
    return [row(seed, reward=reward, prompt=40) for seed, reward in ((1, 0.1), (2, 0.9), (3, 0.4))]


@pytest.fixture(scope="module", params=["lora", "full"])
def first_round(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """How weights are tuned, and the folder of the first round's run."""
    root = tmp_path_factory.mktemp(request.param)
    dataset = training_set(root / "set", generated_by(rows()))
    run(dataset, root / "round1", *NFT, tune=request.param, **SHORT)
    return request.param, root / "round1"


def second_round(first_round: tuple[str, Path], folder: Path) -> tuple[Path, list[str], dict[str, str]]:
    """Its dataset, with flags and settings that start from the first round's model."""
    tune, earlier = first_round
    model = str(earlier / "model")
    if tune == "lora":
        made = generated_by(rows(), adapter=Path(model))
        return training_set(folder / "set", made), [*NFT, "--adapter", model], SHORT | {"tune": "lora"}
    settings = SHORT | {"anchor_model": str(model_folder("miniature"))}
    return training_set(folder / "set", generated_by(rows(), model)), [*NFT, "--model", model], settings


def test_it_starts_at_the_old_model_and_measures_the_distance_to_the_first(
    first_round: tuple[str, Path], tmp_path: Path
) -> None:
    dataset, flags, settings = second_round(first_round, tmp_path)
    run(dataset, tmp_path / "round2", *flags, **settings)
    first, *_, last = metrics(tmp_path / "round2")
    assert first["relative_change"] == 0.0, "bitwise"
    assert first["distance_to_first"] > 0
    assert last["relative_change"] > 0


def test_two_processes_compute_the_steps_of_one(first_round: tuple[str, Path], tmp_path: Path) -> None:
    dataset, flags, settings = second_round(first_round, tmp_path)
    run(dataset, tmp_path / "alone", *flags, **settings)
    run_together(2, arguments(dataset, tmp_path / "two", *flags, **settings))
    first = metrics(tmp_path / "two")[0]
    assert first["relative_change"] == 0.0, "bitwise"
    assert first["distance_to_first"] == pytest.approx(metrics(tmp_path / "alone")[0]["distance_to_first"], rel=1e-3)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "alone"), rel=1e-3, abs=1e-6)


def test_the_published_model_has_the_averaged_weights_and_starts_a_third_round(
    first_round: tuple[str, Path], tmp_path: Path
) -> None:
    tune, earlier = first_round
    dataset, flags, settings = second_round(first_round, tmp_path)
    run(dataset, tmp_path / "round2", *flags, **settings)
    published, average = tmp_path / "round2" / "model", weights(tmp_path / "round2")
    before = weights(earlier)
    assert {name for name in average if name.startswith("ema.")} == {name for name in before if name.startswith("ema.")}
    if tune == "lora":
        pipeline = WanPipeline.from_pretrained(model_folder("miniature"), dtype=torch.float32)
        pipeline.load_lora_weights(published, adapter_name="default")
    else:
        pipeline = WanPipeline.from_pretrained(published, dtype=torch.float32)
    loaded = dict(pipeline.transformer.named_parameters())
    for name, tensor in average.items():
        if name.startswith("ema."):
            assert torch.equal(loaded[name.removeprefix("ema.")], tensor), name
    dataset, flags, settings = second_round((tune, tmp_path / "round2"), tmp_path / "third")
    run(dataset, tmp_path / "round3", *flags, **settings)
    assert metrics(tmp_path / "round3")[0]["relative_change"] == 0.0
    card = (tmp_path / "round3" / "model" / "README.md").read_text()
    assert ("continued adapter" if tune == "lora" else "anchored to") in card
    lineage = ["miniature"] if tune == "lora" else ["model", "model", "miniature"]
    assert lineage_of(tmp_path / "round3" / "model") == lineage


def test_an_interrupted_round_resumes_from_the_same_old_model(first_round: tuple[str, Path], tmp_path: Path) -> None:
    dataset, flags, settings = second_round(first_round, tmp_path)
    run(dataset, tmp_path / "whole", *flags, **settings)
    run(dataset, tmp_path / "cut", *flags, **settings, max_steps="1")
    run(dataset, tmp_path / "cut", *flags, "--resume", **settings)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    other = [flag for flag in flags if flag not in ("--adapter", "--model", str(first_round[1] / "model"))]
    assert "must start from the model that generated the videos" in refused(
        dataset, tmp_path / "cut", *other, "--model", "miniature", "--resume", **settings
    )
    state = json.loads(max((tmp_path / "cut" / "checkpoints").glob("*/state.json")).read_text())
    assert ("adapter" if first_round[0] == "lora" else "first_model") in state["facts"]

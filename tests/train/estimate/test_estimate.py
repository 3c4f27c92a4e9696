"""The estimate of a run's memory, on pipelines of the genuine classes that are small."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from typer.testing import CliRunner

from gigavideo_data.errors import RecipeError
from gigavideo_train import api
from gigavideo_train import plan as planning
from gigavideo_train.cli import app
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.dataset import read
from gigavideo_train.distributed.world import World
from gigavideo_train.estimate import fit
from gigavideo_train.estimate.configured import configured_pipeline
from gigavideo_train.estimate.estimate import Unit, training_bytes
from gigavideo_train.estimate.live import Live
from gigavideo_train.losses import objectives
from tests.support import genuine_configs
from tests.support.train_set import row, training_set

CLIP = (17, 256, 256)
PLAIN = Unit(CLIP, 2, 24)
Needed = Callable[..., dict[str, int]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return genuine_configs.write(genuine_configs.SMALL, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def needed(folder: Path) -> Needed:
    """Bytes of training by part."""

    def of(settings: dict[str, Any], unit: Unit = PLAIN, processes: int = 1) -> dict[str, int]:
        return training_bytes(folder, TrainConfig(**settings), unit, processes)

    return of


@pytest.fixture(scope="module")
def plain(needed: Needed) -> dict[str, int]:
    return needed({"ema": 0.9})


def test_live_counts_storages_not_tensors_and_remembers_the_fullest_moment() -> None:
    with FakeTensorMode(), Live({"weights": 0.5}) as live:
        weights = torch.empty(1024, dtype=torch.float32)
        live.label([weights], "weights")
        live.start("step")
        kept = torch.empty(100, dtype=torch.uint8)
        _view = kept.view(10, 10)
        gone = kept.clone()
        del gone
        _later = torch.empty(1, dtype=torch.uint8)
    assert live.peaks["step"] == {"weights": 2048, "activations": 1024}, "512 bytes each, of two at once"


def test_states_are_those_of_float32_training_with_adamw(folder: Path, plain: dict[str, int]) -> None:
    size = 4 * sum(p.numel() for p in configured_pipeline(folder).transformer.parameters())
    assert plain["weights"] == pytest.approx(size, rel=0.1)
    assert plain["optimizer"] == pytest.approx(2 * size, rel=0.1)
    assert plain["average"] == pytest.approx(size, rel=0.1)


def test_what_keeps_fewer_tensors_needs_less(needed: Needed, plain: dict[str, int]) -> None:
    selective, full = (needed({"checkpointing": mode})["activations"] for mode in ("selective", "full"))
    assert full < 0.95 * selective < 0.9 * plain["activations"]
    lora = needed({"tune": "lora"})
    assert lora["optimizer"] < 0.5 * plain["optimizer"]
    assert lora["weights"] > plain["weights"]


def test_a_pair_keeps_the_activations_of_one_clip_and_dpo_of_two(needed: Needed, plain: dict[str, int]) -> None:
    assert needed({}, replace(PLAIN, real=CLIP))["activations"] < 1.1 * plain["activations"]
    dpo = needed({"strategy": "dpo"}, replace(PLAIN, loser=CLIP))
    assert dpo["activations"] > 1.6 * plain["activations"]
    assert 0.4 * plain["weights"] < dpo["references"] < 0.9 * plain["weights"], "the frozen copy is in bfloat16"


def test_the_second_pass_of_a_step_finds_the_gradients_of_the_first(needed: Needed, plain: dict[str, int]) -> None:
    twice = needed({"ema": 0.9}, replace(PLAIN, passes=3))
    added = sum(twice.values()) - sum(plain.values())
    assert added == pytest.approx(plain["weights"], rel=0.1)


def test_processes_share_the_states_and_offload_leaves_none(needed: Needed, plain: dict[str, int]) -> None:
    shared = needed({}, processes=4)
    assert shared["optimizer"] == pytest.approx(plain["optimizer"] / 4, rel=0.2)
    assert shared["weights"] == pytest.approx(plain["weights"] / 4, rel=0.2)
    assert shared["gathered"] > 0
    assert not needed({"offload": True}).keys() & {"weights", "optimizer", "gradients"}


def test_going_back_through_the_decoder_keeps_its_activations(needed: Needed) -> None:
    judged, backward = (needed({"strategy": f"{name}-online"}) for name in ("reweight", "backprop"))
    assert backward["activations"] > 2 * judged["activations"]
    assert backward["autoencoder"] > 0


def test_a_step_that_reads_a_value_from_the_gpu_is_found(needed: Needed, monkeypatch: pytest.MonkeyPatch) -> None:
    matching = objectives.matching

    def reads(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        error_B = matching(predicted, target)
        assert error_B.sum().item() >= 0
        return error_B

    monkeypatch.setattr(objectives, "matching", reads)
    with pytest.raises(DataDependentOutputException):
        needed({})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [row(seed, reward=0.9) for seed in (1, 2)] + [row(20, "twin", num_frames=9), row(20, "real", num_frames=17)]
    return training_set(tmp_path_factory.mktemp("estimate") / "set", made)


Planned = Callable[..., planning.Plan]


@pytest.fixture
def planned(dataset: Path) -> Planned:
    return lambda *settings, **named: planning.make(read(dataset), None, None, list(settings), **named)


def test_the_largest_pass_is_that_of_the_largest_clip(planned: Planned) -> None:
    plan = planned("batch_size=3", processes=2)
    largest = Unit((9, 48, 48), 2, 24, (17, 48, 48))
    assert fit.unit_of(plan, plan.config) == largest
    in_two = plan.config.model_copy(update={"micro_batch": 1})
    assert fit.unit_of(plan, in_two) == replace(largest, number=1, passes=2)


def test_a_run_that_does_not_fit_is_refused_with_what_fits(
    planned: Planned, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "CONTEXT", 0)
    plan = replace(planned(), model_folder=folder, profile=replace(planned().profile, max_tokens=24))
    for sample in plan.samples:
        sample.row["height"] = sample.row["width"] = 256
    estimated = fit.estimate_plan(plan)
    enough = round(max(map(estimated.peak, estimated.stages)) / fit.USABLE) + 1
    fit.check(plan, estimated, enough)
    training_alone = replace(estimated, stages={"training": estimated.stages["training"]})
    with pytest.raises(
        RecipeError, match=r"training: .* are needed \(estimated\).*This fits: .*checkpointing=selective"
    ):
        fit.check(plan, training_alone, round(0.9 * estimated.peak("training")))


def test_a_dry_run_for_a_named_gpu_shows_the_estimate_part_by_part(dataset: Path) -> None:
    options = ["--dataset", str(dataset), "--dry-run", "--gpu", "h100"]
    shown = CliRunner().invoke(app, options, catch_exceptions=False).stdout
    assert "Estimated GPU memory" in shown
    assert "training  optimizer" in shown
    facts = json.loads(CliRunner().invoke(app, [*options, "--json"], catch_exceptions=False).stdout)
    parts = facts["estimate"]["stages"]["training"]
    assert parts.pop("total") == sum(parts.values())
    assert facts["memory"] is None, "the miniature has a preset of its own"


def test_a_dry_run_for_a_gpu_that_is_too_small_ends_with_a_usage_error(dataset: Path) -> None:
    arguments = ["--dataset", str(dataset), "--dry-run", "--gpu", "1"]
    with pytest.raises(RecipeError, match=r"prompts: .* use a larger GPU") as caught:
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--gpu", "tpu", "--dry-run"], "--gpu tpu: name one of"), (["--gpu", "h100"], "for --dry-run")],
)
def test_a_gpu_is_named_for_a_dry_run_and_by_a_known_name(dataset: Path, flags: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        CliRunner().invoke(app, ["--dataset", str(dataset), *flags], catch_exceptions=False)


def test_the_miniature_is_estimated_only_for_a_named_gpu(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "estimate_plan", lambda _plan: pytest.fail("the miniature's dry run must stay fast"))
    assert CliRunner().invoke(app, ["--dataset", str(dataset), "--dry-run"], catch_exceptions=False).exit_code == 0


def test_another_model_is_estimated_in_every_dry_run_and_refused_on_a_gpu_before_it_is_loaded(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MODEL_PRESETS", {})  # as for a model without settings of its own
    options = ["--dataset", str(dataset), "--json"]
    facts = json.loads(CliRunner().invoke(app, [*options, "--dry-run"], catch_exceptions=False).stdout)
    assert facts["estimate"]["parameters"] > 1e5
    peak = max(stage["total"] for stage in facts["estimate"]["stages"].values())
    monkeypatch.setattr(World, "memory_bytes", lambda _world: peak)
    monkeypatch.setattr(api, "run_plan", lambda *_args, **_named: pytest.fail("it would be loaded"))
    with pytest.raises(RecipeError, match="of GPU memory are needed"):
        CliRunner().invoke(app, options, catch_exceptions=False)

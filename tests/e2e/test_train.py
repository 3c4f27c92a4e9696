"""The trainer from the command line, on rendered clips: exactness, resume, refusals, and the tuned model."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import checkpoint
from typer.testing import CliRunner

from gigavideo_data.commands.evaluation.output import SCORES
from gigavideo_data.errors import GigaVideoError
from gigavideo_data.models.generators.profiles import Base, model_folder, profile_of, recorded_base, trained_on
from gigavideo_train.cli import app
from tests.data.dataset.test_verify import replace_rows
from tests.support.forked import Forked
from tests.support.rows import write_set
from tests.support.train_set import row, rows, training_set

pytestmark = pytest.mark.timeout(600)
SMALL = {
    "batch_size": "4",
    "epochs": "2",
    "lr": "1e-3",
    "warmup_steps": "0",
    "decay": "none",
    "validate_share": "null",  # how many validations are done must not depend on the time
}
STEPS = 8  # an epoch: four and one synthetic rows, and two pairs of different shapes


def arguments(dataset: Path, out: Path, *flags: str, **settings: str) -> list[str]:
    options = [part for key, value in (SMALL | settings).items() for part in ("--set", f"{key}={value}")]
    cache = ("--cache", str(dataset.parent / "latents"))
    return ["--dataset", str(dataset), "--out", str(out), *cache, "--json", *flags, *options]


def run(dataset: Path, out: Path, *flags: str, **settings: str) -> dict:
    """Train in this process and return the printed JSON."""
    result = CliRunner().invoke(app, arguments(dataset, out, *flags, **settings), catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def start(
    dataset: Path, out: Path, *flags: str, launcher: tuple[str, ...] = (), **settings: str
) -> subprocess.Popen[str] | Forked:
    """Train in a process of its own, or in those of a launcher."""
    asked = arguments(dataset, out, *flags, **settings)
    if not launcher:
        return Forked("gv-train", asked, os.environ)
    command = [sys.executable, *launcher, "-m", "gigavideo_train", *asked]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in metrics(out) if line["step"]]  # step 0 has a held-out loss only


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Those of the newest checkpoint, whatever number of processes wrote it."""
    reader = checkpoint.HuggingFaceStorageReader(str(max((out / "checkpoints").glob("step-*"))))
    entries = reader.read_metadata().state_dict_metadata.items()
    state = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in entries}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        checkpoint.load(state, storage_reader=reader, no_dist=True)
    return state


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_set(tmp_path_factory.mktemp("train") / "set")


@pytest.fixture(scope="module")
def reference(dataset: Path) -> Path:
    """One uninterrupted run."""
    out = dataset.parent / "reference"
    run(dataset, out)
    return out


def test_a_run_is_logged_step_by_step(reference: Path) -> None:
    lines = metrics(reference)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["epoch"] for line in lines} == {0, 1}
    for line in lines:
        assert {"loss", "match", "kl", "s_per_step", "mean_weight", "effective_size", "lr", "grad_norm"} < line.keys()
        assert line["model_tflops"] > 0
        assert any(line["match_by_sigma"].values())
        levels = [value for value in line["match_by_source"].values() if value is not None]
        assert min(levels) - 1e-6 <= line["match"] <= max(levels) + 1e-6
    assert any(line["kl"] > 0 for line in lines)


def test_the_learning_rate_rises_over_the_warm_up_and_decays_to_the_last_step(dataset: Path, tmp_path: Path) -> None:
    settings = {"warmup_steps": "2", "decay": "linear", "lr": "6e-4"}
    run(dataset, tmp_path / "run", **settings)
    assert [line["lr"] for line in metrics(tmp_path / "run")] == pytest.approx(
        [2e-4, 4e-4, 6e-4, 5e-4, 4e-4, 3e-4, 2e-4, 1e-4]
    )
    # Another length would have had other rates from the start.
    assert "config.epochs was 2, is 3" in refused(dataset, tmp_path / "run", "--resume", **(settings | {"epochs": "3"}))


def test_the_tuned_model_loads_with_plain_diffusers_and_differs_from_the_base(reference: Path) -> None:
    from diffusers import WanPipeline

    tuned = reference / "model"
    assert not [p for p in tuned.rglob("*.json") if str(model_folder("miniature").parent) in p.read_text()]
    pipeline = WanPipeline.from_pretrained(tuned, dtype=torch.float32)
    base = WanPipeline.from_pretrained(model_folder("miniature"), dtype=torch.float32)
    changed = [
        not torch.equal(a, b)
        for a, b in zip(pipeline.transformer.parameters(), base.transformer.parameters(), strict=True)
    ]
    assert sum(changed) > len(changed) * 0.9
    latents = pipeline(
        "a red circle", height=48, width=48, num_frames=5, num_inference_steps=2, output_type="latent",
        max_sequence_length=24, generator=torch.Generator().manual_seed(0),
    ).frames  # fmt: skip
    assert torch.isfinite(latents).all()
    assert profile_of(str(tuned)).name == "miniature"
    assert trained_on(tuned) == ["mechanics"]
    assert recorded_base(tuned) == Base("miniature")
    card = (tuned / "README.md").read_text()
    assert "0123456789abcdef" in card  # the recipe's hash
    assert str(reference) not in card
    assert all(mark in card for mark in SCORES)  # where gv-data eval writes
    assert not list(tuned.rglob("*.bin"))
    assert "](curves.svg)" in card
    assert "<polyline" in (tuned / "curves.svg").read_text()


def test_the_same_command_gives_the_same_weights(dataset: Path, reference: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "again")
    assert losses(tmp_path / "again") == losses(reference)
    assert same(weights(tmp_path / "again"), weights(reference))


def test_resume_goes_on_exactly(dataset: Path, reference: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "cut", max_steps="3")
    assert len(losses(tmp_path / "cut")) == 3
    run(dataset, tmp_path / "cut", "--resume")
    assert losses(tmp_path / "cut") == losses(reference)
    assert same(weights(tmp_path / "cut"), weights(reference))


def test_resume_goes_back_over_a_damaged_checkpoint(dataset: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    run(dataset, out, max_steps="3", checkpoint_every="1")
    newest = out / "checkpoints" / "step-00000003" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    result = CliRunner().invoke(app, arguments(dataset, out, "--resume"), catch_exceptions=False)
    assert "step-00000003 is damaged" in " ".join(result.stderr.split())
    assert losses(out) == losses(reference)
    assert same(weights(out), weights(reference))


def test_kill_9_at_any_moment_leaves_a_checkpoint_that_goes_on_exactly(
    dataset: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = start(dataset, out, checkpoint_every="1")
    wait_for(process, out / "checkpoints", "step-*2")
    process.send_signal(signal.SIGKILL)
    process.wait()
    (out / "checkpoints" / ".part-00000099").mkdir()  # as a kill in the middle of a checkpoint leaves it
    assert weights(out)
    resumed = start(dataset, out, "--resume", checkpoint_every="1")
    _, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    alone = start(dataset, tmp_path / "alone", checkpoint_every="1")  # same threads as the killed one
    assert alone.wait(300) == 0
    assert losses(out) == losses(tmp_path / "alone")
    assert same(weights(out), weights(tmp_path / "alone"))
    assert losses(out) == pytest.approx(losses(reference), rel=1e-4)
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == [f"step-{len(losses(out)) - 1:08}", f"step-{len(losses(out)):08}"]


def wait_for(process: subprocess.Popen[str] | Forked, folder: Path, pattern: str) -> None:
    """Wait until a file exists, or the process has ended."""
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_compute_what_one_does(dataset: Path, reference: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start(dataset, tmp_path / "two", "--cache", str(tmp_path / "latents"), launcher=launcher)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    encoded = sorted((tmp_path / "latents").rglob("*.safetensors"))
    assert len(encoded) == 8 + 7, "clips and prompts of what is kept; one clip is twin and real one"
    for path in encoded:
        alone = dataset.parent / "latents" / path.relative_to(tmp_path / "latents")
        torch.testing.assert_close(load_file(path)["x"], load_file(alone)["x"])
    assert losses(tmp_path / "two") == pytest.approx(losses(reference), rel=1e-4)
    # AdamW takes steps of one size, even along gradients that are rounding noise, so single weights may differ.
    ours, theirs = weights(tmp_path / "two"), weights(reference)
    base = load_file(model_folder("miniature") / "transformer" / "diffusion_pytorch_model.safetensors")
    apart = sum(float((ours[f"weight.{name}"] - theirs[f"weight.{name}"]).abs().sum()) for name in base)
    moved = sum(float((theirs[f"weight.{name}"] - base[name].float()).abs().sum()) for name in base)
    assert apart < 0.01 * moved


def test_lora_leaves_an_adapter_that_diffusers_loads_with_its_metadata(dataset: Path, tmp_path: Path) -> None:
    from diffusers import WanPipeline
    from safetensors import safe_open

    run(dataset, tmp_path / "lora", tune="lora", lora_rank="4", lora_alpha="8")
    adapter = tmp_path / "lora" / "model"
    (file,) = adapter.glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["lora_adapter_metadata"])["transformer.lora_alpha"] == 8
    pipeline = WanPipeline.from_pretrained(model_folder("miniature"), dtype=torch.float32)
    inputs = {"hidden_states": torch.ones(1, 8, 2, 12, 12), "timestep": torch.tensor([500.0])}
    inputs["encoder_hidden_states"] = torch.ones(1, 24, 96)
    with torch.inference_mode():
        before = pipeline.transformer(**inputs).sample
        pipeline.load_lora_weights(adapter)
        after = pipeline.transformer(**inputs).sample
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_preference_training_starts_at_log_2(tmp_path: Path, tune: str) -> None:
    made = [row(1, reward=0.2, prompt=40), row(2, reward=0.9, prompt=40), row(3, reward=0.1, prompt=40)]
    dataset = training_set(tmp_path / "set", made)
    run(dataset, tmp_path / "dpo", "--strategy", "dpo", tune=tune, epochs="4")
    found = [line["match"] for line in metrics(tmp_path / "dpo")]
    assert found[0] == pytest.approx(np.log(2), abs=1e-4)
    assert found[-1] < found[0]


@pytest.mark.parametrize("settings", [{"kl": "moment"}, {"kl": "softmax"}, {"estimate": "tweedie"}, {"lambda_kl": "0"}])
def test_every_reading_of_the_realism_term_trains(dataset: Path, tmp_path: Path, settings: dict[str, str]) -> None:
    run(dataset, tmp_path / "out", epochs="1", **settings)
    assert all(np.isfinite(losses(tmp_path / "out")))


def test_a_golden_loss(tmp_path: Path) -> None:
    """A refactoring that means to change nothing must keep it; so must the base, the seed and the order."""
    dataset = training_set(tmp_path / "set", [row(1), row(2)])
    run(dataset, tmp_path / "out", epochs="1", lr="1e-6")
    assert losses(tmp_path / "out") == pytest.approx([GOLDEN], rel=1e-3)


GOLDEN = 0.30953


def test_a_dry_run_reports_the_plan_and_writes_nothing(dataset: Path, tmp_path: Path) -> None:
    facts = run(dataset, tmp_path / "out", "--dry-run")
    assert facts["kept"] == 7
    assert {(u["source"], u["dimension"]): u["kept"] for u in facts["samples"]} == {
        ("synthetic", "mechanics"): 5,
        ("twin", "captions"): 2,
    }
    assert sum(facts["weights"]["histogram"]) == 7
    assert facts["passes_per_epoch"] == 9
    assert facts["steps"] == STEPS
    assert not (tmp_path / "out").exists()


def test_a_preset_for_a_gpus_memory_is_printed_and_without_a_gpu_none_is_chosen(dataset: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(dataset, tmp_path / "out", "--dry-run", "--preset", "24"))
    assert "preset for 24 GB of GPU memory: tune lora, checkpointing full, micro_batch 1" in result.stderr
    assert json.loads(result.stdout)["config"]["tune"] == "lora"
    assert run(dataset, tmp_path / "out", "--dry-run")["memory"] is None
    assert "presets for 24, 48, 80, 141 GB" in refused(dataset, tmp_path / "out", "--preset", "30")


def refused(dataset: Path, out: Path, *flags: str, **settings: str) -> str:
    with pytest.raises(GigaVideoError) as caught:
        CliRunner().invoke(app, arguments(dataset, out, *flags, **settings), catch_exceptions=False)
    return str(caught.value)


def test_what_cannot_be_trained_is_refused_before_the_first_step(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no manifest.json" in refused(tmp_path, out)
    assert "'composition'" in refused(dataset, out, "--dimensions", "composition")
    zeros = training_set(tmp_path / "zeros", [row(1, reward=0.0), row(2, reward=0.0)])
    assert "nothing to train on" in refused(zeros, out)
    empty = write_set(tmp_path / "empty", [{**each, "split": "validation"} for each in rows()])
    assert "train is empty" in refused(empty, out)
    assert "lr" in refused(dataset, out, lr="-1")
    assert "did you mean 'epochs'" in refused(dataset, out, epoch="1")
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "HunyuanVideoPipeline"}')
    assert "HunyuanVideoPipeline cannot be trained yet" in refused(dataset, out, "--model", str(other))
    assert not out.exists()


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1])
def test_a_reward_outside_0_to_1_is_refused(tmp_path: Path, value: float) -> None:
    dataset = training_set(tmp_path / "set")
    made = rows()
    made[-2]["rewards"] = [{"dimension": "mechanics", "value": value, "status": "scored", "reason": None}]
    replace_rows(dataset, made)
    assert "breaks the contract" in refused(dataset, tmp_path / "out")


@pytest.mark.parametrize("prompt", ["", " \n", "a ball\0falls"])
def test_a_prompt_that_says_nothing_is_refused(tmp_path: Path, prompt: str) -> None:
    dataset = training_set(tmp_path / "set")
    replace_rows(dataset, [rows()[0] | {"prompt": prompt}, *rows()[1:]])
    assert f"{rows()[0]['id']}: prompt " in refused(dataset, tmp_path / "out", "--dry-run")


def test_a_run_does_not_go_on_with_another_dataset_or_other_settings(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "out", max_steps="1")
    assert "--resume continues" in refused(dataset, tmp_path / "out")
    assert "another run: config.lr was 0.001, is 0.002." in refused(dataset, tmp_path / "out", "--resume", lr="2e-3")
    changed = training_set(tmp_path / "changed", [*rows(), row(9)])
    assert "dataset was" in refused(changed, tmp_path / "out", "--resume")
    assert len(losses(tmp_path / "out")) == 1


def test_non_finite_values_never_reach_the_weights(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(dataset, out, max_steps="1")
    before = weights(out)
    cache = tmp_path / "poisoned"
    poison_cache(dataset.parent / "latents", cache)
    options = arguments(dataset, out, "--resume")
    options[options.index("--cache") + 1] = str(cache)
    with pytest.raises(GigaVideoError, match=r"not both finite; .* 3 times in a row"):
        CliRunner().invoke(app, options, catch_exceptions=False)
    assert same(weights(out), before)


def poison_cache(source: Path, to: Path) -> None:
    from safetensors.torch import save_file

    for path in source.rglob("*.safetensors"):
        target = to / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file({"x": load_file(path)["x"] * float("nan")}, target)


def test_help_is_instant() -> None:
    import importlib.util

    code = "import sys; from gigavideo_train.cli import app; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
    assert importlib.util.find_spec("torch")

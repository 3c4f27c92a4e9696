"""Runs with values that are not finite, stopped runs and resumed runs end with the result of an undisturbed one."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gigavideo_data.errors import RunError
from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_train.distributed.signals import Stop
from tests.e2e.test_train import losses, metrics, refused, run, same, start, wait_for, weights
from tests.support.train_set import row, training_set

pytestmark = pytest.mark.timeout(600)
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_set(tmp_path_factory.mktemp("trust") / "set")


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same set, beside a cache in which one clip is not finite: one step of four in an epoch meets it."""
    made = training_set(tmp_path_factory.mktemp("poisoned") / "set")
    run(made, made.parent / "first", max_steps="1")
    clip = next(path for path in sorted((made.parent / "latents").rglob("*")) if is_clip(path))
    save_file({"x": load_file(clip)["x"] * float("nan")}, clip)
    return made


def is_clip(path: Path) -> bool:
    return path.suffix == ".safetensors" and load_file(path)["x"].ndim == 4


def base() -> dict[str, torch.Tensor]:
    """The weights before training."""
    stored = load_file(model_folder("miniature") / "transformer" / "diffusion_pytorch_model.safetensors")
    return {name: tensor.float() for name, tensor in stored.items()}


def steps_kept(out: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (out / "checkpoints").iterdir())


def test_a_step_that_is_not_finite_is_skipped_and_counted_and_a_resumed_run_agrees(
    poisoned: Path, tmp_path: Path
) -> None:
    run(poisoned, tmp_path / "whole")
    found = metrics(tmp_path / "whole")
    at = [line["step"] for line in found if line["loss"] is None]
    assert len(at) == 2, "once in each epoch"
    assert [line["skipped"] for line in found] == [sum(step <= line["step"] for step in at) for line in found]
    assert all(line["grad_norm"] is None for line in found if line["step"] in at)
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "whole").values())
    for cut in (at[0], at[0] + 1):
        run(poisoned, tmp_path / f"cut {cut}", max_steps=str(cut))
        run(poisoned, tmp_path / f"cut {cut}", "--resume")
        assert losses(tmp_path / f"cut {cut}") == losses(tmp_path / "whole")
        assert same(weights(tmp_path / f"cut {cut}"), weights(tmp_path / "whole"))


def test_skipped_steps_leave_the_weights_and_too_many_in_a_row_end_the_run(tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set", [row(1)])
    run(dataset, tmp_path / "first", max_steps="1")
    for path in filter(is_clip, sorted((tmp_path / "latents").rglob("*"))):
        save_file({"x": load_file(path)["x"] * float("inf")}, path)
    out = tmp_path / "out"
    run(dataset, out, max_steps="2", epochs="9", ema="null")
    assert same(weights(out), {f"weight.{name}": tensor for name, tensor in base().items()})
    with pytest.raises(RunError, match=r"step 3: .* are not both finite; .* 3 times in a row"):
        run(dataset, out, "--resume", epochs="9", ema="null")
    assert [line["skipped"] for line in metrics(out)] == [1, 2, 3]
    with pytest.raises(RunError, match="1 times in a row"):
        run(dataset, tmp_path / "strict", epochs="9", max_skips="1")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_keeps_its_last_step_and_goes_on_exactly(
    dataset: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    out = tmp_path / "stopped"
    process = start(dataset, out, epochs="1000", max_steps="4000", checkpoint_every="2")
    wait_for(process, out / "checkpoints", "step-*6")
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    done = len(losses(out))
    assert f"stopped after step {done} of 4000; --resume continues" in said
    assert steps_kept(out)[-1] == done
    assert len(steps_kept(out)) == 2
    assert not (out / "model").exists()
    for path, flags in ((out, ["--resume"]), (tmp_path / "alone", [])):
        assert start(dataset, path, *flags, epochs="1000", max_steps=str(done + 2)).wait(300) == 0
    assert losses(out) == losses(tmp_path / "alone")
    assert same(weights(out), weights(tmp_path / "alone"))


@pytest.mark.parametrize(("launcher", "flags", "codes"), [(TWO, [], {1, 130}), ((), ["--processes", "2"], {130})])
def test_two_processes_stop_after_the_same_step(
    dataset: Path, tmp_path: Path, launcher: tuple[str, ...], flags: list[str], codes: set[int]
) -> None:
    out = tmp_path / "two"
    process = start(dataset, out, *flags, launcher=launcher, epochs="1000", checkpoint_every="2")
    wait_for(process, out / "checkpoints", "step-*2")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode in codes, said
    assert f"stopped after step {len(losses(out))} of" in said
    assert steps_kept(out)[-1] == len(losses(out))


def test_the_second_ctrl_c_ends_a_run_at_once() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_a_resumed_preference_run_keeps_its_first_reference(tmp_path: Path, tune: str) -> None:
    made = [row(1, reward=0.2, prompt=40), row(2, reward=0.9, prompt=40)]
    dataset = training_set(tmp_path / "set", made)
    settings = {"strategy": "dpo", "tune": tune, "epochs": "4"}
    run(dataset, tmp_path / "whole", **settings)
    run(dataset, tmp_path / "cut", **settings, max_steps="2")
    run(dataset, tmp_path / "cut", "--resume", **settings)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_changed_run_is_resumed_only_on_request_and_reports_the_change(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(dataset, out, max_steps="2")
    before = losses(out)
    changed = training_set(tmp_path / "changed", [row(1), row(2)])
    said = refused(changed, out, "--resume", lambda_kl="0.1", lr="2e-3")
    for what in (
        "config.lambda_kl was 0.3, is 0.1",
        "config.lr was 0.001, is 0.002",
        "dataset was",
        "--resume-changed",
    ):
        assert what in said
    assert "config.seed" not in said
    process = start(changed, out, "--resume-changed", lambda_kl="0.1", lr="2e-3", epochs="4")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "config.lr was 0.001, is 0.002" in said
    assert losses(out)[:2] == before
    assert [line["lr"] for line in metrics(out)] == [1e-3, 1e-3, 2e-3, 2e-3]
    other = refused(dataset, tmp_path / "out", "--resume-changed", tune="lora")
    assert "other weights were trained" in other


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_a_mean_of_the_weights_becomes_the_model_and_goes_on_exactly(tmp_path: Path, tune: str) -> None:
    dataset = training_set(tmp_path / "set", [row(1)])
    settings = {"tune": tune, "lora_rank": "4", "epochs": "4"}
    for steps in (1, 2, 3):
        run(dataset, tmp_path / f"{steps}", **settings, max_steps=str(steps))
    run(dataset, tmp_path / "ema", **settings, max_steps="2", ema="0.2")
    run(dataset, tmp_path / "ema", "--resume", **settings, max_steps="3", ema="0.2")
    run(dataset, tmp_path / "whole", **settings, max_steps="3", ema="0.2")
    assert same(weights(tmp_path / "ema"), weights(tmp_path / "whole"))
    found = weights(tmp_path / "ema")
    taken = [weights(tmp_path / f"{steps}") for steps in (1, 2, 3)]
    for name in (name.removeprefix("ema.") for name in found if name.startswith("ema.")):
        at = f"weight.{name}"
        assert torch.equal(found[at], taken[-1][at]), "the steps are those of a run without a mean"
        if tune == "full":
            mean = base()[name]
            for decay, after in zip((2 / 11, 0.2, 0.2), taken, strict=True):
                mean = decay * mean + (1 - decay) * after[at]
            torch.testing.assert_close(found[f"ema.{name}"], mean)
    if tune == "full":
        model = load_file(tmp_path / "ema" / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
        assert same(model, {name: found[f"ema.{name}"] for name in model})
    else:
        (adapter,) = (load_file(path) for path in (tmp_path / "ema" / "model").glob("*.safetensors"))
        assert {tensor.sum().item() for tensor in adapter.values()} == {
            tensor.sum().item() for name, tensor in found.items() if name.startswith("ema.")
        }

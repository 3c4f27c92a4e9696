"""One run on any number of processes, in any number of passes, with less memory: the same steps."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_train.cli import app
from gigavideo_train.models import blocks
from tests.support.ranks import run_together
from tests.support.train_set import row, training_set

pytestmark = pytest.mark.timeout(600)
SMALL = {"batch_size": "4", "epochs": "2", "lr": "1e-4", "warmup_steps": "0", "decay": "none"}


def arguments(dataset: Path, out: Path, *flags: str, **settings: str) -> list[str]:
    options = [part for key, value in (SMALL | settings).items() for part in ("--set", f"{key}={value}")]
    cache = ("--cache", str(dataset.parent / "latents"))
    return ["--dataset", str(dataset), "--out", str(out), *cache, *flags, *options]


def run(dataset: Path, out: Path, size: int, /, *flags: str, **settings: str) -> list[dict]:
    """Train in `size` processes; the steps so far."""
    if size > 1:
        run_together(size, arguments(dataset, out, *flags, **settings))
    else:
        CliRunner().invoke(app, arguments(dataset, out, *flags, **settings), catch_exceptions=False)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def agree(found: list[dict], alone: list[dict], rel: float = 1e-4) -> bool:
    """Whether two runs made the same steps within float tolerance."""
    assert len(found) == len(alone)
    return all(
        [step[name] for step in found] == pytest.approx([step[name] for step in alone], rel=rel, abs=1e-7)
        for name in ("loss", "match", "kl", "grad_norm")
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_set(tmp_path_factory.mktemp("scale") / "set")


@pytest.fixture(scope="module")
def alone(dataset: Path) -> list[dict]:
    """One process, uninterrupted, each batch in one pass."""
    return run(dataset, dataset.parent / "alone", 1)


@pytest.mark.slow
def test_the_number_of_processes_may_change_when_a_run_is_resumed(
    dataset: Path, alone: list[dict], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(dataset, out, 1, max_steps="2")
    run(dataset, out, 2, "--resume", max_steps="4")
    run(dataset, out, 4, "--resume", max_steps="6")
    found = run(dataset, out, 1, "--resume")
    assert agree(found, alone)
    tuned = WanPipeline.from_pretrained(out / "model", dtype=torch.float32).transformer.state_dict()
    whole = WanPipeline.from_pretrained(dataset.parent / "alone" / "model", dtype=torch.float32).transformer
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(tuned[name], weight, atol=2e-4, rtol=0)  # two steps of AdamW along rounding noise


@pytest.mark.parametrize("settings", [{"tune": "full"}, {"tune": "lora", "lora_rank": "4"}])
def test_more_processes_than_samples_compute_the_steps_of_one_and_write_the_complete_model(
    dataset: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    few = {"batch_size": "1", "epochs": "1", "max_steps": "4"} | settings
    expected = run(dataset, tmp_path / "alone", 1, **few)
    found = run(dataset, tmp_path / "run", 3, checkpointing="selective", **few)
    assert agree(found, expected)
    assert [step["model_tflops"] > 0 for step in found] == [True] * 4
    (ours, theirs) = (sizes(tmp_path / name / "model") for name in ("run", "alone"))
    assert ours == theirs


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.rglob("*.safetensors")}


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch": "1"},
        {"micro_batch": "3", "checkpointing": "selective"},
        {"checkpointing": "full"},
        {"checkpointing": "matmuls"},
        {"offload": "true"},
        {"offload": "true", "checkpointing": "selective"},
    ],
)
def test_what_saves_memory_changes_no_step(
    dataset: Path, alone: list[dict], tmp_path: Path, settings: dict[str, str]
) -> None:
    shutil.copytree(dataset.parent / "alone", tmp_path / "run")  # none of these is another run
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert agree(run(dataset, tmp_path / "run", 1, "--resume", **settings), alone)


@pytest.mark.slow
def test_the_ema_of_sharded_weights_is_validated_and_saved_as_that_of_unsharded_ones(tmp_path: Path) -> None:
    held = [row(number) | {"split": "validation"} for number in (51, 52, 53)]
    dataset = training_set(tmp_path / "set", [row(1), row(2), row(3), row(4), *held])
    settings = {"ema": "0.9", "batch_size": "2", "epochs": "3", "lr": "1e-3", "validate_every": "2"}
    settings["validate_share"] = "null"  # validate_every steps are kept, however long a validation takes
    expected = run(dataset, tmp_path / "alone", 1, **settings)
    run(dataset, tmp_path / "run", 2, max_steps="3", **settings)
    found = run(dataset, tmp_path / "run", 3, "--resume", **settings)
    assert agree(found[1:], expected[1:])
    for name in ("held_out", "grad_norm"):
        ours, theirs = ([step[name] for step in steps if name in step] for steps in (found, expected))
        assert ours[:2] == pytest.approx(theirs[:2], rel=1e-4)
        assert ours[-1] == pytest.approx(theirs[-1], rel=1e-3)
    ours, theirs = (
        WanPipeline.from_pretrained(tmp_path / name / "model", dtype=torch.float32).transformer.state_dict()
        for name in ("run", "alone")
    )
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=5e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_compiled_blocks_make_the_same_steps(tmp_path: Path, size: int) -> None:
    dataset = training_set(tmp_path / "set", [row(1), row(2), row(3), row(4)])
    # Two clips in a pass of each process: what one has compiled, others find on the disk.
    settings = {"epochs": str(size), "batch_size": str(2 * size), "checkpointing": "selective"}
    expected = run(dataset, tmp_path / "alone", 1, **settings)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = run(dataset, tmp_path / "run", size, compile_blocks="true", **settings)
    if size == 1:
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "blocks went on uncompiled"
    assert agree(found, expected)
    assert [step["model_tflops"] * step["s_per_step"] for step in found] == pytest.approx(
        [step["model_tflops"] * step["s_per_step"] for step in expected]
    )


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_preferences_are_learned_by_several_processes(tmp_path: Path, tune: str) -> None:
    made = [row(1, reward=0.2, prompt=40), row(2, reward=0.9, prompt=40), row(3, reward=0.1, prompt=40)]
    dataset = training_set(tmp_path / "set", made)
    settings = {"strategy": "dpo", "tune": tune, "batch_size": "1"}
    expected = run(dataset, tmp_path / "alone", 1, **settings)
    assert agree(run(dataset, tmp_path / "run", 2, **settings), expected, rel=1e-3)


def test_the_reference_of_preferences_is_the_base_also_when_a_run_goes_on(tmp_path: Path) -> None:
    made = [row(1, reward=0.2, prompt=40), row(2, reward=0.9, prompt=40), row(3, reward=0.1, prompt=40)]
    dataset = training_set(tmp_path / "set", made)
    settings = {"strategy": "dpo", "batch_size": "1", "epochs": "3"}
    expected = run(dataset, tmp_path / "alone", 1, **settings)
    run(dataset, tmp_path / "cut", 1, max_steps="2", **settings)
    assert run(dataset, tmp_path / "cut", 1, "--resume", **settings)[-1]["loss"] == expected[-1]["loss"]


class Computed(TorchDispatchMode):
    """Counts forward calls of attention kernels, and products of linear layers."""

    attention = products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.attention += func in blocks.ATTENTION_OPS
        self.products += func in blocks.MATMUL_OPS
        return func(*args, **(kwargs or {}))


@pytest.mark.slow  # it compiles
def test_attention_on_a_cpu_is_counted_and_counting_leaves_nothing_behind() -> None:
    query = torch.randn(2, 3, 16, 8)
    with blocks.count_flops() as counter:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == 2 * 2 * (2 * 3 * 16 * 16 * 8)  # two products, a multiplication and an addition
    block = torch.nn.Linear(4, 4)
    blocks.compile_blocks([block])
    torch._dynamo.utils.counters.clear()
    with blocks.count_flops():
        block(torch.ones(1, 4))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
    block(torch.ones(1, 4))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(
    ("mode", "attention", "products"),
    [("none", 1, False), ("matmuls", 1, False), ("selective", 1, True), ("full", 2, True)],
)
def test_checkpointing_computes_again_what_it_does_not_keep(mode: str, attention: int, *, products: bool) -> None:
    def gradients(mode: str) -> tuple[list[torch.Tensor], Computed]:
        model = WanTransformer3DModel.from_pretrained(model_folder("miniature") / "transformer", dtype=torch.float32)
        blocks.checkpoint_activations(model.blocks, mode)
        inputs = {"hidden_states": torch.ones(1, 8, 2, 12, 12), "timestep": torch.tensor([500.0])}
        with Computed() as computed:
            model(**inputs, encoder_hidden_states=torch.ones(1, 24, 96)).sample.square().mean().backward()
        return [p.grad for p in model.parameters() if p.grad is not None], computed

    expected, once = gradients("none")
    found, counted = gradients(mode)
    assert counted.attention == attention * once.attention
    assert (counted.products > once.products) == products
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)

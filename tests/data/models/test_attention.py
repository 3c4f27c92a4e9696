"""The choice of attention kernels: the fastest one that is right is used, and the choice is kept."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gigavideo_data.models import attention
from gigavideo_data.models.attention import MATH, Choice, Shape, Trial, choose, rank, run_kernel, use_kernels

CPU = torch.device("cpu")
SELF, CROSS = Shape(2, 64, 64, 8), Shape(2, 64, 16, 8, masked=True)
RIGHT = [torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(number)) for number in range(4)]


def changed(at: int, change: float) -> list[torch.Tensor]:
    """The right results with one of them multiplied; by NaN, not finite."""
    return [tensor * change if number == at else tensor for number, tensor in enumerate(RIGHT)]


def kernels(**trials: Trial | Exception) -> tuple[list[str], Callable[[str, Shape], Trial]]:
    """Fake kernels with the same result at every shape."""

    def run(name: str, _: Shape) -> Trial:
        trial = trials[name]
        if isinstance(trial, Exception):
            raise trial
        return trial

    return list(trials), run


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (changed(2, torch.nan), "dk not finite at 64 x 64 tokens"),
        (changed(0, 1.1), "no other kernel agrees at 64 x 64 tokens"),
        (changed(1, 0.9), "no other kernel agrees at 64 x 64 tokens"),
    ],
)
def test_a_wrong_kernel_is_refused_however_fast_it_is(wrong: list[torch.Tensor], why: str) -> None:
    names, run = kernels(cudnn=Trial(wrong, 1.0), efficient=Trial(RIGHT, 3.0), flash=Trial(changed(3, 1.002), 2.0))
    choice = rank(names, [SELF], run)
    assert choice == Choice(["flash", "efficient"], {"cudnn": why})
    assert choice.note.startswith("attention kernel: flash, ")
    assert f"cudnn is not used: {why}" in choice.note


def test_a_kernel_that_does_not_run_is_left_out_and_one_alone_is_not_trusted() -> None:
    missing = RuntimeError("no kernel image is available")
    names, run = kernels(cudnn=missing, flash=Trial(RIGHT, 2.0), efficient=Trial(RIGHT, 1.0))
    assert rank(names, [SELF], run) == Choice(["efficient", "flash"], {})
    names, run = kernels(cudnn=missing, flash=Trial(RIGHT, 2.0))
    alone = rank(names, [SELF], run)
    assert alone.order == []
    assert "torch's own choice" in alone.note


def test_a_kernel_must_be_right_at_every_shape_at_which_it_runs() -> None:
    def run(name: str, shape: Shape) -> Trial:
        if name == "flash" and shape.masked:
            raise RuntimeError("does not take a mask")
        wrong = name == "cudnn" and shape.masked
        seconds = {"cudnn": 1.0, "flash": 2.0, "efficient": 3.0, MATH: 0.1}[name]
        return Trial(changed(1, torch.nan) if wrong else RIGHT, seconds)

    found = rank(["cudnn", "flash", "efficient", MATH], [SELF, CROSS], run)
    assert found == Choice(["flash", "efficient"], {"cudnn": "dq not finite at 64 x 16 tokens with a mask"})


def test_of_two_flash_kernels_the_faster_one_is_used() -> None:
    for flash_3, expected in ((1.0, ["flash3", "efficient"]), (5.0, ["flash", "efficient"])):
        names, run = kernels(flash3=Trial(RIGHT, flash_3), flash=Trial(RIGHT, 2.0), efficient=Trial(RIGHT, 9.0))
        assert rank(names, [SELF], run).order == expected


def test_running_out_of_memory_is_no_verdict() -> None:
    names, run = kernels(cudnn=torch.OutOfMemoryError("out"), flash=Trial(RIGHT, 1.0))
    with pytest.raises(torch.OutOfMemoryError):
        rank(names, [SELF], run)


@pytest.mark.parametrize("shape", [SELF, CROSS])
def test_a_kernel_is_run_forward_and_backward_and_refuses_where_it_cannot_run(shape: Shape) -> None:
    math, flash = (run_kernel(name, shape, CPU) for name in (MATH, "flash"))
    assert math.seconds > 0
    assert [tuple(tensor.shape) for tensor in math.results] == [(1, 2, 64, 8), (1, 2, 64, 8)] + 2 * [
        (1, 2, shape.num_keys, 8)
    ]
    assert rank([MATH, "flash"], [shape], lambda name, _: {MATH: math, "flash": flash}[name]).order == ["flash"]
    for missing in ("cudnn", "flash3"):
        with pytest.raises(RuntimeError):
            run_kernel(missing, shape, CPU)
    with pytest.raises(RuntimeError, match="too much memory"):
        run_kernel(MATH, Shape(64, 32_760, 32_760, 8), CPU)


def test_inputs_that_no_kernel_supports_are_still_computed() -> None:
    query = torch.randn(1, 2, 16, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    for order in (["cudnn", "efficient"], []):
        with use_kernels(order):
            torch.testing.assert_close(torch.nn.functional.scaled_dot_product_attention(query, query, query), expected)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A GPU whose kernels are fakes; the names of those that ran."""
    ran: list[str] = []

    def run(name: str, *_: object) -> Trial:
        ran.append(name)
        return Trial(RIGHT, float(len(name)))

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(attention, "run_kernel", run)
    return ran


def test_a_choice_is_kept_for_this_gpu_this_torch_and_these_shapes(
    gpu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, device = tmp_path / "cache" / "attention.json", torch.device("cuda", 0)
    first = choose([SELF], device, file)
    assert first.order == ["cudnn", "flash", "efficient"], "by the time that the fakes state; of the flash kernels one"
    for number, (shapes, where) in enumerate([([SELF], 0), ([SELF, CROSS], 0), ([SELF], 1)]):
        gpu.clear()
        choose(shapes, torch.device("cuda", where), file)
        assert bool(gpu) == (number > 0)
    monkeypatch.setattr(torch, "__version__", "9.9")
    gpu.clear()
    choose([SELF], device, file)
    assert gpu
    (tmp_path / "flash_attn_interface.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    gpu.clear()
    choose([SELF], device, file)
    assert gpu, "FlashAttention 3 may have been installed"
    assert len(json.loads(file.read_text())) == 5


@pytest.mark.parametrize("content", [None, "", "[]", "{", '"text"', '{"KEY": {"order": ["unknown"], "refused": {}}}'])
def test_a_missing_or_damaged_file_of_choices_is_written_anew(gpu: list[str], tmp_path: Path, content: str) -> None:
    file, device = tmp_path / "attention.json", torch.device("cuda", 0)
    expected = choose([SELF], device, tmp_path / "other.json")
    (key,) = json.loads((tmp_path / "other.json").read_text())
    if content is not None:
        file.write_text(content.replace("KEY", key))
    gpu.clear()
    assert choose([SELF], device, file) == expected
    assert gpu
    assert key in json.loads(file.read_text())


@pytest.mark.usefixtures("gpu")
def test_a_choice_that_cannot_be_written_is_used_nevertheless(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert choose([SELF], torch.device("cuda", 0), tmp_path / "file" / "attention.json").order


def test_torch_chooses_on_a_processor(gpu: list[str], tmp_path: Path) -> None:
    assert choose([SELF], CPU, tmp_path / "attention.json") == Choice([], {})
    assert not gpu
    assert not list(tmp_path.iterdir())

"""The GPU benchmark without a GPU: what it refuses, what it reports, and every section on the smallest models."""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as main
from benchmarks.gpu import measure, report
from benchmarks.gpu.kernels import reference
from benchmarks.gpu.measure import Figure, Recorder
from benchmarks.gpu.sections import SECTIONS, Section, find

ROOT = Path(__file__).parents[2]
MACHINE = {
    "python": "3.12.3",
    "versions": {"torch": "2.11.0"},
    "missing": [],
    "gpus": 1,
    "gpu": "NVIDIA H200",
    "memory_gb": 150.0,
    "cuda": "13.0",
    "driver": "580.1",
}


def benchmark(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=timeout
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes 0: must be above 0"),
        (["--minutes", "nan"], "--minutes nan: must be above 0"),
        (["--only", "training,speed"], "no section 'speed'; there are 1 or ceilings"),
        (["--latents", "nowhere"], "there is no dataset"),
        (["--out", "file/out"], "cannot be written (Not a directory)"),
        (["--device", "cpu"], "add --tiny"),
    ],
)
def test_wrong_arguments_are_refused_with_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["benchmark", "--out", "out", *arguments])
    monkeypatch.setattr(main, "_probe", lambda: MACHINE | {"gpus": 0})
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = benchmark("--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("python -m benchmarks.gpu: no GPU is visible to torch; --device cpu --tiny tries")


def test_sections_fit_in_the_order_of_their_value() -> None:
    assert main._fitting(SECTIONS, 45) == [SECTIONS[0]]
    assert [section.number for section in main._fitting(SECTIONS, 60)] == [1, 2]
    assert find("3") is find("training")
    assert sorted(section.number for section in SECTIONS) == list(range(1, 11))


def test_the_reference_of_attention_is_torchs_own_arithmetic() -> None:
    query, key, value = (torch.randn(n, 8, requires_grad=True) for n in (5, 7, 7))
    slope = torch.randn(5, 8)
    output = torch.nn.functional.scaled_dot_product_attention(query[None], key[None], value[None])[0]
    output.backward(slope)
    expected = (output, query.grad, key.grad, value.grad)
    for ours, theirs in zip(reference(query, key, value, slope), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_warm_up_is_kept_apart_and_ratios_have_a_control(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(measure, "once", lambda run, _device: run())  # a call returns its seconds
    seconds = iter([30.0, 5.0, 1.0, 3.0, 2.0])
    timing = measure.timed(lambda: next(seconds), cpu, 3, 60.0)
    assert timing == measure.Timing(30.0, Figure(2.0, 1.0, 3.0, 3))
    baseline = iter([9.0, *[1.0, 2.0] * 3])
    ratio, control = measure.compared(lambda: 3.0, lambda: next(baseline), cpu, 3)
    assert ratio == Figure(2.0, 2.0, 2.0, 3)
    assert control == Figure(2.0, 2.0, 2.0, 3)


def test_a_call_is_timed_by_the_clock_on_a_cpu() -> None:
    assert measure.once(lambda: time.sleep(0.01), torch.device("cpu")) >= 0.01


def test_figures_become_a_page_and_rates_and_what_is_not_measured_is_left_out(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    report.begin(results, MACHINE, "2026-11-26", "python -m benchmarks.gpu", trial=False)
    record = Recorder(results, "training")
    record.figure("full, selective, compiled, synthetic, a pass", Figure(1.9, 1.8, 2.1, 8), "s", goal_s=2.0)
    record.note("lora, full, compiled, pair", "out of memory")
    Recorder(results, "synthesis").figure("compiled, a clip of 50 steps", 60.0, "s", calculated=True)
    with results.open("a") as file:
        file.write('{"section": "judge", "na')  # a section that was ended while it wrote
    report.write(tmp_path)
    page = (tmp_path / "gpu.md").read_text()
    assert "| full, selective, compiled, synthetic, a pass | 1.9 s | 1.8 to 2.1 | goal_s 2 |" in page
    assert "- lora, full, compiled, pair: out of memory" in page
    assert "| compiled, a clip of 50 steps | 60 s |  | *calculated* |" in page
    assert "NVIDIA H200 (150 GB), driver 580.1, CUDA 13.0" in page
    rates = json.loads((tmp_path / "gpu_rates.json").read_text())
    assert rates["rates"].keys() == {"training_pass_s", "synthesis_clip_s"}
    assert rates["rates"]["synthesis_clip_s"]["calculated"]
    assert rates["machine"] == MACHINE


def test_of_a_section_that_ran_again_the_last_run_with_figures_counts(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    for number in (1, 2, 3):
        report.begin(results, MACHINE, "2026-11-26", f"python -m benchmarks.gpu --minutes {number}", trial=False)
        Recorder(results, "ceilings").figure("matmul, bfloat16", 700.0 + number, "TFLOP/s")
        if number < 3:
            Recorder(results, "judge").figure("one clip, 8 questions", float(number), "s")
        Recorder(results, "judge").note("section", f"ended in run {number}")
        with results.open("a") as file:
            file.write('{"section": "judge", "na')  # it was ended while it wrote
    runs = report.read(results)
    assert {name: run.number for name, run in report.latest(runs).items()} == {"ceilings": 3, "judge": 2}
    assert {key: rate["value"] for key, rate in report.rates(runs)["rates"].items()} == {
        "matmul_tflops": 703.0,
        "judge_clip_s": 2.0,
    }
    page = report.markdown(runs)
    assert page.count("On NVIDIA H200") == 1
    assert "3. `python -m benchmarks.gpu --minutes 3`, 2026-11-26" in page
    assert "## 8. a judge of Qwen2.5-VL-7B's shape on one clip (run 2)" in page
    assert "- section: ended in run 2" in page


def test_rates_of_another_gpu_are_left_out(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    for machine, section in ((MACHINE | {"gpu": "NVIDIA H100"}, "judge"), (MACHINE, "ceilings")):
        report.begin(results, machine, "2026-11-26", "python -m benchmarks.gpu", trial=False)
        Recorder(results, section).figure("one clip, 8 questions", 1.0, "s")
    assert report.rates(report.read(results))["rates"] == {}
    none = MACHINE | dict.fromkeys(("gpu", "memory_gb", "cuda", "driver"))
    report.begin(results, none, "2026-11-26", "python -m benchmarks.gpu --device cpu --tiny", trial=True)
    page = report.markdown(report.read(results))
    assert page.index("On NVIDIA H100") < page.index("On NVIDIA H200") < page.index("On a CPU, Python 3.12.3")


def test_a_section_that_hangs_or_crashes_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    crashes = Section(1, "no_such_module", "crashes", 1, 30)
    hangs = Section(2, "training", "takes longer than it may", 1, -7)  # eight seconds are added for imports
    needs = Section(3, "ceilings", "needs a package", 1, 30, ("no_such_package",))
    pair = Section(9, "two_gpus", "needs two GPUs", 1, 30, gpus=2)
    args = Namespace(device="cpu", tiny=True, latents=None)
    machine = MACHINE | {"missing": ["no_such_package"]}
    results, end = tmp_path / "results.jsonl", time.monotonic() + 60
    report.begin(results, machine, "2026-11-26", "python -m benchmarks.gpu", trial=True)
    assert "failed: ModuleNotFoundError" in main._section(crashes, args, machine, end, results)
    assert "No module named" in (tmp_path / "no_such_module.stderr.txt").read_text()
    assert main._section(hangs, args, machine, end, results) == "ended after 1 s, its time limit"
    assert main._section(needs, args, machine, end, results) == "skipped: not installed: no_such_package"
    assert main._section(crashes, args, machine, time.monotonic(), results) == "skipped: no time is left"
    gpu = Namespace(**vars(args) | {"device": "cuda"})
    assert main._section(pair, gpu, machine, end, results) == "skipped: needs 2 GPUs, 1 found"
    assert [entry["name"] for entry in report.read(results)[0].entries].count("section") == 5
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_section_runs_on_the_smallest_models(tmp_path: Path) -> None:
    """Two to three minutes alone; a loaded machine may take three times as long."""
    done = benchmark("--device", "cpu", "--tiny", "--minutes", "9", "--out", str(tmp_path), timeout=560)
    assert done.returncode == 0, done.stdout + done.stderr
    rates = json.loads((tmp_path / "gpu_rates.json").read_text())
    assert rates["trial"]
    missing = {key for key in report.RATES if key not in rates["rates"]}
    needs_gpu = {"training_peak_gb", "training_pair_peak_gb"}
    compiled_once = {"lora_pass_s", "synthesis_forward_s", "synthesis_clip_s"}
    compiled_once |= {f"compiled_{part}_s" for part in ("step", "decode", "rest")}
    assert missing == needs_gpu | compiled_once
    assert "figures of a trial mean nothing" in (tmp_path / "gpu.md").read_text()

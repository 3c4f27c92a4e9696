"""What a plan says of hours, disk and the cost per useful sample, and how each rate is known."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.gpu import report
from gigavideo_data import cli
from gigavideo_data.commands import plan as planning
from gigavideo_data.commands.planning import estimate, rates
from gigavideo_data.commands.planning.estimate import Judged, Sizes
from gigavideo_data.commands.planning.rates import Gpu, generator_rate, judge_rate
from gigavideo_data.errors import RecipeError
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Generator, Judge

ROOT = Path(__file__).parents[3]
H100, H200 = Gpu("h100"), Gpu("h200")


@pytest.mark.parametrize(("gpu", "results"), [("h100", "results.jsonl"), ("h200", "results_h200.jsonl")])
def test_the_shipped_rates_are_those_that_were_measured(gpu: str, results: str) -> None:
    shipped = json.loads(Path(rates.__file__).with_name(f"{gpu}.json").read_text())
    assert shipped == report.rates(report.read(ROOT / "benchmarks" / "gpu" / results))


def test_a_clip_is_calculated_from_its_measured_parts_and_estimated_on_another_gpu() -> None:
    wan = Generator(model=rates.WAN)
    own, other = generator_rate(wan, H200, compiled=True), generator_rate(wan, H100, compiled=True)
    assert own
    assert other
    assert own.seconds == pytest.approx(55.94, abs=0.01)  # the calculated clip of benchmarks/gpu_h200.md
    assert (own.kind, other.kind, other.seconds) == ("calculated", "estimated", own.seconds)
    assert "NVIDIA H200" in other.source
    eager = generator_rate(wan, H200, compiled=False)
    assert eager
    assert eager.seconds == pytest.approx(65.66, abs=0.01)


def test_a_clip_takes_as_long_as_its_steps_and_passes() -> None:
    def seconds(**settings: Any) -> float:
        rate = generator_rate(Generator(model=rates.WAN, **settings), H200, compiled=True)
        assert rate
        return rate.seconds

    step = (seconds() - seconds(steps=25)) / 25
    assert step == pytest.approx(1.0487, abs=1e-3)
    assert seconds(guidance=1.0) == pytest.approx(seconds() - 25 * step)
    published = generator_rate(Generator(model=rates.WAN), Gpu("rtx4090"), compiled=False)
    fewer = generator_rate(Generator(model=rates.WAN, steps=25), Gpu("rtx4090"), compiled=False)
    assert published
    assert fewer
    assert (published.seconds, published.kind) == (240.0, "published")
    assert (fewer.seconds, fewer.kind) == (120.0, "estimated")


def test_what_nobody_measured_has_no_rate() -> None:
    for generator in (
        Generator(model="Wan-AI/Wan2.1-T2V-14B-Diffusers"),
        Generator(model=rates.WAN, profile="first_block_cache"),
    ):
        assert generator_rate(generator, H100, compiled=True) is None
    assert generator_rate(Generator(model=rates.WAN), None, compiled=True) is None
    assert judge_rate(Judge(backend="transformers", model="org/judge"), H100) is None
    assert judge_rate(Judge(backend="transformers", model=rates.QWEN), Gpu("rtx4090")) is None


def test_only_the_judge_as_it_was_measured_counts_as_measured() -> None:
    judge: dict[str, Any] = {"model": rates.QWEN, "backend": "transformers"}
    same, longer = judge_rate(Judge(**judge), H100), judge_rate(Judge(**judge, frames=32), H100)
    served, elsewhere = judge_rate(Judge(**judge | {"backend": "vllm"}), H100), judge_rate(Judge(**judge), H200)
    assert [rate and rate.kind for rate in (same, longer, served, elsewhere)] == ["measured"] + ["estimated"] * 3
    assert same
    assert longer
    assert served
    assert same.seconds == pytest.approx(1.568, abs=1e-3)
    assert longer.seconds == 2 * same.seconds
    assert served.seconds == pytest.approx(0.369, abs=1e-3)


@pytest.mark.parametrize(
    ("names", "gpu"),
    [
        (["NVIDIA H100 80GB HBM3"] * 8, Gpu("h100", 8)),
        (["NVIDIA H200"], H200),
        (["NVIDIA GeForce RTX 4090"], Gpu("rtx4090")),
        (["NVIDIA GH200 480GB"], None),
        (["NVIDIA H200", "NVIDIA H100 80GB HBM3"], None),
        (["NVIDIA A100-SXM4-80GB"], None),
        ([], None),
    ],
)
def test_gpus_are_known_by_their_names(names: list[str], gpu: Gpu | None) -> None:
    assert rates.gpu_among(names) == gpu


def test_an_unknown_gpu_is_refused_with_those_that_are_known() -> None:
    assert rates.gpu_named("H100") == H100
    with pytest.raises(RecipeError, match="Known are h100, h200, rtx4090") as error:
        rates.gpu_named("a100")
    assert error.value.exit_code == 2
    shown = CliRunner().invoke(cli.app, ["plan", "--help"]).stdout
    assert all(name in shown for name in rates.GPUS)


def shown(facts: dict[str, Any]) -> str:
    screen = io.StringIO()
    planning.show(facts, Console(file=screen, width=200))
    return screen.getvalue()


def test_a_plan_sums_up_hours_days_and_disk_and_says_how_the_rates_are_known(tmp_path: Path) -> None:
    recipe = load("small", ["dimensions=[mechanics]", "scale.compile=true"])
    facts = planning.plan(recipe, Store(tmp_path / "none"), Gpu("h100", 2))
    lines = {line["stage"]: line for line in facts["stages"]}
    judged = lines["judge"]["rows"] + lines["judge check"]["rows"]
    hours = (lines["synthesize"]["rows"] * 55.94 + judged * 2 * 0.3692) / 3600
    total = facts["total"]
    assert total["gpu_hours"] == pytest.approx(hours, rel=1e-3)
    assert total["days"] == pytest.approx(hours / 48, rel=1e-3)
    assert (total["gpu"], total["num_gpus"], total["kinds"]) == ("h100", 2, ["estimated"])
    assert set(total["not_counted"]) == {"prompt", "extend", "questions"}
    assert total["cpu_hours"] is None
    latents = 16 * 21 * 60 * 104 * 2
    assert facts["disk"]["latent_bytes"] == latents * lines["synthesize"]["rows"]
    assert facts["disk"]["bytes"] is None  # of the videos nothing is known yet
    text = shown(facts)
    assert f"total: about {hours:.1f} GPU-hours, {hours / 48:.1f} days on 2 h100; rates are estimated" in text
    assert "not counted: prompt (not measured)" in text
    assert text.startswith("cost per useful sample, estimated: ")
    assert "GPU-seconds per generated clip; per kept clip it is not known before some are judged" in text


def test_without_a_gpu_a_plan_says_how_to_count_hours_and_a_judge_elsewhere_is_not_counted(tmp_path: Path) -> None:
    judge = f"judge={{backend: http, endpoint: 'http://localhost:8001/v1', model: {rates.QWEN}}}"
    facts = planning.plan(load("small", ["dimensions=[mechanics]", judge]), Store(tmp_path / "none"))
    assert facts["total"]["gpu_hours"] is None
    assert facts["cost_per_sample"] is None
    assert facts["total"]["not_counted"]["judge"] == "behind an endpoint"
    assert "--gpu NAME counts the GPU-hours" in shown(facts)


def test_a_plan_of_the_miniature_says_nothing_about_gpus(tmp_path: Path) -> None:
    facts = planning.plan(load("quickstart-all"), Store(tmp_path / "none"), H100)
    text = shown(facts)
    assert "gpu" not in text.casefold()
    assert "CPU-seconds per generated clip" in text
    assert "hours of one CPU core; rates are measured" in text
    assert facts["total"]["cpu_hours"] == pytest.approx(
        sum(line["seconds"] for line in facts["stages"] if line["seconds"] is not None) / 3600
    )


LINES: list[estimate.Line] = [
    {"stage": "synthesize", "rows": 100, "in_store": 40, "device": "gpu", "row_seconds": 50.0},
    {"stage": "judge", "rows": 100, "in_store": 10, "device": "gpu", "row_seconds": 2.0},
    {"stage": "questions", "rows": 300, "in_store": 0, "device": None, "row_seconds": None},
]


def test_the_cost_of_a_kept_clip_follows_from_the_clips_that_are_judged() -> None:
    found = estimate.cost_per_sample(LINES, Judged(clips=10, kept=4, effective=3.2))
    assert found
    assert (found["per_clip"], found["per_kept"], found["per_effective"]) == (52.0, 130.0, 162.5)
    assert estimate.sentence(found) == (
        "cost per useful sample, estimated: 130 GPU-seconds per kept clip, 162 per effective sample, if all clips are "
        "as useful as the 10 that are judged already; not counted: questions"
    )
    assert estimate.cost_per_sample(LINES[1:], Judged(10, 4, 3.2)) is None


def test_the_disk_follows_from_the_videos_that_are_there() -> None:
    found = estimate.disk(LINES, load("quickstart-all"), Sizes(videos=[100, 300], latents=[1000]))
    assert found == {"videos": 60, "video_bytes": 12_000, "latent_bytes": 60_000, "bytes": 144_000}
    assert estimate.disk(LINES, load("quickstart-all"), Sizes())["bytes"] is None

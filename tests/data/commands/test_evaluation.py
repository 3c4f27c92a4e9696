"""The measures of an evaluation on the miniature, the real clips of a dataset, and the second judge; without Ray."""

import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from gigavideo_data.commands import evaluate
from gigavideo_data.commands.evaluation import real_clips, rewards_table
from gigavideo_data.commands.evaluation.candidates import Candidate
from gigavideo_data.commands.evaluation.measure import measure
from gigavideo_data.commands.evaluation.result import Result, judged, scored, second_facts
from gigavideo_data.commands.evaluation.setting import Judging, Setting, read_setting
from gigavideo_data.errors import RecipeError, RunError
from gigavideo_data.io import video
from gigavideo_data.io.progress import Progress
from gigavideo_data.miniature import world
from gigavideo_data.miniature.clips import RenderedClips
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.generators.profiles import MODEL_INFO_FILE, model_folder
from gigavideo_data.models.registry import load_engine
from gigavideo_data.pipeline.execution.row_adapter import run_rows
from gigavideo_data.pipeline.execution.runner import StoreRunner
from gigavideo_data.pipeline.stages import STAGES, Item
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Generator, Judge, Scale, Specialists
from gigavideo_data.scoring.bootstrap import Scored
from tests.support.rows import clip, make_row, write_set

TEXTS = [f"a {color} circle moves {way}" for color in list(world.COLORS)[:4] for way in ("left", "up")]
CLIPS = 2 * len(TEXTS)  # of each model


class InProcess:
    """Processes rows in this process in place of Ray; `calls` counts them, and it can be stopped after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.engines: list[dict[str, Any]] = []
        self.stop_after = stop_after

    def process(self, stage: str, items: list[Item], store: Store) -> Iterator[str]:
        self.engines.append(items[0].engine)
        engine = load_engine(STAGES[stage].engine, items[0].engine | items[0].local)
        for number in range(0, len(items), 16):
            if self.stop_after is not None and self.calls["measure"] >= self.stop_after:
                raise RunError("killed")
            rows = [(item.key, item.inputs | item.implied) for item in items[number : number + 16]]
            self.calls[stage] += len(rows)
            yield from run_rows(stage, rows, engine, store, "run", 3)


def runner_at(folder: Path, stop_after: int | None = None) -> tuple[StoreRunner, InProcess]:
    executor = InProcess(stop_after)
    progress = Progress(Console(file=io.StringIO()))
    return StoreRunner(Store(folder / "store"), executor, progress, folder / "log.txt"), executor  # type: ignore[arg-type]


def prompts() -> list[Any]:
    question = {"dimension": "composition", "question": "?", "expected": "yes", "gate": False, "negated": "?"}
    return [
        {"dimension": "composition", "prompt_id": f"p{at:02}", "prompt": text, "seeds": [0, 1], "questions": [question]}
        for at, text in enumerate(TEXTS)
    ]


def setting(**changes: Any) -> Setting:
    values: dict[str, Any] = {
        "prompts": prompts(),
        "generator": Generator(),
        "judging": Judging(Judge(), Specialists(), ("composition",)),
        "judges_of_training": frozenset(),
        "scale": Scale(),
    }
    return Setting(**(values | changes))


def results(store: Store, kind: str) -> list[Result]:
    """Clips as a model could have made them: good ones, broken ones (still, in wrong colours), or one for all seeds."""
    found: list[Result] = []
    for prompt in prompts():
        for seed in prompt["seeds"]:
            data = RenderedClips({}).of_prompt(prompt["prompt"], 7 if kind == "copies" else 50 + seed)
            if kind == "broken":
                first_HWC = 255 - video.decode(data).frames_THWC[0]
                data = video.encode(np.repeat(first_HWC[None], world.NUM_FRAMES, axis=0), world.FPS)
            clip: dict[str, Any] = {"video_sha256": store.keep(data, ".mp4").removesuffix(".mp4")}
            found.append({"prompt": prompt, "seed": seed, "clip": clip, "reward": 0.5, "rejected": None})
    return found


class Interrupted(NamedTuple):
    """An evaluation of good and broken clips that was stopped and resumed: its folder, calls and measures."""

    folder: Path
    calls: list[int]
    found: dict[str, Any]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder = tmp_path_factory.mktemp("evaluation")
    runner, first = runner_at(folder, stop_after=16)
    both = [results(runner.store, "good"), results(runner.store, "broken")]
    with pytest.raises(RunError, match="killed"):
        measure(Candidate("miniature"), both, setting(), runner)
    resumed, second = runner_at(folder)
    found = measure(Candidate("miniature"), both, setting(), resumed)
    return Interrupted(folder, [first.calls["measure"], second.calls["measure"]], found)


def test_an_interrupted_evaluation_measures_no_clip_twice(interrupted: Interrupted) -> None:
    assert interrupted.calls == [16, 3 * CLIPS - 16]
    again, third = runner_at(interrupted.folder)
    both = [results(again.store, "good"), results(again.store, "broken")]
    assert measure(Candidate("miniature"), both, setting(), again) == interrupted.found
    assert not third.calls


def test_rendered_clips_are_as_real_as_other_rendered_clips_and_broken_ones_are_not(interrupted: Interrupted) -> None:
    found, realism = interrupted.found, interrupted.found["realism"]
    assert realism["real"] == CLIPS
    assert realism["features"].startswith("vae miniature@")
    assert abs(realism["base"]["value"]) < realism["tuned"]["value"] / 5
    assert realism["verdict"] == "failed"
    assert found["motion"]["high"] < 0.05  # little changes by compression
    assert found["plain"] == {"base": 1.0, "tuned": 0.0}  # a still thing does not move as its prompt says
    assert json.dumps(found, allow_nan=False)


def test_copies_of_one_clip_have_no_spread_and_only_new_clips_are_measured(interrupted: Interrupted) -> None:
    runner, executor = runner_at(interrupted.folder)
    both = [results(runner.store, "good"), results(runner.store, "copies")]
    assert measure(Candidate("miniature"), both, setting(), runner)["spread"]["high"] == 0
    assert executor.calls["measure"] == len(TEXTS)


def test_a_video_that_one_model_could_not_make_is_left_out_of_both(interrupted: Interrupted) -> None:
    runner, _ = runner_at(interrupted.folder)
    good, other = results(runner.store, "good"), results(runner.store, "good")
    other[0]["clip"] = {"rejected": "bad_video"}
    found = measure(Candidate("miniature"), [good, other], setting(), runner)
    assert found["realism"]["real"] == CLIPS - 1
    assert (found["motion"]["ratio"], found["spread"]["ratio"]) == (1, 1)


def test_real_clips_of_a_dataset_have_the_size_of_the_videos_and_every_prompt_has_a_turn_first(tmp_path: Path) -> None:
    rows = [make_row(seed) for seed in range(3)] + [make_row(seed, "real") for seed in range(10, 21)]
    folder = write_set(tmp_path / "set", rows)
    runner, _ = runner_at(tmp_path)
    profile = replace(PROFILES["miniature"], name="other", height=32, width=32)
    drafts = [(prompt, seed) for prompt in prompts() for seed in prompt["seeds"]]
    found = real_clips.real_clips(drafts, setting(dataset=folder), profile, runner)
    used = [sha256 for sha256 in found if sha256]
    assert len(used) == 11
    assert all(runner.store.blob(f"{sha256}.mp4") in {clip(seed) for seed in range(10, 21)} for sha256 in used)
    assert all(found[at] for at in range(0, len(drafts), 2))  # the first seed of every prompt
    assert found == real_clips.real_clips(drafts, setting(dataset=folder), profile, runner)
    larger = replace(profile, height=64)
    assert set(real_clips.real_clips(drafts, setting(dataset=folder), larger, runner)) == {None}
    assert set(real_clips.real_clips(drafts, setting(), profile, runner)) == {None}  # a Parquet file has no clips


def test_the_rewards_of_every_video_are_written(tmp_path: Path) -> None:
    first = [Scored("mechanics", "p", 3, 0.1, None), Scored("mechanics", "q", 4, 0.2, 0.3)]
    rewards_table.write(tmp_path, first, None)
    rows = pq.read_table(tmp_path / rewards_table.FILE).to_pylist()
    assert rows[0] == {
        "dimension": "mechanics",
        "prompt_id": "p",
        "seed": 3,
        "base": 0.1,
        "tuned": None,
        "second_base": None,
        "second_tuned": None,
    }
    rewards_table.write(tmp_path, first, [replace(one, base=0.9) for one in first])
    assert pq.read_table(tmp_path / rewards_table.FILE)["second_base"].to_pylist() == [0.9, 0.9]


def test_a_second_judge_has_its_own_settings_and_judges_the_same_videos(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    read = read_setting(folder, "test", second_judge=["readout=text", "min_mass=0.25"])
    assert read.second is not None
    assert (read.judge.readout, read.second.judge.readout, read.second.judge.min_mass) == ("logits", "text", 0.25)
    assert read_setting(folder, "test").second is None
    with pytest.raises(RecipeError, match=r"--second-judge readuot=text: readuot: unknown key"):
        read_setting(folder, "test", second_judge=["readuot=text"])
    with pytest.raises(RecipeError, match="--second-judge readout: must look like"):
        read_setting(folder, "test", second_judge=["readout"])
    runner, _ = runner_at(tmp_path)
    clips = [one["clip"] for one in results(runner.store, "good")]
    asked = [prompt | {"questions": [prompt["questions"][0] | {"question": "Is there a red circle in the video?"}]}
             for prompt in prompts()]  # fmt: skip
    drafts = [(prompt, seed) for prompt in asked for seed in prompt["seeds"]]
    hard = replace(read.second, dimensions=("composition",))
    soft = replace(read.judging, dimensions=("composition",))
    by_second, by_first = judged(drafts, clips, hard, runner), judged(drafts, clips, soft, runner)
    assert {one["reward"] for one in by_second} == {0, 1}
    assert {one["reward"] for one in by_first} - {0, 1}
    facts = second_facts(hard, scored(by_second, by_second))
    assert facts["judge"].startswith("miniature@")
    assert facts["comparisons"][0]["difference"] == 0


def test_features_are_named_before_anything_runs(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    with pytest.raises(RecipeError, match="--features"):
        read_setting(folder, "test", features=str(tmp_path))
    assert read_setting(folder, "test").network is None
    skipped = read_setting(folder, "test", measures=False, features=str(tmp_path))
    assert (skipped.measures, skipped.network) == (False, None)


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_models_are_sampled_with_float32_weights_where_the_tuned_ones_are_stored_so(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model_folder("miniature"), tmp_path / "tuned")
    (tmp_path / "tuned" / MODEL_INFO_FILE).write_text('{"profile": "miniature"}')
    (file,) = (tmp_path / "tuned" / "transformer").glob("*.safetensors")
    weights = {name: weight.to(getattr(torch, stored)) for name, weight in load_file(file).items()}
    changed = next(name for name, weight in weights.items() if weight.numel() > 100)
    weights[changed] = weights[changed] * (1 + 2**-12)
    save_file(weights, file)
    runner, executor = runner_at(tmp_path)
    monkeypatch.setattr(evaluate, "store_runner", lambda *_, **__: nullcontext(runner))
    (tmp_path / "out").mkdir()  # as the store's runner does
    asked = [prompts()[0] | {"split": "test", "seeds": [0]}]
    chosen = setting(prompts=asked, generator=Generator(steps=1), measures=False)
    base, tuned = Candidate("miniature"), Candidate(str(tmp_path / "tuned"))
    facts = evaluate.evaluate(base, tuned, chosen, tmp_path / "out", tmp_path / "store", runner.progress)
    generators = [engine for engine in executor.engines if engine["backend"] == "diffusers"]
    expected = "float32" if stored == "float32" else None
    assert [engine.get("weights") for engine in generators] == [expected, expected]
    if expected:
        assert 0 < facts["rounding"]["changed"] <= weights[changed].numel()
        assert facts["rounding"]["kept"] == 0
    else:
        assert facts["rounding"] is None

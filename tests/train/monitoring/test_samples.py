"""Sample clips during training: prompts, rewards, the page, and that training does not depend on them."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import pytest
import torch

from gigavideo_data.commands.evaluation.setting import read_setting
from gigavideo_data.errors import RecipeError
from gigavideo_data.io import video
from gigavideo_data.miniature.judge import MiniatureJudge
from gigavideo_data.models.judges.base import Answer
from gigavideo_data.recipe.engines import ENGINES, Engine
from gigavideo_data.recipe.recipe import Camera, Judge
from gigavideo_train.config import TrainConfig
from gigavideo_train.judging.judges import SampleJudge, sample_judges
from gigavideo_train.judging.verdicts import Verdict, judge_clips, read
from gigavideo_train.models.base import make_condition
from gigavideo_train.monitoring.sample_page import Clip, ClipPair, page
from gigavideo_train.monitoring.samples import cfg_velocity
from tests.e2e.test_train import arguments, losses, metrics, refused, run, same, weights
from tests.support import qwen_vl
from tests.support.ranks import run_together
from tests.support.rows import clip, make_eval_prompts, make_manifest, write_set
from tests.support.train_set import row, training_set

pytestmark = pytest.mark.timeout(600)
SETTINGS = {"epochs": "3", "sample_every": "2"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its only prompt of the split dev is "a blue cube falls"."""
    return training_set(tmp_path_factory.mktemp("samples") / "set", [row(1), row(2)])


@pytest.fixture(scope="module")
def reference(dataset: Path) -> Path:
    run(dataset, dataset.parent / "reference", **SETTINGS)
    return dataset.parent / "reference"


def clips(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted((out / "samples").rglob("*.mp4"))}


def test_clips_of_held_out_prompts_are_sampled_before_between_and_after_steps_and_change_none(
    dataset: Path, reference: Path, tmp_path: Path
) -> None:
    made = clips(reference)
    assert list(made) == ["step-00000000", "step-00000002", "step-00000003"]
    assert len(set(made.values())) == 3
    decoded = video.decode(made["step-00000003"], "clip")
    assert decoded.frames_THWC.shape == (5, 48, 48, 3)
    shown = (reference / "samples.html").read_text()
    assert "a blue cube falls" in shown
    assert [f'src="samples/{name}/0.mp4"' in shown for name in made] == [True, False, True]
    run(dataset, tmp_path / "plain", epochs="3")
    assert losses(tmp_path / "plain") == losses(reference)
    assert same(weights(tmp_path / "plain"), weights(reference))
    assert len(metrics(reference)) == 3


def test_a_resumed_run_and_two_processes_make_the_same_clips(dataset: Path, reference: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "cut", max_steps="2", **SETTINGS)
    run(dataset, tmp_path / "cut", "--resume", **SETTINGS)
    assert clips(tmp_path / "cut") == clips(reference)
    run_together(2, arguments(dataset, tmp_path / "two", **SETTINGS))
    assert list(clips(tmp_path / "two")) == list(clips(reference))
    ours, theirs = (
        video.decode(clips(out)["step-00000000"], "clip").frames_THWC for out in (tmp_path / "two", reference)
    )
    assert abs(ours.astype(int) - theirs).mean() < 1


def test_a_dataset_without_prompts_is_refused_only_with_sample_every(tmp_path: Path) -> None:
    bare = training_set(tmp_path / "set", [row(1)])
    manifest = json.loads((bare / "manifest.json").read_text())
    manifest["files"] = {name: file for name, file in manifest["files"].items() if "dev-" not in name}
    (bare / "manifest.json").write_text(json.dumps(manifest))
    assert "no held-out prompts of mechanics to sample" in refused(bare, tmp_path / "out", sample_every="1")
    run(bare, tmp_path / "out", max_steps="1")


def test_guidance_extrapolates_from_the_unconditional_velocity() -> None:
    text, no_text = (make_condition([torch.full((1, 2), value)], 3, [8.0]) for value in (5.0, 2.0))
    noisy, sigma_B = torch.zeros(1, 1, 1, 1, 1), torch.ones(1)
    found = [
        float(
            cfg_velocity(
                lambda noisy, _, condition: noisy + condition.text_BLD.max(), noisy, sigma_B, text, no_text, guidance
            )
        )
        for guidance in (1.0, 3.0)
    ]
    assert found == [5.0, 2.0 + 3 * 3.0]


ASKED = {  # of the prompts for samples, what is asked; no judge of the miniature knows the last
    "a red circle falls": "Is there a red circle in the video?",
    "a green circle falls": "Is there a green circle in the video?",
    "a kite falls": "Does it fall?",
}


@pytest.fixture(scope="module")
def judged_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = []
    for text, question in ASKED.items():
        (prompt, *_) = make_eval_prompts(question)
        prompts.append(prompt | {"prompt_id": text.replace(" ", "-"), "base_prompt": text, "prompt": text})
    return write_set(tmp_path_factory.mktemp("judged") / "set", [row(1), row(2)], eval_prompts=prompts)


@pytest.fixture(scope="module")
def judged(judged_set: Path) -> Path:
    run(judged_set, judged_set.parent / "judged", judge_samples="true", **SETTINGS)
    return judged_set.parent / "judged"


def means(out: Path) -> dict[int, tuple[float, int]]:
    lines = [line for line in metrics(out) if "sample_reward" in line]
    return {line["step"]: (line["sample_reward"], line["samples_scored"]) for line in lines}


def rewards(out: Path, step: int) -> dict[str, Any]:
    """By prompt, as they are written beside the clips; these are in the order of the prompts' names."""
    written = sorted((out / "samples" / f"step-{step:08}").glob("*.json"))
    return dict(zip(sorted(ASKED), (json.loads(path.read_text()) for path in written), strict=True))


def test_samples_are_scored_as_an_evaluation_would_score_them(judged_set: Path, judged: Path) -> None:
    setting = read_setting(judged_set, "dev", ["generators=[{}]"])
    eye = MiniatureJudge({})
    for step in (0, 2, 3):
        found = rewards(judged, step)
        for prompt in setting.prompts:
            at = sorted(ASKED).index(prompt["prompt"])
            made = video.decode((judged / "samples" / f"step-{step:08}" / f"{at}.mp4").read_bytes(), "clip")
            answers = eye.answer(made.frames_THWC, made.fps, [each["question"] for each in prompt["questions"]])
            record = {"answers": [{"p_yes": answer.p_yes, "p_no": answer.p_no} for answer in answers]}
            assert found[prompt["prompt"]]["reward"] == setting.reward_of(prompt, record)
        assert found["a kite falls"] == {"reward": None, "reason": "low_mass"}
        known = [each["reward"] for each in found.values() if each["reward"] is not None]
        mean, number = means(judged)[step]
        assert number == len(known) == 2
        assert mean == pytest.approx(sum(known) / 2)
    card = (judged / "model" / "README.md").read_text()
    first, last = (f"{means(judged)[step][0]:.2f} at step {step}" for step in (0, 3))
    assert f"| {first} → {last}, means of 2 and 2 clips: a rough check |" in card
    shown = (judged / "samples.html").read_text()
    assert shown.count("not scored: low_mass") == 2
    red = rewards(judged, 3)["a red circle falls"]["reward"]
    assert f"<span>step 3</span><b>{red:.2f}</b>" in shown


def test_judging_changes_no_step(judged_set: Path, judged: Path, tmp_path: Path) -> None:
    run(judged_set, tmp_path / "plain", epochs="3")
    assert [line["loss"] for line in metrics(judged) if "loss" in line] == losses(tmp_path / "plain")
    assert same(weights(judged), weights(tmp_path / "plain"))


@pytest.mark.slow
def test_two_processes_judge_each_its_own_samples_and_a_resumed_run_shows_what_the_base_got(
    judged_set: Path, judged: Path, tmp_path: Path
) -> None:
    settings = SETTINGS | {"judge_samples": "true"}
    run_together(2, arguments(judged_set, tmp_path / "two", **(settings | {"max_steps": "2"})))
    assert {step: number for step, (_, number) in means(tmp_path / "two").items()} == {0: 2, 2: 2}
    for text, found in rewards(tmp_path / "two", 0).items():
        assert found["reward"] == pytest.approx(rewards(judged, 0)[text]["reward"], abs=0.05)
    run(judged_set, tmp_path / "two", "--resume", **settings)
    assert list(means(tmp_path / "two")) == [0, 2, 3]
    base = rewards(tmp_path / "two", 0)["a red circle falls"]["reward"]
    assert f"<span>base</span><b>{base:.2f}</b>" in (tmp_path / "two" / "samples.html").read_text()


def test_a_dataset_whose_judge_cannot_run_here_needs_another_judge(judged_set: Path, tmp_path: Path) -> None:
    dataset = served(judged_set, tmp_path)
    settings = {"sample_every": "9", "judge_samples": "true", "max_steps": "1"}
    said = refused(dataset, tmp_path / "out", **settings)
    assert "mechanics is judged by Qwen (http)" in said
    assert "--set judge=MODEL" in said
    assert not (tmp_path / "out").exists()
    model = qwen_vl.build("qwen2_5_vl", tmp_path / "judge")
    facts = run(dataset, tmp_path / "out", judge=str(model), **settings)
    assert facts["sample_judges"] == {"mechanics": "judge"}
    assert list(means(tmp_path / "out")) == [0, 1]


def served(dataset: Path, to: Path) -> Path:
    """A copy whose recipe says that its judge was behind an endpoint."""
    shutil.copytree(dataset, to / "served")
    manifest = json.loads((to / "served" / "manifest.json").read_text())
    manifest["recipe"]["judge"] |= {"backend": "http", "model": "Qwen", "endpoint": "/v1"}
    (to / "served" / "manifest.json").write_text(json.dumps(manifest))
    return to / "served"


def test_a_specialist_judges_the_dimensions_that_it_judged_in_the_dataset() -> None:
    manifest: Any = make_manifest([], [])
    manifest["recipe"] |= {"specialists": {"camera": {"backend": "camera"}, "counting": None}}
    manifest["recipe"]["judge"] |= {"backend": "vllm", "model": "org/judge", "vllm": {}}
    config = TrainConfig(sample_every=1, judge_samples=True)
    found = sample_judges(manifest, config, ["camera_motion"])
    assert found["camera_motion"].judge == Camera()
    with pytest.raises(RecipeError, match=r"mechanics is judged by org/judge \(vllm\)"):
        sample_judges(manifest, config, ["camera_motion", "mechanics"])
    assert sample_judges(manifest, TrainConfig(sample_every=1), ["mechanics"]) == {}


class Held:
    """A judge in a reference cycle, as modules are, that counts the other instances when it is loaded."""

    alive: ClassVar[WeakSet["Held"]] = WeakSet()
    met: ClassVar[list[int]] = []

    def __init__(self, engine: dict[str, Any]) -> None:
        self.itself, self.p = self, engine["p"]
        Held.met.append(len(Held.alive))
        Held.alive.add(self)

    def answer(self, frames_THWC: Any, fps: float, asked: list[str]) -> list[Answer]:
        del frames_THWC, fps
        return [Answer(self.p, 1 - self.p)] * len(asked)


def test_one_judge_at_a_time_is_in_memory_and_none_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES["judge"], "held", Engine((__name__, "Held")))
    clips = {}
    for name in ("mechanics", "composition"):
        prompt = make_eval_prompts()[0] | {"dimension": name}
        clips[tmp_path / f"{name}.mp4"] = prompt
        (tmp_path / f"{name}.mp4").write_bytes(clip(1))
    judges = {name: SampleJudge(Judge(), {"backend": "held", "p": p}, 0.5) for name, p in HELD.items()}
    judge_clips(clips, judges)
    assert Held.met == [0, 0]
    assert not Held.alive
    assert {path.stem: read(path) for path in clips} == {name: Verdict(p) for name, p in HELD.items()}


HELD = {"mechanics": 0.25, "composition": 0.75}


def test_judge_samples_needs_sample_every(dataset: Path, tmp_path: Path) -> None:
    assert "set sample_every" in refused(dataset, tmp_path / "out", judge_samples="true")


def test_the_page_shows_rewards_and_escapes_untrusted_text() -> None:
    def clip_of(name: str, *verdict: Any) -> Clip:
        return Clip(f"{name}.mp4", Verdict(*verdict) if verdict else None)

    script = '<script>alert("x")</script>'
    pairs = [
        ClipPair(script, "human_anatomy", clip_of("a", 0.42), clip_of("b", 0.71)),
        ClipPair("a cat", "mechanics", clip_of("c"), clip_of("d", None, script)),
    ]
    found = page(pairs, 100, [script])
    assert "<script" not in found
    assert found.count("&lt;script&gt;") == 3
    assert "<span>base</span><b>0.42</b>" in found
    assert "<span>step 100</span><b>0.71</b>" in found
    assert "base <b>0.42</b> (1 of 2 clips scored), step 100 <b>0.71</b> (1 of 2 clips scored)" in found
    assert "reward" not in page([ClipPair("a cat", "mechanics", clip_of("a"), clip_of("b"))], 100, []).lower()

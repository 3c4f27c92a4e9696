"""Online rewards: the decoder, the judge, the two strategies, and judges that cannot run here."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from benchmarks.miniature_trials import trial
from gigavideo_data.errors import GigaVideoError
from gigavideo_data.io import video
from gigavideo_data.miniature.grammar import sample_scene
from gigavideo_data.miniature.judge import MiniatureJudge
from gigavideo_data.miniature.world import render
from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_data.recipe.engines import ENGINES, Engine
from gigavideo_data.scoring import rewards
from gigavideo_train.cli import app
from gigavideo_train.judging.judges import Scoring
from gigavideo_train.judging.online import Scorer
from gigavideo_train.models import wan
from tests.support import qwen_vl
from tests.support.pipelines import load_with_encoders
from tests.support.ranks import run_together
from tests.support.rows import FPS, write_set
from tests.support.train_set import row

pytestmark = pytest.mark.timeout(600)
ONLINE = ("reweight-online", "backprop-online")
SMALL = {"batch_size": "4", "epochs": "1", "lr": "1e-3", "warmup_steps": "0", "decay": "none"}
MINIATURE = Scoring({"backend": "miniature"}, {}, {"mechanics": 1.0}, {"mechanics": "gate"}, min_mass=0.5)


def asked_row(seed: int, questions: list[str], **changed: Any) -> Any:
    """A row about which the miniature's judge was asked something, five frames long; yes is expected."""
    made = row(seed, **changed)
    (answer,) = made["answers"]
    (judge,) = made["judges"]
    answers = [answer | {"question": question} for question in questions]
    return made | {"answers": answers, "judges": [judge | {"kind": "miniature"}]}


def half_way(number: int) -> Any:
    """A row with a thing that goes half the way it should, nine frames long."""
    asked, frames_THWC = trial("motion_order_understanding", number, right=True)
    data = video.encode(frames_THWC[:9], FPS)
    made = asked_row(number, [asked[0].text])
    clip = {"bytes": data, "path": made["video"]["path"]}
    return made | {"video": clip, "video_sha256": hashlib.sha256(data).hexdigest(), "num_frames": 9}


def pairs_and_others() -> list[Any]:
    """Two written prompts, the second unscorable, and a pair."""
    made = [asked_row(1, THERE), asked_row(2, THERE, reward=None), asked_row(20, THERE, source="twin")]
    return [*made, row(20, "real")]


THERE = [f"Is there a {color} circle in the video?" for color in ("red", "green")]


def arguments(dataset: Path, out: Path, *flags: str, **settings: str) -> list[str]:
    options = [part for key, value in (SMALL | settings).items() for part in ("--set", f"{key}={value}")]
    cache = ("--cache", str(dataset.parent / "latents"))
    return ["--dataset", str(dataset), "--out", str(out), *cache, "--json", *flags, *options]


def run(dataset: Path, out: Path, *flags: str, **settings: str) -> dict:
    result = CliRunner().invoke(app, arguments(dataset, out, *flags, **settings), catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def metrics(out: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (out / "metrics.jsonl").read_text().splitlines()]


def same_weights(a: Path, b: Path) -> bool:
    one, other = (load_file(max((out / "checkpoints").glob("step-*")) / "state.safetensors") for out in (a, b))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("online") / "set", pairs_and_others())


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_with_encoders(model_folder("miniature"))


class Certain:
    """A judge that says yes to everything, of any clip."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine

    def probabilities(self, frames_THWC: torch.Tensor, fps: float, asked: list[str]) -> torch.Tensor:
        del fps
        return torch.tensor([(1.0, 0.0)] * len(asked)) + 0 * frames_THWC.sum()


# --- decoder and rules ------------------------------------------------------------------------------------------------


def test_what_was_encoded_comes_back(pipeline: Any) -> None:
    rng = np.random.default_rng(0)
    frames_THWC = render(sample_scene("plain", rng, "tune"), rng)
    with torch.no_grad():
        (back_THWC,) = wan.decode(pipeline, wan.encode_video(pipeline, frames_THWC)[None].clone())
    assert back_THWC.shape == frames_THWC.shape
    assert np.abs(back_THWC.numpy() * 255 - frames_THWC).mean() < 8


@pytest.mark.parametrize("combine", ["mean", "all", "gate", "prefix"])
def test_a_reward_keeps_the_gradients_of_its_answers(combine: str) -> None:
    p_Q = torch.tensor([0.7, 0.6, 0.9], dtype=torch.float64, requires_grad=True)
    expected, gates = ("yes", "no", "yes"), (False, False, True)

    def reward(p_Q: Any) -> Any:
        answered = zip(p_Q, expected, gates, strict=True)
        answers = [{"question": "q", "expected": e, "gate": g, "p_yes": p, "p_no": 0.9 - p / 2} for p, e, g in answered]
        return rewards.score(answers, combine, 0.5).value

    assert torch.autograd.gradcheck(reward, p_Q)
    assert reward(p_Q).item() == pytest.approx(reward(p_Q.tolist()))


@pytest.mark.parametrize("decode_batch", [1, 2, 3])
def test_clips_are_scored_by_the_questions_of_their_rows(pipeline: Any, decode_batch: int) -> None:
    rows = [half_way(2), half_way(1), half_way(3) | {"answers": []}]
    rows[1]["answers"][0]["question"] = "What is the meaning of life?"
    frames = [video.decode(each["video"]["bytes"], "clip.mp4").frames_THWC for each in rows]
    latents_BCFHW = torch.stack([wan.encode_video(pipeline, clip) for clip in frames]).clone().requires_grad_()
    scorer = Scorer(MINIATURE, wan, pipeline, torch.device("cpu"), decode_batch)
    reward_B, known_B = scorer.rewards(latents_BCFHW, rows)
    assert known_B.tolist() == [True, False, False]
    assert reward_B[1:].tolist() == [0, 0]

    with torch.no_grad():
        decoded_THWC = (255 * wan.decode(pipeline, latents_BCFHW)[0]).round().byte().numpy()
    (answer,) = MiniatureJudge({}).answer(decoded_THWC, FPS, [rows[0]["answers"][0]["question"]])
    assert reward_B[0].item() == pytest.approx(answer.p_yes, abs=0.02)  # this one was rounded

    (slope_BCFHW,) = torch.autograd.grad(reward_B.sum(), latents_BCFHW)
    assert slope_BCFHW[0].norm() > 0
    assert not slope_BCFHW[1:].any()
    along = slope_BCFHW / slope_BCFHW.norm()
    with torch.no_grad():
        ends = [scorer.rewards(latents_BCFHW + step * along, rows)[0][0] for step in (0.005, -0.005)]
    assert ((ends[0] - ends[1]) / 0.01).item() == pytest.approx(slope_BCFHW.norm().item(), rel=0.02)


# --- strategies -------------------------------------------------------------------------------------------------------


def test_with_a_judge_that_always_says_yes_reweighting_online_is_sft(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES["soft judge"], "miniature", Engine((__name__, "Certain")))
    run(dataset, tmp_path / "sft", strategy="sft")
    run(dataset, tmp_path / "online", strategy="reweight-online")
    assert metrics(tmp_path / "online", "reward") == [1.0] * len(metrics(tmp_path / "sft", "loss"))
    assert metrics(tmp_path / "online", "loss") == metrics(tmp_path / "sft", "loss")
    assert same_weights(tmp_path / "online", tmp_path / "sft")


@pytest.mark.parametrize("strategy", ONLINE)
def test_several_processes_agree_where_one_cannot_score_its_clip(tmp_path: Path, strategy: str) -> None:
    rows = [half_way(1), half_way(2)]
    rows[1]["answers"][0]["question"] = "What is the meaning of life?"
    dataset = write_set(tmp_path / "set", rows)
    settings = {"strategy": strategy, "epochs": "2"}
    run(dataset, tmp_path / "alone", **settings)
    run_together(2, arguments(dataset, tmp_path / "two", **settings))
    for name in ("loss", "grad_norm", "reward"):
        assert metrics(tmp_path / "two", name) == pytest.approx(metrics(tmp_path / "alone", name), rel=1e-3)


def test_without_its_factor_backprop_is_sft(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "sft", strategy="sft")
    run(dataset, tmp_path / "online", strategy="backprop-online", backprop_eta="0")
    assert metrics(tmp_path / "online", "loss") == metrics(tmp_path / "sft", "loss")
    assert same_weights(tmp_path / "online", tmp_path / "sft")


def test_backprop_raises_the_reward_of_the_models_estimates(tmp_path: Path) -> None:
    """Half-way clips look half right at first, whatever noise is drawn; only the gradient improves them."""
    dataset = write_set(tmp_path / "set", [half_way(5), half_way(11)])
    run(dataset, tmp_path / "run", strategy="backprop-online", backprop_eta="3", epochs="12", lr="1e-4")
    found = metrics(tmp_path / "run", "reward")
    assert sum(found[-6:]) / 6 > 2 * sum(found[:2]) / 2


@pytest.mark.parametrize("strategy", ONLINE)
def test_a_run_is_logged_and_goes_on_exactly(dataset: Path, tmp_path: Path, strategy: str) -> None:
    facts = run(dataset, tmp_path / "whole", strategy=strategy)
    assert facts["kept"] == 3  # the unscorable one too
    assert facts["passes_per_epoch"] == 7
    assert facts["judge"]["model"] == "miniature"
    found = metrics(tmp_path / "whole", "reward")
    assert len(found) == facts["steps"] == 2
    assert all(0 <= reward <= 1 for reward in found)
    assert np.isfinite(metrics(tmp_path / "whole", "grad_norm")).all()
    run(dataset, tmp_path / "cut", strategy=strategy, max_steps="1")
    run(dataset, tmp_path / "cut", "--resume", strategy=strategy)
    assert metrics(tmp_path / "cut", "loss") == metrics(tmp_path / "whole", "loss")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")


def test_a_clip_that_cannot_be_scored_teaches_nothing_when_reweighted(tmp_path: Path) -> None:
    dataset = write_set(tmp_path / "set", [asked_row(1, ["What is the meaning of life?"])])
    run(dataset, tmp_path / "run", strategy="reweight-online")
    assert metrics(tmp_path / "run", "reward") == [None]
    assert metrics(tmp_path / "run", "loss") == [0.0]


# --- whom to ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ONLINE)
def test_a_multimodal_judge_can_be_named(tmp_path: Path, strategy: str) -> None:
    judge = qwen_vl.build("qwen2_5_vl", tmp_path / "judge")
    served = asked_row(1, THERE) | {"judges": [row(1)["judges"][0] | {"kind": "http", "model": "served"}]}
    dataset = write_set(tmp_path / "set", [served])
    facts = run(dataset, tmp_path / "run", strategy=strategy, judge=str(judge))
    assert facts["judge"]["model"] == facts["config"]["judge"] == "judge"
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert str(tmp_path) not in card
    assert len(metrics(tmp_path / "run", "reward")) == 1


def refused(tmp_path: Path, judged_by: dict[str, Any], **settings: str) -> str:
    made = asked_row(1, THERE)
    dataset = write_set(tmp_path / "set", [made | {"judges": [made["judges"][0] | judged_by]}])
    with pytest.raises(GigaVideoError) as caught:
        run(dataset, tmp_path / "run", strategy="backprop-online", **settings)
    assert not (tmp_path / "run").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "judged_by",
    [{"kind": "http", "model": "served"}, {"kind": "camera"}, {"kind": "transformers", "model": "a-folder-of-theirs"}],
)
def test_a_judge_that_cannot_run_here_is_refused_with_advice(tmp_path: Path, judged_by: dict[str, Any]) -> None:
    assert "--set judge=" in refused(tmp_path, judged_by)


def test_a_judge_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "neither a Hub id, nor the folder" in refused(tmp_path, {}, judge=str(tmp_path / "nothing"))


def test_a_clip_is_scored_on_the_dimension_of_its_row_or_with_reward_mean_on_all_trained() -> None:
    own = Scoring({}, {}, {"mechanics": 1.0, "composition": 2.0}, {}, min_mass=0.5)
    mean = Scoring({}, {}, {"mechanics": 1.0, "composition": 2.0}, {}, min_mass=0.5, mean=True)
    assert own.dimensions_of(row(1)) == {"mechanics": 1.0}
    assert own.dimensions_of(row(20, "twin")) == mean.dimensions_of(row(1)) == mean.dimensions

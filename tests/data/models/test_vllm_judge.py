"""The judge by vLLM against the one by transformers: genuine architectures, random weights, the same frames."""

from typing import Any

import numpy as np
import pytest

from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import RowError, RunError
from gigavideo_data.models.registry import judge_spec, load_engine
from gigavideo_data.recipe.recipe import Judge, Vllm
from tests.support import qwen_vl
from tests.support.vllm_here import ENVIRONMENT, SETTINGS
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
FRAMES_THWC = np.random.default_rng(0).integers(0, 255, (17, 128, 192, 3), dtype=np.uint8)
ASKED = ["Is there a cat?", "Is there a dog?", "Does the cat, before it sleeps, walk around the dog?"]


@pytest.fixture(autouse=True, scope="module")
def _small():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


def load(folder, backend, **settings):
    named = Judge(backend=backend, model=str(folder), frames=8, max_side_px=200, **settings)
    decides, location = judge_spec(named)
    return load_engine("judge", decides | location)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def judges(request, tmp_path_factory):
    folder = qwen_vl.build(request.param, tmp_path_factory.mktemp(request.param))
    return load(folder, "vllm", vllm=Vllm(**SETTINGS)), load(folder, "transformers")


def answered(judge, frames_THWC=FRAMES_THWC, fps=8.0, asked=ASKED):
    return np.array([(answer.p_yes, answer.p_no) for answer in judge.answer(frames_THWC, fps, asked)])


# Slower clips of Qwen2.5-VL last longer than their frames are wide, in its positions. There transformers 5 counts words
# on from the width, vLLM from the end of the video.
@pytest.mark.parametrize("fps", [8.0, 4.0])
@pytest.mark.parametrize("num_frames", [17, 5])  # more than are shown; fewer, and an odd number
def test_both_give_the_same_probabilities(judges, fps, num_frames):
    by_vllm, by_transformers = (answered(judge, FRAMES_THWC[:num_frames], fps) for judge in judges)
    np.testing.assert_allclose(by_vllm, by_transformers, rtol=1e-5)
    assert len(np.unique(by_vllm)) == by_vllm.size


def test_frames_their_order_and_their_times_matter(judges):
    """More than the two backends differ: else their agreement would say nothing."""
    there = answered(judges[0])
    apart = np.abs(answered(judges[1]) / there - 1).max()
    for other in (answered(judges[0], FRAMES_THWC[::-1].copy()), answered(judges[0], fps=2.0)):
        assert np.abs(other / there - 1).min() > 2 * apart


def test_the_beginning_of_a_video_is_computed_once(judges, monkeypatch):
    judge, _ = judges
    outputs, read = [], judge._read

    def kept(output):
        outputs.append(output)
        return read(output)

    monkeypatch.setattr(judge, "_read", kept)
    answered(judge, 255 - FRAMES_THWC)
    whole, *later = [output.num_cached_tokens for output in outputs]
    assert whole < min(later)
    assert min(later) >= 0.5 * len(outputs[-1].prompt_token_ids)


def test_a_clip_that_is_too_long_is_a_reject_and_harms_no_other(judges):
    judge, _ = judges
    with pytest.raises(RowError, match="refused"):
        answered(judge, asked=["Is it? " * 1000])
    assert answered(judge).shape == (3, 2)


def test_a_model_without_eyes_is_refused(tmp_path):
    with pytest.raises(RunError, match="takes no video"):
        load(qwen_vl.build_text(tmp_path), "vllm", vllm=Vllm(**SETTINGS))


def test_a_build_with_a_judge_in_the_workers_adds_up(tmp_path):
    folder = qwen_vl.build("qwen3_vl", tmp_path / "tiny")
    changes: dict[str, Any] = {
        "judge__backend": "vllm",
        "judge__model": str(folder),
        "judge__min_mass": "0.0",
        "judge__frames": "4",
    }
    changes |= {f"judge__vllm__{name}": str(value).lower() for name, value in SETTINGS.items()}
    workspace = Workspace(tmp_path / "work")
    code, said = workspace.build(faults=ENVIRONMENT, **changes)
    assert code == 0, said
    verify_folder(tmp_path / "work" / "out")
    assert all(line["in"] == line["out"] + sum(line["rejected"].values()) for line in workspace.manifest()["ledger"])
    scored = [row for row in workspace.rows() if row["source"] != "real"]
    assert {judge["kind"] for row in scored for judge in row["judges"]} == {"vllm"}
    assert len({answer["p_yes"] for row in scored for answer in row["answers"]}) > 3
    assert all(0 < answer["p_yes"] < 1 for row in scored for answer in row["answers"])

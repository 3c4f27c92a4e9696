"""A model that does not answer with yes or no stops the build at its first clip, and no row is rejected."""

import json
from math import log

import numpy as np
import pytest

from gigavideo_data.errors import RunError
from gigavideo_data.io import video
from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges.base import Answer
from gigavideo_data.models.judges.watched import CONTROL, WatchedJudge
from gigavideo_data.models.registry import judge_spec
from gigavideo_data.pipeline.execution.worker import Worker
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Judge
from tests.support.openai_server import serving

FRAMES_THWC = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3)).astype(np.uint8)


class Answering:
    """A judge with a given P(yes) per question, 0 for others; it keeps the questions of each call."""

    def __init__(self, **masses: float) -> None:
        self.masses, self.calls = masses, list[list[str]]()

    def answer(self, frames_THWC, fps, asked):
        self.calls.append(asked)
        assert frames_THWC.shape == FRAMES_THWC.shape
        assert fps == 8.0
        return [
            Answer(self.masses.get("control" if one == CONTROL else one, 0.0), 0.0, text="<think>") for one in asked
        ]


def test_a_model_that_never_says_yes_or_no_is_named_with_what_it_says():
    watched = WatchedJudge(Answering(a=0.4), "tiny", 0.5, "logits")
    with pytest.raises(RunError, match=r"begins with '<think>'.*enable_thinking.*readout=text"):
        watched.answer(FRAMES_THWC, 8.0, ["a", "b"])


def test_a_model_that_answers_the_control_question_is_asked_it_once():
    judge = Answering(control=0.9)
    watched = WatchedJudge(judge, "tiny", 0.5, "logits")
    for _ in range(3):
        assert [answer.p_yes for answer in watched.answer(FRAMES_THWC, 8.0, ["a", "b"])] == [0.0, 0.0]
    assert judge.calls.count([CONTROL]) == 1


@pytest.mark.parametrize(("min_mass", "masses"), [(0.5, {"b": 0.6}), (0.0, {}), (0.5, {"a": float("nan")})])
def test_a_model_with_one_usable_answer_is_not_asked_it(min_mass, masses):
    judge = Answering(**masses)
    WatchedJudge(judge, "tiny", min_mass, "logits").answer(FRAMES_THWC, 8.0, ["a", "b"])
    assert judge.calls == [["a", "b"]]


def thinking(request):
    """With probabilities, the mark at which thoughts begin; written, thoughts and then the answer."""
    if "logprobs" not in request:
        return "<think>\nThere is no red in it.\nyes?\n</think>\n\nNo."
    top = [{"token": word, "logprob": log(p), "bytes": None} for word, p in (("<think>", 0.999), ("Yes", 0.0005))]
    return {
        "message": {"role": "assistant", "content": "<think>"},
        "logprobs": {"content": [{**top[0], "top_logprobs": top}], "refusal": None},
    }


@pytest.mark.parametrize("readout", ["logits", "text"])
def test_an_endpoint_that_thinks_stops_the_stage_unless_written_answers_are_read(tmp_path, readout):
    store = Store(tmp_path)
    name = store.keep(video.encode(FRAMES_THWC, 8.0), ".mp4").removesuffix(".mp4")
    inputs = {"video_sha256": name, "questions": ["Is it red?"]}
    with serving(thinking) as server:
        settings, location = judge_spec(Judge(backend="http", model="m", endpoint=server.endpoint, readout=readout))
        task = json.dumps({"engine": settings | location, "rows": [("one", inputs), ("two", inputs)]})
        outcomes = Worker("judge", str(tmp_path), "run", 3)({"task": np.array([task])})
    if readout == "text":
        assert outcomes["kind"] == ["done", "done"]
        assert [answer["p_no"] for answer in (store.get("judge", "one") or {})["answers"]] == [1.0]
    else:
        assert outcomes["kind"] == ["fatal", "fatal"]
        assert all(text.startswith("the judge m does not answer with yes or no") for text in outcomes["message"])
        assert not any(store.has_record("judge", key) for key in ("one", "two"))


def test_thoughts_without_an_end_are_no_answer():
    assert asking.read_text("<think> yes, it is") == Answer(0.0, 0.0)

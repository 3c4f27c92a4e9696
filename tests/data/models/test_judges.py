"""Multimodal judges: the frames and texts that they get, and how their answers are read."""

import base64
import io
import json
import re
from functools import partial
from math import log

import numpy as np
import pytest
from PIL import Image

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges.base import Answer, checked
from gigavideo_data.models.registry import judge_spec, load_engine, writer_spec
from gigavideo_data.pipeline.assemble import judge_id
from gigavideo_data.recipe.recipe import Camera, Counting, Judge, Writer
from tests.support.openai_server import serving

FRAMES_THWC = np.zeros((9, 32, 48, 3), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None] * 25


@pytest.mark.parametrize(
    ("num_frames", "max_frames", "frames"),
    [(9, 4, [0, 3, 5, 8]), (81, 2, [0, 80]), (3, 16, [0, 1, 2, 2]), (4, 16, [0, 1, 2, 3]), (1, 8, [0, 0])],
)
def test_frames_are_even_in_number_and_evenly_spaced(num_frames, max_frames, frames):
    assert asking.even_indices(num_frames, max_frames) == frames


def test_frames_are_made_smaller_and_never_larger():
    assert asking.select_frames(FRAMES_THWC, 4, 24).shape == (4, 16, 24, 3)
    assert asking.select_frames(FRAMES_THWC, 4, 100).shape == (4, 32, 48, 3)
    assert asking.select_frames(FRAMES_THWC, 4, 24)[-1].mean() == 200


@pytest.mark.parametrize(
    ("candidates", "p_yes", "p_no"),
    [
        ([("Yes", 0.5), (" yes", 0.2), ("No", 0.1), ("NO", 0.05), ("The", 0.1)], 0.7, 0.15),
        ([("▁Yes", 0.6), ("Ġno", 0.3)], 0.6, 0.3),
        ([("yesterday", 0.9), ("now", 0.1)], 0.0, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_probabilities_are_summed_over_spellings(candidates, p_yes, p_no):
    answer = asking.read_logprobs((text, log(p)) for text, p in candidates)
    assert answer.p_yes == pytest.approx(p_yes)
    assert answer.p_no == pytest.approx(p_no)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes, it does.", Answer(1, 0)),
        ("**No**", Answer(0, 1)),
        ("I think yes", Answer(0, 0)),
        ("", Answer(0, 0)),
        ("nothing", Answer(0, 0)),
    ],
)
def test_a_written_answer_is_its_first_word(text, answer):
    assert asking.read_text(text) == answer


def likely(p_yes, p_no):
    """The choice of an endpoint that returns probabilities."""
    tops = [{"token": "Yes", "logprob": log(p_yes)}, {"token": "No", "logprob": log(p_no)}]
    top = [{**one, "bytes": None} for one in tops]
    first = {"token": "Yes", "logprob": log(p_yes), "bytes": None, "top_logprobs": top}
    return {"message": {"role": "assistant", "content": "Yes"}, "logprobs": {"content": [first], "refusal": None}}


def judge(server, **settings):
    named = Judge(backend="http", model="tiny", endpoint=server.endpoint, **settings)
    decides, location = judge_spec(named)
    assert server.endpoint not in json.dumps(decides)
    return load_engine("judge", decides | location)


@pytest.mark.parametrize("media", ["video", "images"])
def test_all_questions_follow_the_same_frames(media):
    with serving(lambda _: likely(0.6, 0.3)) as server:
        answers = judge(server, media=media, frames=4, max_side_px=36).answer(
            FRAMES_THWC, 8.0, ["Is it grey?", "Is it black?"]
        )
    assert [a.p_yes for a in answers] == pytest.approx([0.6, 0.6])
    assert [a.p_no for a in answers] == pytest.approx([0.3, 0.3])
    first, second = ([m["content"] for m in request["messages"]] for request in server.requests)
    assert first[0][:-1] == second[0][:-1]  # the beginning that a server can keep
    assert [content[0][-1]["text"].split("\n")[0] for content in (first, second)] == ["Is it grey?", "Is it black?"]
    urls = [part[part["type"]]["url"] for part in first[0][:-1]]
    pictures = [one for url in urls for one in url.split("base64,")[1].split(",")]
    assert len(pictures) == 4
    frames = [np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in pictures]
    assert [frame.shape for frame in frames] == [(24, 36, 3)] * 4
    assert [round(frame.mean() / 25) for frame in frames] == [0, 3, 5, 8]
    assert (server.requests[0]["max_tokens"], server.requests[0]["temperature"]) == (1, 0)


def test_an_endpoint_without_probabilities_serves_hard_answers_only():
    with serving(lambda _: "No.") as server:
        with pytest.raises(RunError, match="readout=text"):
            judge(server).answer(FRAMES_THWC, 8.0, ["Is it grey?"])
        assert judge(server, readout="text").answer(FRAMES_THWC, 8.0, ["Is it grey?"]) == [Answer(0, 1)]
    assert "logprobs" not in server.requests[-1]


@pytest.mark.parametrize(
    ("named", "engine_of"),
    [
        (partial(Judge, backend="transformers"), judge_spec),
        (partial(Judge, backend="vllm"), judge_spec),
        (partial(Writer, backend="vllm"), writer_spec),
        (Counting, judge_spec),
    ],
)
def test_a_folder_is_what_it_holds_and_a_hub_id_its_revision(tmp_path, named, engine_of):
    folders = [tmp_path / place / "judge" for place in ("here", "there")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(folder.parent.name)
    (here, location), (there, _) = (engine_of(named(model=str(folder))) for folder in folders)
    assert here["model"] == there["model"] == "judge"
    assert here["revision"] != there["revision"]
    assert str(tmp_path) not in json.dumps(here)
    assert (location["load"], location["load_revision"]) == (str(folders[0]), None)

    for folder, words in zip(folders, ("Look.", "Think."), strict=True):
        (folder / "config.json").write_text("{}")
        (folder / "chat_template.jinja").write_text(words)
    (here, _), (there, _) = (engine_of(named(model=str(folder))) for folder in folders)
    assert here["revision"] != there["revision"]  # the chat template is part of the model
    decides, location = engine_of(named(model="org/judge", revision="abc"))
    assert (decides["revision"], location["load"], location["load_revision"]) == ("abc", "org/judge", "abc")


def with_logprob(logprob):
    """An answer of the right form whose word Yes has this log-probability."""
    choice = likely(0.6, 0.3)
    choice["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] = logprob
    return choice


@pytest.mark.parametrize("logprob", [float("nan"), float("inf"), 0.7, None, "low"])
def test_a_logprob_that_is_none_is_a_bad_answer_with_what_came(logprob):
    with (
        serving(lambda _: with_logprob(logprob)) as server,
        pytest.raises(RowError, match=re.escape(f"'Yes' is {logprob!r}")) as error,
    ):
        judge(server).answer(FRAMES_THWC, 8.0, ["Is it grey?"])
    assert error.value.reason == "bad_answer"


def test_a_logprob_of_minus_infinity_is_probability_zero():
    with serving(lambda _: with_logprob(float("-inf"))) as server:
        (answer,) = judge(server).answer(FRAMES_THWC, 8.0, ["Is it grey?"])
    assert (answer.p_yes, answer.p_no) == (0.0, pytest.approx(0.3))


@pytest.mark.parametrize("top", [None, []])
def test_logprobs_without_alternatives_are_no_probabilities(top):
    choice = likely(0.6, 0.3)
    choice["logprobs"]["content"][0]["top_logprobs"] = top
    with serving(lambda _: choice) as server, pytest.raises(RunError, match="readout=text"):
        judge(server).answer(FRAMES_THWC, 8.0, ["Is it grey?"])


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Answer(float("nan"), 0.2)], "P(yes) = nan"),
        ([Answer(0.2, float("nan"))], "P(no) = nan"),
        ([Answer(-0.1, 0.2)], "P(yes) = -0.1"),
        ([Answer(0.9, 0.8)], "P(no) = 0.8"),
        ([Answer(0.5, 0.5, {"camera dx": [float("inf")]})], "camera dx is [inf]"),
        ([], "0 answers to 1 questions"),
    ],
)
def test_answers_of_any_judge_are_checked(answers, words):
    with pytest.raises(RowError, match=re.escape(words)):
        checked(answers, ["Is it grey?"])
    assert checked([Answer(1.005, 0.0)], ["Is it grey?"]) == [Answer(1.0, 0.0)]


@pytest.mark.parametrize("media", ["video", "images"])
def test_an_endpoint_is_sent_the_times_of_the_frames_and_the_row_says_where(media):
    with serving(lambda _: likely(0.6, 0.3)) as server:
        for fps in (8.0, 64.0):
            judge(server, media=media, frames=4).answer(FRAMES_THWC, fps, ["Is it grey?"])
        slow, fast = server.requests
    decides, _ = judge_spec(Judge(backend="http", model="tiny", endpoint=server.endpoint, media=media))
    texts = [request["messages"][0]["content"][-1]["text"] for request in (slow, fast)]
    if media == "video":
        facts = {"num_frames": 4, "frames_indices": [0, 3, 5, 8], "total_num_frames": 9}
        assert slow["media_io_kwargs"] == {"video": facts | {"fps": 8.0, "duration": 9 / 8}}
        assert fast["media_io_kwargs"] == {"video": facts | {"fps": 64.0, "duration": 9 / 64}}
        assert texts[0] == texts[1]
        assert decides["template"].endswith("times in media_io_kwargs")
    else:
        assert "media_io_kwargs" not in slow
        assert "of one video of 1.12 s, at 0.00, 0.38, 0.62, 1.00 s." in texts[0]
        assert "at 0.00, 0.05, 0.08, 0.12 s." in texts[1]
        assert texts[0].endswith("Answer with one word, yes or no.")
        assert decides["template"].endswith("times in text")


def test_a_specialist_is_known_by_the_version_of_its_rule_and_not_by_its_source():
    camera, _ = judge_spec(Camera())
    assert camera["revision"] == "camera-2"
    assert judge_id(camera) == "opencv@camera-2"
    counting, location = judge_spec(Counting(model="org/owl", revision="abc"))
    assert (counting["revision"], location["load_revision"]) == ("abc", "abc")
    assert judge_id(counting) == "org/owl@abc+counting-2"
    assert judge_id({"model": "org/owl", "revision": "abc"}) == "org/owl@abc"  # as in sets of before, which keep it

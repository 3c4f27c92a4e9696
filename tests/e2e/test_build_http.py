"""A whole build whose texts come from an OpenAI-compatible endpoint, scripted to speak the miniature's language."""

import base64
import io
import json
import re
from collections import Counter
from math import log
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.io import video
from gigavideo_data.miniature.clips import RenderedClips
from gigavideo_data.miniature.grammar import describe, sample_scene
from gigavideo_data.miniature.judge import MiniatureJudge
from gigavideo_data.miniature.questions import ASK
from gigavideo_data.miniature.world import render
from gigavideo_data.miniature.writer import GrammarWriter
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from tests.support.openai_server import form, serving
from tests.support.workspace import Workspace

pytestmark = pytest.mark.timeout(900)
DIMENSIONS = ("motion_order_understanding", "instance_preservation", "camera_motion")
CHANGES: dict[str, Any] = {
    "dimensions": f"[{', '.join(DIMENSIONS)}]",
    "prompts__per_call": "3",
    "eval_prompts__per_dimension": "3",
    "writer__backend": "http",
    "writer__model": "scripted",
    "judge__backend": "http",
    "judge__model": "seeing",
    "judge__frames": "17",
    "specialists__camera": "{}",
    "generators": "[{share: 2.0}, {steps: 10}]",
}


def seeing(content):
    """A multimodal model that knows the miniature: it answers from the pictures that were sent, with probabilities."""
    pictures = content[0]["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
    frames_THWC = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in pictures])
    question = content[-1]["text"].split("\n")[0]
    (answer,) = MiniatureJudge({}).answer(frames_THWC, 8.0, [question])
    tops = [
        {"token": word, "logprob": log(p), "bytes": None} for word, p in (("Yes", answer.p_yes), ("No", answer.p_no))
    ]
    return {
        "message": {"role": "assistant", "content": "Yes"},
        "logprobs": {"content": [{**tops[0], "top_logprobs": tops}], "refusal": None},
    }


def scripted(request):
    """A language model that knows the miniature: it finds out what is asked for as a real one would, by reading."""
    if request["model"] == "seeing":
        return seeing(request["messages"][0]["content"])
    said, grammar = "\n".join(message["content"] for message in request["messages"]), GrammarWriter({})
    dimension = next((name for name in ASK if load_dimension(name).definition.strip() in said), "")
    prompt = next(message["content"] for message in request["messages"] if message["role"] == "user")
    if form(request) == "Drafts":
        wanted = int(re.findall(r"Write (\d+) new", said)[-1])
        drafts = grammar.prompts(dimension, wanted, request["seed"], "train")["prompts"]
        for draft in drafts:
            draft["objects"] = re.findall(r"circles?|bars?|pillars?", draft["prompt"])[:1]
        return json.dumps({"prompts": drafts})
    if form(request) == "Verdicts":
        return json.dumps({"impossible": [1] if request["seed"] % 5 == 0 else []})
    if form(request) == "Extended":
        return json.dumps(grammar.extend(prompt, 0, 0))
    if "four" in prompt or "five" in prompt:
        return "I would rather talk about the weather."
    return json.dumps(grammar.questions(prompt, dimension))


def filmed(folder, name, frames_THWC):
    """A file as others make them: another size, another frame rate."""
    larger_THWC = np.stack([cv2.resize(frame, (96, 64)) for frame in frames_THWC]).repeat(2, 0)
    (folder / f"{name}.mp4").write_bytes(video.encode(larger_THWC, 16.0))


def real_clips(folder):
    """A table in Koala-36M's columns and its clips, of which two cannot be used."""
    folder.mkdir()
    rows = []
    for index in range(6):
        caption, data, _ = RenderedClips({}).clip(index, 0)
        rows.append({"videoID": f"real_{index}", "timestamp": "['0:00:00', '0:00:02']", "caption": caption})
        if index:
            filmed(folder, f"real_{index}", video.decode(data).frames_THWC)
    rows.append(rows[-1] | {"timestamp": "['0:00:00', '0:00:09']"})
    pq.write_table(pa.Table.from_pylist(rows[::-1]), folder / "real.parquet")
    return {
        "captions__source": "table",
        "captions__table": str(folder / "real.parquet"),
        "captions__clips": str(folder),
        "captions__count": "6",
    }


def made_elsewhere(folder):
    """A table of prompts and files: two samples of one prompt, and a prompt of another dimension."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    scene = sample_scene("motion_order_understanding", rng, "tune")
    for index in range(3):
        filmed(folder, f"video {index}", render(scene, rng))
    prompt = describe(scene, full=True)
    dimensions = [DIMENSIONS[0], DIMENSIONS[0], "mechanics"]
    rows = [{"prompt": prompt, "file": f"video {index}.mp4", "dimension": d} for index, d in enumerate(dimensions)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "elsewhere.parquet")
    where = f"{{model: elsewhere-1, table: '{folder}/elsewhere.parquet', clips: '{folder}'}}"
    return {"imports": f"[{where}]"}


def test_a_build_through_an_endpoint_adds_up_and_is_made_once(tmp_path):
    workspace = Workspace(tmp_path)
    with serving(scripted) as server:
        server.faults = [500, 429, "drop"]
        places: dict[str, Any] = {"writer__endpoint": server.endpoint, "judge__endpoint": server.endpoint}
        changes = CHANGES | places | real_clips(tmp_path / "real") | made_elsewhere(tmp_path / "elsewhere")
        changes |= {"limits__max_rejected": "0.9"}
        code, said = workspace.build(**changes)
        assert code == 0, said
        assert "rejected: " in said
        asked = len(server.requests)
        before = workspace.files()
        assert workspace.build(**changes)[0] == 0
        assert (len(server.requests), workspace.files()) == (asked, before)

    verify_folder(tmp_path / "out")
    manifest = workspace.manifest()
    assert all(line["in"] == line["out"] + sum(line["rejected"].values()) for line in manifest["ledger"])
    assert server.endpoint.split("/")[2] not in json.dumps(manifest)
    assert str(tmp_path) not in json.dumps(manifest)
    rows: list[dict[str, Any]] = workspace.rows()
    made_by = {(row["generator"]["backend"], row["generator"]["steps"]) for row in rows if row["generator"]}
    assert made_by == {("diffusers", 20), ("diffusers", 10), ("files", None)}
    assert {row["source"] for row in rows} == {"synthetic", "twin", "real"}
    assert len({row["reward"] for row in rows}) > 3
    assert {(row["height"], row["fps"]) for row in rows} == {(48, 8.0)}
    assert sorted(row["sample"] for row in rows if (row["generator"] or {}).get("backend") == "files") == [0, 1]
    assert {row["origin"]["dataset"] for row in rows if row["source"] == "real"} == {"real"}
    files = {row["source_file"]["name"] for row in rows if row["source_file"]}
    assert files >= {"video 0.mp4", "video 1.mp4", "real_5.mp4"}
    made_here = [row for row in rows if (row["generator"] or {}).get("backend") == "diffusers"]
    assert all((row["source_file"] is None) == (row in made_here) for row in rows)
    fell = Counter((line["stage"], line["source"], line["reason"]) for line in workspace.rejects())
    assert fell["prompt", "real", "too_long"] == fell["prompt", "real", "no_clip"] == 1
    assert fell["prompt", "twin", "no_clip"] == fell["prompt", "synthetic", "other_dimension"] == 1
    judges = {judge["id"].split("@")[0]: judge for row in rows for judge in row["judges"]}
    assert set(judges) == {"seeing", "opencv", "pixels"}
    assert judges["seeing"]["frames"] == 17
    who = {(a["dimension"], a["judge"].split("@")[0]) for row in rows for a in row["answers"]}
    assert {judge for dimension, judge in who if dimension == "camera_motion"} == {"opencv"}
    assert {judge for dimension, judge in who if dimension != "camera_motion"} == {"seeing"}
    readings = {m["name"] for row in rows for m in row["measurements"]}
    assert "camera dx" in readings
    assert sum(count for (stage, _, reason), count in fell.items() if (stage, reason) == ("questions", "bad_form")) > 0


def test_an_endpoint_that_is_not_there_ends_the_build_with_what_to_do(tmp_path):
    with serving(scripted) as server:
        pass
    places: dict[str, Any] = {"writer__endpoint": server.endpoint, "judge__endpoint": server.endpoint}
    code, said = Workspace(tmp_path).build(**CHANGES, **places)
    assert code == 1
    assert "the endpoint cannot be reached" in said
    assert "same command again" in said
    assert "Traceback" not in said

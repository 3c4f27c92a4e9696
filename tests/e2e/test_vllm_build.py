"""A whole build with vLLM behind texts and judge."""

from math import log
from typing import Any

import numpy as np
import pytest

from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.io import video
from gigavideo_data.models.registry import judge_spec, load_engine
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Judge
from gigavideo_data.scoring.rewards import score
from tests.support import parrot, qwen_vl
from tests.support.vllm_here import ENVIRONMENT, SETTINGS
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
CLOSE = 1e-4  # of log P and reward; rewards of a random judge lie close together too


def changes(part: str, model: Any, **settings: Any) -> dict[str, Any]:
    vllm = {f"vllm__{name}": value for name, value in (SETTINGS | {"max_model_len": 2048}).items()}
    named = {"backend": "vllm", "model": model, **settings, **vllm}
    return {
        f"{part}__{name}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in named.items()
    }


def test_vllm_writes_and_judges_a_whole_set_as_transformers_would_judge_it(tmp_path):
    judge = qwen_vl.build("qwen3_vl", tmp_path / "judge")
    workspace = Workspace(tmp_path / "work")
    code, said = workspace.build(
        faults=ENVIRONMENT,
        **changes("writer", parrot.build(tmp_path / "writer"), temperature=0.0, max_tokens=512),
        **changes("judge", judge, frames=4, min_mass=0.0),
        dimensions=f"[{parrot.DIMENSION}]",
        prompts__per_dimension="1",
        prompts__sift="false",
        eval_prompts__per_dimension="0",  # it knows one prompt, and training must not have an evaluation's
        samples_per_prompt="3",
        check__videos="3",
    )
    assert code == 0, said
    verify_folder(workspace.folder / "out")
    assert all(line["in"] == line["out"] + sum(line["rejected"].values()) for line in workspace.manifest()["ledger"])
    rows = [row for row in workspace.rows() if row["source"] != "real"]
    assert {row["source"] for row in rows} == {"synthetic", "twin"}
    assert {answer["question"] for row in rows for answer in row["answers"]} == {q["question"] for q in parrot.ASKED}

    named = Judge(backend="transformers", model=str(judge), frames=4, min_mass=0.0)
    settings, location = judge_spec(named)
    reference = load_engine("judge", settings | location)
    store = Store(workspace.folder / "store")
    for row in rows:
        clip = video.decode(store.blob(f"{row['video_sha256']}.mp4"))
        there = reference.answer(clip.frames_THWC, clip.fps, [answer["question"] for answer in row["answers"]])
        for here, other in zip(row["answers"], there, strict=True):
            assert log(here["p_yes"]) == pytest.approx(log(other.p_yes), abs=CLOSE)
            assert log(here["p_no"]) == pytest.approx(log(other.p_no), abs=CLOSE)
        answers = [{**q, "p_yes": a.p_yes, "p_no": a.p_no} for q, a in zip(parrot.ASKED, there, strict=True)]
        assert row["reward"] == pytest.approx(score(answers, "all", 0.0).value, abs=CLOSE)
    assert np.ptp([row["reward"] for row in rows]) > 10 * CLOSE, "one number for all videos would agree with anything"

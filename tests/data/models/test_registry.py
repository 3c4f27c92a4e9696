"""The table of engines: every line names a class that follows the protocol of its kind, and a spec without a model."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from gigavideo_data.miniature.judge import MiniatureJudge
from gigavideo_data.models.registry import (
    judge_spec,
    load_engine,
    needs_actor_pool,
    rows_at_once,
    writer_spec,
)
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.recipe.engines import ENGINES, Engine
from gigavideo_data.recipe.recipe import Camera, Counting, Judge, Writer

METHODS = {
    "writer": "questions",
    "captions": "clip",
    "generator": "generate",
    "judge": "answer",
    "soft judge": "probabilities",
    "features": "features",
}
LINES = [(kind, backend, engine) for kind, of_kind in ENGINES.items() for backend, engine in of_kind.items()]

if TYPE_CHECKING:  # mypy compares the signatures with those of the protocols
    from gigavideo_data.miniature.soft_judge import SoftMiniatureJudge
    from gigavideo_data.miniature.writer import GrammarWriter
    from gigavideo_data.models.features.autoencoder import AutoencoderFeatures
    from gigavideo_data.models.features.base import ClipFeatures
    from gigavideo_data.models.features.network import NetworkFeatures
    from gigavideo_data.models.generators.base import VideoGenerator
    from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator
    from gigavideo_data.models.generators.split_generator import SplitGenerator
    from gigavideo_data.models.judges.base import Judge as JudgeProtocol
    from gigavideo_data.models.judges.camera import CameraJudge, CameraQuestions
    from gigavideo_data.models.judges.counting import CountingJudge, CountingQuestions
    from gigavideo_data.models.judges.http_judge import HttpJudge
    from gigavideo_data.models.judges.soft import SoftJudge
    from gigavideo_data.models.judges.transformers_judge import TransformersJudge
    from gigavideo_data.models.judges.vllm_judge import VllmJudge
    from gigavideo_data.models.judges.watched import WatchedJudge
    from gigavideo_data.models.llm.base import PromptWriter, SpecialistQuestions, TextModel
    from gigavideo_data.models.llm.http_model import HttpModel
    from gigavideo_data.models.llm.vllm_model import VllmModel
    from gigavideo_data.models.llm.writer import LanguageWriter

    GENERATORS: list[type[VideoGenerator]] = [DiffusersGenerator, SplitGenerator]
    FEATURES: list[type[ClipFeatures]] = [AutoencoderFeatures, NetworkFeatures]
    JUDGES: list[type[JudgeProtocol]] = [MiniatureJudge, CameraJudge, CountingJudge, HttpJudge, TransformersJudge]
    JUDGES += [VllmJudge, WatchedJudge]
    SOFT_JUDGES: list[type[SoftJudge]] = [SoftMiniatureJudge, TransformersJudge]
    WRITERS: list[type[PromptWriter]] = [GrammarWriter, LanguageWriter]
    SPECIALISTS: list[type[SpecialistQuestions]] = [CameraQuestions, CountingQuestions]
    MODELS: list[type[TextModel]] = [HttpModel, VllmModel]


@pytest.mark.parametrize(("kind", "backend", "engine"), LINES, ids=[f"{kind} {name}" for kind, name, _ in LINES])
def test_every_line_names_what_exists(kind: str, backend: str, engine: Engine):
    for module, name in filter(None, (engine.spec, engine.subjects, engine.held_out)):
        assert getattr(importlib.import_module(module), name)
    if (kind, backend) != ("judge", "vllm"):  # its module cannot be imported without vLLM
        for module, name in filter(None, (engine.cls, engine.split_cls)):
            assert hasattr(getattr(importlib.import_module(module), name), METHODS[kind])


def test_specs_import_no_model():
    code = """
import sys
from gigavideo_data.models.registry import judge_spec, writer_spec
from gigavideo_data.recipe.recipe import Camera, Counting, Judge, Writer
for judge in (Judge(), Camera(), Counting(revision="a"), Judge(backend="vllm", model="a/b"),
              Judge(backend="http", model="a", endpoint="http://h/v1")):
    judge_spec(judge)
writer_spec(Writer()), writer_spec(Writer(backend="http", endpoint="http://h/v1"))
print(sorted({"torch", "transformers", "diffusers", "vllm", "ray", "openai"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_line_of_the_table_adds_a_judge(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ENGINES["judge"], "mine", replace(ENGINES["judge"]["miniature"], spec=(__name__, "spec_of")))
    judge = Judge(backend="mine", model="a/b")
    assert judge_spec(judge).identity == {"backend": "mine", "model": "a/b"}
    with pytest.raises(ValidationError, match="settings"):  # only a plug-in has them
        Judge.model_validate({"backend": "mine", "model": "a/b", "settings": {"gain": 1.5}})
    assert isinstance(load_engine("judge", judge_spec(judge).settings), MiniatureJudge)


def spec_of(judge: Judge) -> EngineSpec:
    return EngineSpec({"backend": judge.backend, "model": judge.model}, {})


def test_identity_and_location_share_no_key():
    for spec in (
        judge_spec(Camera()),
        judge_spec(Counting(revision="abc")),
        judge_spec(Judge(backend="vllm", model="a/b")),
        writer_spec(Writer(backend="http", endpoint="http://secret-host/v1")),
    ):
        assert not spec.identity.keys() & spec.location.keys()
        assert "secret-host" not in json.dumps(spec.identity)
        assert spec.settings == {**spec.identity, **spec.location}


def test_a_plugin_is_held_by_a_pool_of_workers():
    assert needs_actor_pool("judge", "some-plugin")
    assert rows_at_once("judge", "some-plugin") == 1
    assert not needs_actor_pool("judge", "miniature")
    assert rows_at_once("writer", "vllm") == 64

"""The judge by vLLM with a stand-in for the package vllm: how videos are named, and how batches follow each other."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from math import log
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gigavideo_data.io import video
from gigavideo_data.pipeline.execution.worker import Worker
from gigavideo_data.pipeline.store import Store

JUDGE = "gigavideo_data.models.judges.vllm_judge"
MODULES = (JUDGE, "gigavideo_data.models.llm.vllm_engine")
ENGINE = {"backend": "vllm", "model": "org/judge", "load": "org/judge", "load_revision": "a" * 40, "frames": 4}
ENGINE |= {"max_side_px": 64, "vllm": {"max_model_len": None}, "gpus": 1, "min_mass": 0.5}
FRAMES_THWC = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
BATCH = 8


class Engine:
    """Stands for `vllm.LLM`: P(yes) is the brightness of a video; it must not be entered by two threads."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.in_use = threading.Lock()
        self.before_first = lambda: None

    def generate(self, prompts: list[dict[str, Any]], sampling: Any, *, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        assert sampling.max_tokens == 1
        assert self.in_use.acquire(blocking=False), "entered by two threads"
        if not self.batches:
            self.before_first()
        self.batches.append(prompts)
        self.in_use.release()
        return [self._output(prompt["multi_modal_data"]["video"][0]) for prompt in prompts]

    def _output(self, shown_THWC: np.ndarray) -> Any:
        p_yes = float(shown_THWC.mean()) / 255
        logprobs = {1: SimpleNamespace(logprob=log(p_yes)), 2: SimpleNamespace(logprob=log(1 - p_yes))}
        return SimpleNamespace(outputs=[SimpleNamespace(logprobs=[logprobs], text="Yes")])


class Processor:
    """Stands for the processor of a model that takes a video."""

    video_processor = None
    tokenizer = SimpleNamespace(encode=lambda way, **_: {"yes": [1], "no": [2]}.get(way, [0, 0]))

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
        return "".join(part.get("text", "<video>") for message in messages for part in message["content"])


@pytest.fixture
def engine(monkeypatch):
    """The engine that the judge loads."""
    made = Engine()
    parts: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": lambda **_: made, "SamplingParams": SimpleNamespace},
        "vllm.exceptions": {"VLLMClientError": KeyError, "VLLMServerError": KeyError},
        "vllm.platforms": {"current_platform": SimpleNamespace(is_cpu=lambda: False)},
    }
    for name, attributes in parts.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    forget()
    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", lambda *_, **__: Processor())
    yield made
    forget()


def forget() -> None:
    """The modules of vLLM are imported anew with another vllm."""
    for name in MODULES:
        sys.modules.pop(name, None)


def ids(engine: Engine) -> list[str]:
    return [prompt["multi_modal_uuids"]["video"] for batch in engine.batches for prompt in batch]


def test_a_video_is_hashed_once_for_all_its_questions(engine, monkeypatch):
    vllm_judge = import_module(JUDGE)
    calls: list[Any] = []
    media_id = vllm_judge.media_id

    def counted(*parts: Any) -> str:
        calls.append(parts)
        return media_id(*parts)

    monkeypatch.setattr(vllm_judge, "media_id", counted)
    answers = vllm_judge.VllmJudge(ENGINE).answer(FRAMES_THWC, 8.0, ["Is it?", "Was it?", "Will it be?"])
    assert len(answers) == 3
    assert len(calls) == 1
    assert len(ids(engine)) == 3
    assert len(set(ids(engine))) == 1


def test_whatever_changes_the_tokens_of_a_video_changes_its_id_and_nothing_else_does(engine):
    load = import_module(JUDGE).VllmJudge
    one_pixel = FRAMES_THWC.copy()
    one_pixel[0, 0, 0, 0] ^= 1
    judge = load(ENGINE)
    clips = [
        *((FRAMES_THWC, 8.0), (one_pixel, 8.0), (FRAMES_THWC[::-1], 8.0), (FRAMES_THWC, 4.0)),
        *((FRAMES_THWC[:3], 8.0), (FRAMES_THWC.reshape(5, 16, 64, 3), 8.0)),
    ]
    for frames_THWC, fps in clips:
        judge.answer(frames_THWC, fps, ["Is it?"])
    load(ENGINE | {"max_side_px": 16}).answer(FRAMES_THWC, 8.0, ["Is it?"])
    load(ENGINE | {"frames": 2}).answer(FRAMES_THWC, 8.0, ["Is it?"])
    assert len(set(ids(engine))) == len(clips) + 2
    judge.answer(FRAMES_THWC.copy(), 8.0, ["Was it?"])
    assert ids(engine)[-1] == ids(engine)[0]


def test_the_next_batch_is_prepared_while_one_runs_and_no_two_threads_enter_the_engine(tmp_path, engine, monkeypatch):
    vllm_judge = import_module(JUDGE)
    store = Store(tmp_path)
    store.create()
    clips = [np.full((2, 32, 32, 3), 100 + 5 * number, np.uint8) for number in range(2 * BATCH)]
    names = [store.keep(video.encode(frames_THWC, 8.0), ".mp4").removesuffix(".mp4") for frames_THWC in clips]
    media_id, all_prepared = vllm_judge.media_id, threading.Event()
    prepared: list[Any] = []

    def counted(*parts: Any) -> str:
        prepared.append(parts)
        if len(prepared) == len(clips):
            all_prepared.set()
        return media_id(*parts)

    def wait() -> None:
        assert all_prepared.wait(30), "the next batch is not prepared before this one ends"

    monkeypatch.setattr(vllm_judge, "media_id", counted)
    engine.before_first = wait
    rows = [(f"key-{number:02}", {"video_sha256": name, "questions": ["Is it?"]}) for number, name in enumerate(names)]
    worker = Worker("judge", str(tmp_path), "run", 3)
    tasks = [json.dumps({"engine": ENGINE, "rows": rows[at : at + BATCH]}) for at in (0, BATCH)]
    with ThreadPoolExecutor(2) as pool:  # as many calls at once as Ray makes of a worker with such an engine
        outcomes = list(pool.map(lambda task: worker({"task": np.array([task])}), tasks))
    assert [outcome["kind"] for outcome in outcomes] == [["done"] * BATCH] * 2
    sizes = [len(batch) for batch in engine.batches]
    assert (sum(sizes), max(sizes)) == (len(clips), BATCH)
    for number, (key, _) in enumerate(rows):
        record = store.get("judge", key)
        assert record is not None
        assert record["answers"][0]["p_yes"] == pytest.approx((100 + 5 * number) / 255, abs=0.01)

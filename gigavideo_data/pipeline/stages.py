"""The stages that need an engine: each is a function of (engine, inputs, store) that returns a record and blobs.

Rows reach them through `execution/row_adapter.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gigavideo_data.errors import RowError
from gigavideo_data.io import video
from gigavideo_data.io.hashing import content_key
from gigavideo_data.models.features.base import ClipFeatures
from gigavideo_data.models.generators.base import Generated, Shape, VideoGenerator
from gigavideo_data.models.generators.base import checked as checked_video
from gigavideo_data.models.generators.profiles import batch_size_of, profile_of
from gigavideo_data.models.judges.base import Judge
from gigavideo_data.models.judges.base import checked as checked_answers
from gigavideo_data.models.llm.base import PromptWriter, QuestionWriter
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.pipeline import clip_measures
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.engines import Kind
from gigavideo_data.scoring import pixels

Record = dict[str, Any]
Blobs = dict[str, bytes]

LATENTS_FILE = "latents.safetensors"  # blob of a generated video, beside its clip


@dataclass(frozen=True)
class Batch:
    """How a stage processes one or several rows in one call of the engine. Alone, a row must have the same result.

    Attributes:
        call: the engine's call; from engine, inputs of several rows and store to one result per row, in order.
        finish: the work on one row after it, from that result and the row's inputs.
    """

    call: Callable[[Any, Sequence[dict[str, Any]], Store], Sequence[Any]]
    finish: Callable[[Any, dict[str, Any]], tuple[Record, Blobs]]


@dataclass(frozen=True)
class Stage:
    """How a stage is run.

    Attributes:
        version: part of every key; raised when the stage's meaning changes.
        engine: kind of engine (see `recipe.engines`).
        run: the work on one row, or how one or several rows are processed together.
        rows_per_task: rows handed to a worker at once; 1 where one row takes long.
    """

    version: int
    engine: Kind
    run: Callable[[Any, dict[str, Any], Store], tuple[Record, Blobs]] | Batch
    rows_per_task: int = 1

    @property
    def batch(self) -> Batch | None:
        """How rows are processed together; None of a stage that has one row per call."""
        return self.run if isinstance(self.run, Batch) else None


@dataclass(frozen=True)
class Item:
    """The work of one stage on one row. The first three and the batch size decide the result, and so make the key.

    Attributes:
        stage: its name in `STAGES`.
        engine: settings of the engine.
        inputs: JSON-able arguments of the stage.
        local: where this machine has what the settings name; published nowhere.
        implied: inputs that follow from the settings, such as the shape of a model's videos.
        row_id: names the row in the log.
        batch_size: rows of one call of the engine; the rounding of sums depends on it.
    """

    stage: str
    engine: dict[str, Any]
    inputs: dict[str, Any]
    local: dict[str, Any] = field(default_factory=dict)
    implied: dict[str, Any] = field(default_factory=dict)
    row_id: str = ""
    batch_size: int = 1

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides the result; names the record in the store."""
        version = STAGES[self.stage].version
        decides = {"stage": self.stage, "version": version, "engine": self.engine, "inputs": self.inputs}
        return content_key(decides | ({"batch_size": self.batch_size} if self.batch_size > 1 else {}))


def synthesis(spec: EngineSpec, prompt: str, seed: int, row_id: str = "") -> Item:
    """One video of a generator; a plug-in chooses the shape of its videos."""
    load = spec.location.get("load")
    implied = {"shape": asdict(profile_of(load).video_shape)} if load else {}
    inputs = {"prompt": prompt, "seed": seed}
    return Item("synthesize", spec.identity, inputs, spec.location, implied, row_id, batch_size_of(spec.settings))


def measurement(spec: EngineSpec, video_sha256: str) -> Item:
    """Features, motion, brightness and length of one clip of the store."""
    batch_size = profile_of(spec.location["load"]).batch_size if spec.identity["backend"] == "vae" else 1
    inputs = {"video_sha256": video_sha256}
    return Item("measure", spec.identity, inputs, spec.location, batch_size=batch_size)


def _prompt(writer: PromptWriter, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    return writer.prompts(**inputs), {}


def _caption(clips: Any, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    caption, data, origin = clips.clip(**inputs)
    described = {"caption": caption, "origin": origin, "source_file": clips.source_file(**inputs)}
    return {**described, **_video_facts(data)}, {"video.mp4": data}


def _extend(writer: PromptWriter, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    return writer.extend(**inputs), {}


def _questions(writer: QuestionWriter, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    record = writer.questions(**inputs)
    texts, expected = ([q[key] for q in record["questions"]] for key in ("question", "expected"))
    if len(set(texts)) != len(texts):
        raise RowError(Reason.BAD_QUESTIONS, f"a question is asked twice: {texts}")
    if set(expected) - {"yes", "no"}:
        raise RowError(Reason.BAD_QUESTIONS, f"an expected answer is neither yes nor no: {expected}")
    if writer.both_answers and len(set(expected)) == 1:
        raise RowError(
            Reason.BAD_QUESTIONS, "both answers must be expected somewhere, else a judge that always agrees is right"
        )
    return record, {}


def _generate(generator: VideoGenerator, rows: Sequence[dict[str, Any]], store: Store) -> Sequence[Generated]:
    return generator.generate([inputs["prompt"] for inputs in rows], [inputs["seed"] for inputs in rows])


def _encode(made: Generated, inputs: dict[str, Any]) -> tuple[Record, Blobs]:
    made = checked_video(made, Shape(**inputs["shape"]) if "shape" in inputs else None)
    data = video.encode(made.frames_THWC, made.fps)
    blobs = {"video.mp4": data}
    if made.latents_CFHW is not None:
        from safetensors.torch import save  # torch is imported only where there are latents

        blobs[LATENTS_FILE] = save({"latents": made.latents_CFHW.contiguous().bfloat16()})
    return _video_facts(data), blobs


def _judge(judge: Judge, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    name = inputs["video_sha256"] + ".mp4"
    clip = video.decode(store.blob(name), name)
    questions = inputs["questions"]
    answers = checked_answers(judge.answer(clip.frames_THWC, clip.fps, questions), questions)
    return {"answers": [{"p_yes": a.p_yes, "p_no": a.p_no, "readings": a.readings} for a in answers]}, {}


def _render(clips: Any, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    data = clips.of_prompt(**inputs)
    return _video_facts(data), {"video.mp4": data}


def _features(
    network: ClipFeatures, rows: Sequence[dict[str, Any]], store: Store
) -> Sequence[tuple[np.ndarray, video.Clip]]:
    names = [inputs["video_sha256"] + ".mp4" for inputs in rows]
    clips = [video.decode(store.blob(name), name) for name in names]
    return list(zip(network.features([clip.frames_THWC for clip in clips]), clips, strict=True))


def _with_motion(found: tuple[np.ndarray, video.Clip], inputs: dict[str, Any]) -> tuple[Record, Blobs]:
    features_D, clip = found
    return {"features": features_D.tolist(), **clip_measures.measure(clip.frames_THWC, clip.fps)}, {}


def _video_facts(data: bytes) -> Record:
    clip = video.decode(data)  # the encoded file is read back before it counts as finished
    num_frames, height, width, _ = clip.frames_THWC.shape
    sha256 = hashlib.sha256(data).hexdigest()
    shape = {"num_frames": num_frames, "height": height, "width": width, "fps": clip.fps}
    return {"video_sha256": sha256, **shape, "pixels": pixels.measure(clip.frames_THWC)}


STAGES: dict[str, Stage] = {
    "prompt": Stage(2, "writer", _prompt),
    "caption": Stage(2, "captions", _caption, rows_per_task=8),
    "extend": Stage(2, "writer", _extend, rows_per_task=32),
    "questions": Stage(2, "writer", _questions, rows_per_task=64),
    "synthesize": Stage(2, "generator", Batch(_generate, _encode)),
    "judge": Stage(1, "judge", _judge, rows_per_task=4),
    "render": Stage(1, "captions", _render, rows_per_task=16),
    "measure": Stage(1, "features", Batch(_features, _with_motion)),
}


def rejection(reason: str, detail: str) -> Record:
    """The record of a rejected row.

    Args:
        reason: a `Reason`, or its word.
        detail: what was wrong with this row.

    Raises:
        ValueError: there is no such reason.
    """
    return {"rejected": Reason(reason).value, "detail": detail}

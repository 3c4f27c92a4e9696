"""The stages of a row's life, and the one adapter through which every row passes.

A stage is a function of (engine, inputs, store) that returns a record and blobs. The adapter gives it its promises: a
finished row is never made twice, an attempt is counted before it is made, and a failed row is data with a reason.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gigavideo_data import pixels, rewards, video
from gigavideo_data.engines import Kind
from gigavideo_data.errors import RowError, RunError
from gigavideo_data.generators.models import profile_of
from gigavideo_data.generators.protocol import Shape, VideoGenerator
from gigavideo_data.generators.protocol import checked as checked_video
from gigavideo_data.judges.protocol import Judge
from gigavideo_data.judges.protocol import checked as checked_answers
from gigavideo_data.llm.protocol import PromptWriter, QuestionWriter
from gigavideo_data.reasons import Reason
from gigavideo_data.store import Store, canonical, content_key

log = logging.getLogger(__name__)

Record = dict[str, Any]
Blobs = dict[str, bytes]

LATENTS_FILE = "latents.safetensors"  # what is kept of a made video besides its clip

# Not the row's fault, and no other row would fare better: the run stops and says so.
FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES)


@dataclass(frozen=True)
class Stage:
    """How a stage is run.

    Attributes:
        version: part of every key; raised when the stage's meaning changes.
        engine: kind of engine (see `engines.ENGINES`), or None for pure arithmetic.
        run: the work on one row.
        rows_per_task: rows handed to a worker at once; 1 where a row is dear.
    """

    version: int
    engine: Kind | None
    run: Callable[[Any, dict[str, Any], Store], tuple[Record, Blobs]]
    rows_per_task: int = 1


@dataclass(frozen=True)
class Item:
    """One row's work in one stage: settings of the engine and JSON-able inputs, which decide the result.

    `local` says where this machine keeps what the settings name; it decides nothing and is published nowhere. `implied`
    are inputs that follow from the settings, such as the shape of a model's videos; the key does not name them.
    """

    stage: str
    engine: dict[str, Any]
    inputs: dict[str, Any]
    local: dict[str, Any] = field(default_factory=dict)
    implied: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Names everything that decides the result."""
        version = STAGES[self.stage].version
        return content_key({"stage": self.stage, "version": version, "engine": self.engine, "inputs": self.inputs})


def synthesis(settings: dict[str, Any], found_at: dict[str, Any], prompt: str, seed: int) -> Item:
    """One video of a generator, as its `EngineSpec` describes it; a plug-in chooses the shape of its videos."""
    implied = {"shape": asdict(profile_of(found_at["load"]).video_shape)} if "load" in found_at else {}
    return Item("synthesize", settings, {"prompt": prompt, "seed": seed}, found_at, implied)


def _prompt(writer: PromptWriter, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    return writer.prompts(**inputs), {}


def _caption(clips: Any, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    caption, data, origin = clips.clip(**inputs)
    told = {"caption": caption, "origin": origin, "source_file": clips.source_file(**inputs)}
    return {**told, **_video_facts(data)}, {"video.mp4": data}


def _extend(writer: PromptWriter, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    return writer.extend(**inputs), {}


def _questions(writer: QuestionWriter, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    record = writer.questions(**inputs)
    texts, expected = ([q[key] for q in record["questions"]] for key in ("question", "expected"))
    if len(set(texts)) != len(texts):
        raise ValueError(f"a question is asked twice: {texts}")
    if set(expected) - {"yes", "no"}:
        raise ValueError(f"an expected answer is neither yes nor no: {expected}")
    if writer.both_answers and len(set(expected)) == 1:
        raise ValueError("both answers must be expected somewhere, else a judge that always agrees is right")
    return record, {}


def _synthesize(generator: VideoGenerator, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    shape = Shape(**inputs["shape"]) if "shape" in inputs else None
    made = checked_video(generator.generate(inputs["prompt"], inputs["seed"]), shape)
    data = video.encode(made.frames_THWC, made.fps)
    blobs = {"video.mp4": data}
    if made.latents_CFHW is not None:
        from safetensors.torch import save  # torch loads only where latents are made

        blobs[LATENTS_FILE] = save({"latents": made.latents_CFHW.contiguous().bfloat16()})
    return _video_facts(data), blobs


def _judge(judge: Judge, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    name = inputs["video_sha256"] + ".mp4"
    clip = video.decode(store.blob(name), name)
    questions = inputs["questions"]
    answers = checked_answers(judge.answer(clip.frames_THWC, clip.fps, questions), questions)
    return {"answers": [{"p_yes": a.p_yes, "p_no": a.p_no, "readings": a.readings} for a in answers]}, {}


def _reward(engine: None, inputs: dict[str, Any], store: Store) -> tuple[Record, Blobs]:
    outcome = rewards.score(**inputs)
    return {"value": outcome.value, "status": outcome.status, "reason": outcome.reason}, {}


def _video_facts(data: bytes) -> Record:
    clip = video.decode(data)  # what was written is read back before it counts as made
    num_frames, height, width, _ = clip.frames_THWC.shape
    sha256 = hashlib.sha256(data).hexdigest()
    shape = {"num_frames": num_frames, "height": height, "width": width, "fps": clip.fps}
    return {"video_sha256": sha256, **shape, "pixels": pixels.measure(clip.frames_THWC)}


STAGES: dict[str, Stage] = {
    "prompt": Stage(2, "writer", _prompt),
    "caption": Stage(2, "captions", _caption, rows_per_task=8),
    "extend": Stage(2, "writer", _extend, rows_per_task=32),
    "questions": Stage(2, "writer", _questions, rows_per_task=64),
    "synthesize": Stage(2, "generator", _synthesize),
    "judge": Stage(1, "judge", _judge, rows_per_task=4),
    "reward": Stage(1, None, _reward, rows_per_task=256),
}


def rejection(reason: Reason, detail: str) -> Record:
    """The record of a row that is rejected: its detail is the case at hand."""
    return {"rejected": reason, "detail": detail}


def run_row(
    stage_name: str, key: str, engine: Any, inputs: dict[str, Any], store: Store, run_id: str, limit: int
) -> str:
    """Make one row durable, or its rejection.

    Returns:
        "done", "rejected", or "kept" when the store had it already.

    Raises:
        RunError: the row is not to blame: the store cannot be written (the disk is full, read-only or broken), or the
            engine says that no row would fare better.
    """
    stage = STAGES[stage_name]
    try:
        if store.get(stage_name, key) is not None:
            return "kept"
        while True:
            attempt = store.begin_attempt(stage_name, key, run_id, limit)
            if attempt is None:
                died = rejection("worker_died", "its worker died at every attempt") | {"attempts": limit}
                store.put(stage_name, key, died)
                return "rejected"
            try:
                record, blobs = stage.run(engine, inputs, store)
                canonical(record)  # a record that cannot be written is the row's fault, such as NaN in it
            except RunError:
                store.forget(stage_name, key)  # the attempt was not the row's: ten such runs must not give it up
                raise
            except (ConnectionError, TimeoutError) as error:
                if attempt < limit:
                    continue
                store.put(stage_name, key, _of_error(error, attempt))
                return "rejected"
            except OSError as error:
                if error.errno in FATAL_ERRNOS:
                    raise
                store.put(stage_name, key, _of_error(error, attempt))
                return "rejected"
            except Exception as error:  # noqa: BLE001 - the row adapter: whatever a row does, it becomes data with a reason
                if not isinstance(error, RowError):
                    store.keep_traceback(stage_name, key, error)
                store.put(stage_name, key, _of_error(error, attempt))
                return "rejected"
            store.put(stage_name, key, record, blobs)
            return "done"
    except OSError as error:
        raise RunError(
            f"the store cannot be written ({error.strerror or error}). Free space or name another --store, then run "
            "the same command again: finished rows are kept."
        ) from error


def _of_error(error: Exception, attempts: int) -> Record:
    """The reason that a row error names, else its kind; the message is kept short and free of newlines."""
    reason, detail = type(error).__name__, str(error)
    if isinstance(error, OSError) and error.filename:
        detail = error.strerror or ""  # the path is this machine's own
    if isinstance(error, RowError):
        reason, detail = error.reason, error.detail
    detail = " ".join(detail.encode(errors="replace").decode().split())[:300]  # no lone surrogates: not UTF-8
    return {"rejected": reason, "detail": detail, "attempts": attempts}

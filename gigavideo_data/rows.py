"""The rows of a dataset's tables in Python, one TypedDict per table and nested struct.

`dataset.schema` has the columns with their units, and which of them may be null; a test compares the two.
"""

from __future__ import annotations

from typing import TypedDict

from gigavideo_data.io.atomic import Blob


class RewardEntry(TypedDict):
    """An entry of the column `rewards`."""

    dimension: str
    value: float | None
    status: str
    reason: str | None


class QuestionEntry(TypedDict):
    """An entry of the column `questions` of an evaluation prompt."""

    dimension: str
    question: str
    expected: str
    gate: bool


class AnswerEntry(QuestionEntry):
    """An entry of the column `answers`."""

    p_yes: float
    p_no: float
    readout: str
    judge: str


class MeasurementEntry(TypedDict):
    """An entry of the column `measurements`."""

    dimension: str
    name: str
    values: list[float]
    judge: str


class JudgeEntry(TypedDict):
    """An entry of the column `judges`."""

    id: str
    kind: str
    model: str
    revision: str | None
    frames: int | None
    fps: float | None
    template: str | None


class GeneratorColumn(TypedDict):
    """The column `generator`."""

    backend: str
    model: str
    revision: str | None
    adapter: str | None
    profile: str | None
    scheduler: str | None
    shift: float | None
    steps: int | None
    guidance: float | None
    negative_prompt: str | None
    prompt: str | None
    seed: int | None


class Origin(TypedDict):
    """The column `origin`."""

    dataset: str
    clip: str
    start_s: float | None
    end_s: float | None


class SourceFile(TypedDict):
    """The column `source_file`."""

    name: str
    path: str
    sha256: str


class VideoColumn(TypedDict):
    """The column `video`; before it is written, its bytes are a Blob."""

    bytes: bytes | Blob
    path: str


class VideoFacts(TypedDict):
    """The columns that describe the video."""

    video_sha256: str
    num_frames: int
    height: int
    width: int
    fps: float


class Scores(TypedDict):
    """The columns that another judge or other rules change."""

    status: str
    reason: str | None
    reward: float | None
    rewards: list[RewardEntry]
    answers: list[AnswerEntry]
    measurements: list[MeasurementEntry]
    judges: list[JudgeEntry]


class DatasetRow(VideoFacts, Scores):
    """A row of the configs `default` and `preview` without its video, which most readers do not need."""

    id: str
    prompt_id: str
    pair_id: str | None
    sample: int
    split: str
    source: str
    dimension: str | None
    base_prompt: str
    prompt: str
    generator: GeneratorColumn | None
    origin: Origin | None
    source_file: SourceFile | None
    recipe: str
    license: str


class VideoRow(DatasetRow):
    """A row with its video; None where the dataset withholds it."""

    video: VideoColumn | None


class EvalPrompt(TypedDict):
    """A row of the config `eval_prompts`."""

    prompt_id: str
    dimension: str
    base_prompt: str
    prompt: str
    split: str
    questions: list[QuestionEntry]
    seeds: list[int]


class Reject(TypedDict):
    """A row of the config `rejects`."""

    stage: str
    source: str
    id: str
    reason: str
    detail: str | None
    attempts: int | None


class VaeColumn(TypedDict):
    """The column `vae`."""

    model: str
    revision: str


class LatentsRow(TypedDict):
    """A row of the config `latents`; before it is written, its bytes are a Blob."""

    id: str
    video_sha256: str
    latents: bytes | Blob
    latents_sha256: str
    shape: list[int]
    vae: VaeColumn

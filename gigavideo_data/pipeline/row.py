"""A row while it passes through the stages, before it has the columns of the contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

from gigavideo_data.dataset.schema import file_row_id, prompt_id, row_id
from gigavideo_data.rows import AnswerEntry, MeasurementEntry, Origin, RewardEntry


class AskedQuestion(TypedDict):
    """A yes/no question about a video; `negated` asks for the opposite, for the judge check."""

    question: str
    expected: str  # "yes" or "no"
    gate: bool
    negated: str


@dataclass(frozen=True)
class Row:
    """One row while it passes through the stages.

    Attributes:
        source: synthetic, twin, real or eval.
        base_prompt: the short form.
        dimension: what the prompt was written for; None for captions.
        objects: things that the base prompt names, where its writer lists them.
        variant, sample: numbers of the extended prompt and of the video, from 0.
        eval_split: dev or test, for an evaluation prompt.
        pair_id: joins a real clip with its generated counterparts.
        prompt: the extended form; empty until the stage `extend`.
        asks: the questions of each dimension that the prompt states something of.
        generator: settings of the generator, or {"backend": "files"} for an imported video.
        seed: of the generator.
        clip: record of the stage that made or read the video.
        origin: where a real clip comes from.
        answers, measurements, rewards: what the judge stages found.
        known_id: the id of a row that comes from a dataset.
    """

    source: str
    base_prompt: str
    dimension: str | None = None
    objects: tuple[str, ...] = ()
    variant: int = 0
    sample: int = 0
    eval_split: str | None = None
    pair_id: str | None = None
    prompt: str = ""
    asks: dict[str, list[AskedQuestion]] = field(default_factory=dict)
    generator: dict[str, Any] | None = None
    seed: int = 0
    clip: dict[str, Any] | None = None
    origin: Origin | None = None
    answers: list[AnswerEntry] = field(default_factory=list)
    measurements: list[MeasurementEntry] = field(default_factory=list)
    rewards: list[RewardEntry] = field(default_factory=list)
    known_id: str | None = None

    @property
    def id(self) -> str:
        """The row's id in the dataset once its video is decided; before that, the id of its prompt."""
        if self.known_id:
            return self.known_id
        if self.generator is not None and self.generator["backend"] != "files":
            return row_id(self.prompt, self.generator, self.seed)
        if self.clip is not None:
            return file_row_id(self.prompt, self.clip["video_sha256"])
        return prompt_id(self.prompt or self.base_prompt)

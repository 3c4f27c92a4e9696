"""A row on its way through the stages, before it has the columns of the contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gigavideo_data.schema import file_row_id, prompt_id, row_id


@dataclass(frozen=True)
class Row:
    """One row on its way through the stages.

    `objects` are the things that the base prompt names, if its writer told; `asks` maps each dimension that the prompt
    shows to its questions; `known` is the id of a row that comes from a dataset.
    """

    source: str  # synthetic, twin, real or eval
    base_prompt: str
    dimension: str | None = None
    objects: tuple[str, ...] = ()
    variant: int = 0
    sample: int = 0
    eval_split: str | None = None
    pair_id: str | None = None
    prompt: str = ""
    asks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    generator: dict[str, Any] | None = None
    seed: int = 0
    clip: dict[str, Any] | None = None  # record of the stage that made or took in the video
    origin: dict[str, Any] | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    rewards: list[dict[str, Any]] = field(default_factory=list)
    known: str | None = None

    @property
    def id(self) -> str:
        """The row's name in the dataset, as soon as it has one; before that, its prompt's."""
        if self.known:
            return self.known
        if self.generator is not None and self.generator["backend"] != "files":
            return row_id(self.prompt, self.generator, self.seed)
        if self.clip is not None:
            return file_row_id(self.prompt, self.clip["video_sha256"])
        return prompt_id(self.prompt or self.base_prompt)

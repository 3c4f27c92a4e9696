"""The judges of a run: which one judges each dimension, and the engine that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gigavideo_data.models.registry import judge_spec
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.pipeline.assemble import judge_id
from gigavideo_data.pipeline.stages import Item
from gigavideo_data.recipe.recipe import AnyJudge, Judge, Specialists, judge_of


@dataclass(frozen=True)
class Panel:
    """A judge, and the specialists that judge some of the dimensions in its place."""

    judge: Judge
    specialists: Specialists
    dimensions: tuple[str, ...]

    def judge_of(self, dimension: str) -> AnyJudge:
        """Return the judge of a dimension, which may be another one than the panel's."""
        return judge_of(dimension, self.judge, self.specialists)

    @cached_property
    def _engines(self) -> dict[AnyJudge, EngineSpec]:
        return {judge: judge_spec(judge) for judge in map(self.judge_of, self.dimensions)}

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The settings of all judges, each with the revision that answers now."""
        return [spec.identity for spec in self._engines.values()]

    def settings_of(self, judge: AnyJudge) -> dict[str, Any]:
        """The settings of one judge."""
        return self._engines[judge].identity

    @property
    def ids(self) -> list[str]:
        """The ids of all judges, as in the column `judges`; sorted."""
        return sorted({judge_id(settings) for settings in self.settings})

    def item(self, judge: AnyJudge, video_sha256: str, questions: Iterable[str], row_id: str = "") -> Item:
        """The work of one judge on one video: all its questions together."""
        settings, location = self._engines[judge]
        inputs = {"video_sha256": video_sha256, "questions": list(questions)}
        return Item("judge", settings, inputs, location, row_id=row_id)

"""Which judge scores during training, on which dimensions, and how answers become a reward.

It is the dataset's own judge where it can run in this process, else the one of the setting `judge`. An online strategy
uses the questions of each row and the rules of the dataset; sample clips use the questions of the held-out prompts and
the rules of `gv-data eval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.dataset.manifest import Manifest
from gigavideo_data.errors import RecipeError
from gigavideo_data.hub.pin import pinned_part
from gigavideo_data.models.generators.profiles import named
from gigavideo_data.models.registry import judge_spec
from gigavideo_data.recipe import plugins
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from gigavideo_data.recipe.recipe import AnyJudge, Camera, Judge, Specialists, judge_of, on_the_hub
from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring.rewards import rules_of
from gigavideo_train.config import TrainConfig

SELECT = "Name a multimodal model (a Hub id or a folder) or an installed plug-in with --set judge=MODEL"


@dataclass(frozen=True)
class Scoring:
    """How an online strategy scores a clip.

    Attributes:
        judge: settings of the judge that decide its answers.
        location: where this machine keeps the models of these settings.
        dimensions: those trained, each with its a_d.
        combine: per dimension the rule that combines its answers into one reward.
        min_mass: least P(yes) + P(no) of an answer.
        mean: whether the reward of a row is the mean over all trained dimensions, not that on its own dimension.
    """

    judge: dict[str, Any]
    location: dict[str, Any]
    dimensions: dict[str, float]
    combine: dict[str, str]
    min_mass: float
    mean: bool = False

    def dimensions_of(self, row: DatasetRow) -> dict[str, float]:
        """The dimensions whose mean is the reward of a row, each with its a_d; a twin has no dimension of its own."""
        own = row["dimension"]
        return self.dimensions if self.mean or own is None else {own: self.dimensions[own]}


@dataclass(frozen=True)
class SampleJudge:
    """How the sample clips of a dimension are scored.

    Attributes:
        judge: as in a recipe.
        engine: its settings, and where this machine keeps its models.
        min_mass: least P(yes) + P(no) of an answer.
    """

    judge: AnyJudge
    engine: dict[str, Any]
    min_mass: float


def scoring(rows: list[DatasetRow], manifest: Manifest, config: TrainConfig, trained: Sequence[str]) -> Scoring:
    """Choose the judge of an online strategy.

    Args:
        rows: those trained on; their `answers` name questions and judges.
        manifest: of the dataset.
        config: of the run.
        trained: dimensions.

    Raises:
        RecipeError: the dataset's judge cannot run here, or the one in the settings does not exist.
        HubError: the Hub does not have it.
    """
    dimensions = {name: config.dimension_weights.get(name, 1.0) for name in trained}
    judge, location = judge_spec(pinned_part(_online_judge(rows, manifest, config, set(dimensions))))
    rules = rules_of(manifest)
    combine = {name: rules.combine.get(name) or load_dimension(name).combine for name in dimensions}
    return Scoring(judge, location, dimensions, combine, rules.min_mass, config.reward == "mean")


def sample_judges(manifest: Manifest, config: TrainConfig, trained: Sequence[str]) -> dict[str, SampleJudge]:
    """Choose the judges of sample clips, by trained dimension, as `gv-data eval` does; empty without `judge_samples`.

    Raises:
        RecipeError: one cannot run here, or the one in the settings does not exist.
        HubError: the Hub does not have it.
    """
    if not config.judge_samples:
        return {}
    # Not validated: a dataset keeps only the path of an endpoint.
    general = Judge.model_construct(**manifest["recipe"]["judge"])
    if config.judge:
        judges: dict[str, AnyJudge] = dict.fromkeys(trained, pinned_part(_configured_judge(config.judge, manifest)))
    else:
        specialists = Specialists.model_validate(manifest["recipe"].get("specialists", {}))
        judges = {name: judge_of(name, general, specialists) for name in trained}
        for name, judge in judges.items():
            _check_in_process(name, judge)
    engines = {id(judge): judge_spec(judge) for judge in {id(judge): judge for judge in judges.values()}.values()}
    sample_judges = {}
    for name, judge in judges.items():
        settings, location = engines[id(judge)]  # a judge of the dataset has a commit already
        sample_judges[name] = SampleJudge(judge, settings | location, general.min_mass)
    return sample_judges


def _check_in_process(dimension: str, judge: AnyJudge) -> None:
    """Refuse a judge behind an endpoint, in vLLM, or in a folder: a dataset does not say where these are."""
    if isinstance(judge, Camera) or judge.backend == "miniature":
        return
    if judge.backend not in ("transformers", "counting") or not on_the_hub(judge.model):
        raise RecipeError(
            f"judge_samples: {dimension} is judged by {judge.model} ({judge.backend}) in this dataset, which cannot "
            f"run in this process. {SELECT}, or leave judge_samples out."
        )


def _configured_judge(model: str, manifest: Manifest) -> Judge:
    """The judge in the settings of the run, with frames and readout as in the dataset's recipe."""
    location = named(model)
    if location in plugins.installed("judge"):
        return Judge(backend=location, readout=_judge_settings(manifest).get("readout", "logits"))
    if not on_the_hub(location) and not (Path(location).expanduser() / "config.json").is_file():
        raise RecipeError(
            f"judge: {model!r} is neither a Hub id, nor the folder of a transformers model, nor an installed plug-in"
        )
    return Judge(backend="transformers", model=location, **_judge_settings(manifest))


def _judge_settings(manifest: Manifest) -> dict[str, Any]:
    """Which frames a judge gets and how its answers are read, from the dataset's recipe."""
    judge = manifest["recipe"]["judge"]
    return {name: judge[name] for name in ("frames", "max_side_px", "readout") if name in judge}


def _online_judge(rows: list[DatasetRow], manifest: Manifest, config: TrainConfig, dimensions: set[str]) -> Judge:
    """The judge in the settings, else that of the dataset."""
    if config.judge:
        return _configured_judge(config.judge, manifest)
    used = {(row["id"], a["judge"]) for row in rows for a in row["answers"] if a["dimension"] in dimensions}
    judges = [judge for row in rows for judge in row["judges"] if (row["id"], judge["id"]) in used]
    kinds = {judge["kind"] for judge in judges}
    if kinds == {"miniature"}:
        return Judge()
    models = {(judge["model"], judge["revision"]) for judge in judges}
    if kinds == {"transformers"} and len(models) == 1:
        ((model, revision),) = models
        if on_the_hub(model):
            return Judge(backend="transformers", model=model, revision=revision, **_judge_settings(manifest))
    names = ", ".join(sorted({f"{judge['model']} ({judge['kind']})" for judge in judges})) or "no judge"
    raise RecipeError(
        f"strategy: {config.strategy} needs a judge in this process, and {', '.join(sorted(dimensions))} were judged "
        f"by {names}, which cannot run here. {SELECT}, or train other --dimensions."
    )

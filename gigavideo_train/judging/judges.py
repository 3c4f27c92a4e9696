"""Who is asked while a model trains: which judge, about which dimensions, and how answers become a reward.

It is the dataset's own judge where that can be asked in this process, else the one that the setting `judge` names. An
online strategy asks the questions of each row, by the rules of the dataset; of samples, those of held-out prompts are
asked, by the rules of `gv-data eval`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.hub.pin import pinned_part
from gigavideo_data.models.generators.profiles import named
from gigavideo_data.models.registry import judge_engine
from gigavideo_data.recipe import plugins
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from gigavideo_data.recipe.recipe import AnyJudge, Camera, Judge, Specialists, judge_of, on_the_hub
from gigavideo_train.config import TrainConfig

Row = dict[str, Any]

SELECT = "Name a multimodal model (a Hub id or a folder) or an installed plug-in with --set judge=MODEL"


@dataclass(frozen=True)
class Scoring:
    """How a clip is scored.

    Attributes:
        judge: settings of the judge that decide its answers.
        found_at: where this machine keeps what they name.
        dimensions: those trained, each with its a_d.
        combine: per dimension the rule that makes one reward of its answers.
        min_mass: least P(yes) + P(no) of an answer.
        mean: whether a row's reward is the mean over all dimensions trained, not that on its own dimension.
    """

    judge: dict[str, Any]
    found_at: dict[str, Any]
    dimensions: dict[str, float]
    combine: dict[str, str]
    min_mass: float
    mean: bool = False

    def dimensions_of(self, row: Row) -> dict[str, float]:
        """The dimensions whose mean is a row's reward, each with its a_d; a twin has none of its own."""
        own = row["dimension"]
        return self.dimensions if self.mean or own is None else {own: self.dimensions[own]}


@dataclass(frozen=True)
class SampleJudge:
    """Who judges the samples of a dimension, and how.

    Attributes:
        judge: as a recipe names it.
        engine: its settings, and where this machine keeps what they name.
        min_mass: least P(yes) + P(no) of an answer.
    """

    judge: AnyJudge
    engine: dict[str, Any]
    min_mass: float


def scoring(rows: list[Row], manifest: Mapping[str, Any], config: TrainConfig) -> Scoring:
    """Settle who scores, and how.

    Args:
        rows: those trained on; their `answers` name questions and judges.
        manifest: the dataset's.
        config: the run's.

    Raises:
        RecipeError: the dataset's judge cannot be asked here, or the one in the settings is not to be found.
        HubError: the Hub does not know it.
    """
    wanted = config.dimensions or manifest["dimensions"]
    dimensions = {name: config.dimension_weights.get(name, 1.0) for name in wanted}
    judge, found_at = judge_engine(pinned_part(_judge(rows, manifest, config, set(dimensions))))
    rules = manifest.get("rescored", {})
    return Scoring(
        judge,
        found_at,
        dimensions,
        {name: rules.get("combine", {}).get(name) or load_dimension(name).combine for name in dimensions},
        rules.get("min_mass", manifest["recipe"]["judge"]["min_mass"]),
        config.reward == "mean",
    )


def sample_judges(manifest: Mapping[str, Any], config: TrainConfig) -> dict[str, SampleJudge]:
    """Settle who judges samples, by dimension: whom `gv-data eval` would ask; none if none are to be judged.

    Raises:
        RecipeError: one cannot be asked here, or the one in the settings is not to be found.
        HubError: the Hub does not know it.
    """
    if not config.judge_samples:
        return {}
    # Not validated: of an endpoint, a dataset names the path alone.
    general = Judge.model_construct(**manifest["recipe"]["judge"])
    wanted = config.dimensions or manifest["dimensions"]
    if config.judge:
        judges: dict[str, AnyJudge] = dict.fromkeys(wanted, pinned_part(_named(config.judge, manifest)))
    else:
        specialists = Specialists.model_validate(manifest["recipe"].get("specialists", {}))
        judges = {name: judge_of(name, general, specialists) for name in wanted}
        for name, judge in judges.items():
            _check_in_process(name, judge)
    engines = {id(judge): judge_engine(judge) for judge in {id(one): one for one in judges.values()}.values()}
    found = {}
    for name, judge in judges.items():
        settings, found_at = engines[id(judge)]  # the dataset's has a commit already
        found[name] = SampleJudge(judge, settings | found_at, general.min_mass)
    return found


def _check_in_process(dimension: str, judge: AnyJudge) -> None:
    """Refuse a judge that is served, of vLLM, or a folder: a dataset does not say where that lies."""
    if isinstance(judge, Camera) or judge.backend == "miniature":
        return
    if judge.backend not in ("transformers", "counting") or not on_the_hub(judge.model):
        raise RecipeError(
            f"judge_samples: {dimension} is judged by {judge.model} ({judge.backend}) in this dataset, which cannot be "
            f"asked here. {SELECT}, or leave judge_samples out."
        )


def _named(model: str, manifest: Mapping[str, Any]) -> Judge:
    """The judge that the settings name; it looks and is read as the dataset's recipe says.

    Raises:
        RecipeError: it is not to be found.
    """
    found = named(model)
    if found in plugins.installed("judge"):
        return Judge(backend=found, readout=_told(manifest).get("readout", "logits"))
    if not on_the_hub(found) and not (Path(found).expanduser() / "config.json").is_file():
        raise RecipeError(
            f"judge: {model!r} is neither a Hub id, nor the folder of a transformers model, nor an installed plug-in"
        )
    return Judge(backend="transformers", model=found, **_told(manifest))


def _told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the dataset's recipe says of how its judge looks and is read."""
    judge = manifest["recipe"]["judge"]
    return {name: judge[name] for name in ("frames", "max_side_px", "readout") if name in judge}


def _judge(rows: list[Row], manifest: Mapping[str, Any], config: TrainConfig, dimensions: set[str]) -> Judge:
    """The one that the settings name, else the dataset's."""
    if config.judge:
        return _named(config.judge, manifest)
    asked = {(row["id"], a["judge"]) for row in rows for a in row["answers"] if a["dimension"] in dimensions}
    judges = [judge for row in rows for judge in row["judges"] if (row["id"], judge["id"]) in asked]
    kinds = {judge["kind"] for judge in judges}
    if kinds == {"miniature"}:
        return Judge()
    models = {(judge["model"], judge["revision"]) for judge in judges}
    if kinds == {"transformers"} and len(models) == 1:
        ((model, revision),) = models
        if on_the_hub(model):
            return Judge(backend="transformers", model=model, revision=revision, **_told(manifest))
    names = ", ".join(sorted({f"{judge['model']} ({judge['kind']})" for judge in judges})) or "nobody"
    raise RecipeError(
        f"strategy: {config.strategy} asks a judge while it trains, and {', '.join(sorted(dimensions))} were judged by "
        f"{names}, which cannot be asked here. {SELECT}, or train other --dimensions."
    )

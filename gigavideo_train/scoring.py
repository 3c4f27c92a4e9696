"""What an online strategy asks while it trains: which judge, about which dimensions, and how answers become a reward.

It is the dataset's own judge where that can be asked in this process, else the one that the setting `judge` names; the
questions are those of each row, the rules those of the dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.dimensions.catalogue import load_dimension
from gigavideo_data.engines import judge_engine
from gigavideo_data.errors import RecipeError
from gigavideo_data.generators.models import named
from gigavideo_data.pinned import pinned_part
from gigavideo_data.recipe import Judge, on_the_hub
from gigavideo_train.config import TrainConfig

Row = dict[str, Any]


@dataclass(frozen=True)
class Scoring:
    """How a clip is scored.

    Attributes:
        judge: settings of the judge that decide its answers.
        found_at: where this machine keeps what they name.
        dimensions: those trained, each with its a_d.
        combine: per dimension the rule that makes one reward of its answers.
        min_mass: least P(yes) + P(no) of an answer.
    """

    judge: dict[str, Any]
    found_at: dict[str, Any]
    dimensions: dict[str, float]
    combine: dict[str, str]
    min_mass: float


def scoring(rows: list[Row], manifest: dict[str, Any], config: TrainConfig) -> Scoring:
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
    )


def _judge(rows: list[Row], manifest: dict[str, Any], config: TrainConfig, dimensions: set[str]) -> Judge:
    """The one that the settings name, else the dataset's."""
    told = manifest["recipe"]["judge"]
    shown = {name: told[name] for name in ("frames", "max_side_px") if name in told}
    if config.judge:
        model = named(config.judge)
        if not on_the_hub(model) and not (Path(model).expanduser() / "config.json").is_file():
            raise RecipeError(f"judge: {config.judge!r} is neither a Hub id nor the folder of a transformers model")
        return Judge(backend="transformers", model=model, **shown)
    asked = {(row["id"], a["judge"]) for row in rows for a in row["answers"] if a["dimension"] in dimensions}
    judges = [judge for row in rows for judge in row["judges"] if (row["id"], judge["id"]) in asked]
    kinds = {judge["kind"] for judge in judges}
    if kinds == {"miniature"}:
        return Judge()
    models = {(judge["model"], judge["revision"]) for judge in judges}
    if kinds == {"transformers"} and len(models) == 1:
        ((model, revision),) = models
        if on_the_hub(model):
            return Judge(backend="transformers", model=model, revision=revision, **shown)
    names = ", ".join(sorted({f"{judge['model']} ({judge['kind']})" for judge in judges})) or "nobody"
    raise RecipeError(
        f"strategy: {config.strategy} asks a judge while it trains, and {', '.join(sorted(dimensions))} were judged by "
        f"{names}, which cannot be asked here. Name a multimodal model, a Hub id or a folder, with --set judge=MODEL, "
        "or train other --dimensions."
    )

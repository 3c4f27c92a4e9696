"""Datasets of the proof: a recipe of the miniature with other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gigavideo_data.cli import app

COMMON = {
    "prompts.per_dimension": 204,  # all combinations of the focus
    "prompts.variants": 3,
    "validation_share": 0,
    "check.videos": 0,
}
RECIPE = "quickstart-all"  # whose values are replaced; all of its models are the miniature's


def build(out: Path, store: Path, dimensions: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Build a dataset, or finish an interrupted build.

    Args:
        out: folder of the dataset.
        store: folder of finished rows, shared by all builds.
        dimensions: of the recipe.
        settings: key of the recipe -> value.
    """
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    places = ["--out", str(out), "--store", str(store)]
    app(["build", "--recipe", RECIPE, "--dimensions", ",".join(dimensions), *places, *options], standalone_mode=False)

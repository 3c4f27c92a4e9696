"""Which module trains which diffusers pipeline: a literal table. The protocol is `Family` in `base.py`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import cast

from gigavideo_data.errors import RecipeError
from gigavideo_train.models.base import Family

FAMILY_MODULES = {
    "WanPipeline": "gigavideo_train.models.wan",
    "LTXPipeline": "gigavideo_train.models.ltx",
}


def pipeline_class(folder: Path) -> str:
    """Class name of the diffusers pipeline in a folder.

    Raises:
        RecipeError: pipelines of this class cannot be trained.
    """
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    name = index.get("_class_name")
    if name not in FAMILY_MODULES:
        raise RecipeError(f"--model {folder.name}: a {name} cannot be trained yet, only {', '.join(FAMILY_MODULES)}")
    if any(index.get("transformer_2") or ()):
        raise RecipeError(f"--model {folder.name}: a model with two experts cannot be trained yet; name one with one")
    return name


def load_family(folder: Path) -> Family:
    """The module that trains the pipeline in a folder.

    Raises:
        RecipeError: pipelines of this class cannot be trained.
    """
    return cast(Family, importlib.import_module(FAMILY_MODULES[pipeline_class(folder)]))

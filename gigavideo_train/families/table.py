"""Which module trains which diffusers pipeline: a literal table."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

from gigavideo_data.errors import RecipeError

FAMILIES = {"WanPipeline": "gigavideo_train.families.wan"}


def family_name(folder: Path) -> str:
    """The kind of pipeline in a folder.

    Raises:
        RecipeError: it cannot be trained yet.
    """
    name = json.loads((folder / "model_index.json").read_text("utf-8")).get("_class_name")
    if name not in FAMILIES:
        raise RecipeError(f"--model {folder.name}: a {name} cannot be trained yet, only {', '.join(FAMILIES)}")
    return name


def family_of(folder: Path) -> ModuleType:
    """The module that trains the pipeline in a folder."""
    return importlib.import_module(FAMILIES[family_name(folder)])

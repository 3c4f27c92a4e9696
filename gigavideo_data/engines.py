"""Which class stands behind each backend a recipe can name: literal tables, imported only where needed."""

from __future__ import annotations

import importlib
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.recipe import Judge, Recipe

ENGINES: dict[str, dict[str, tuple[str, str]]] = {
    "writer": {"grammar": ("gigavideo_data.miniature.writer", "GrammarWriter")},
    "captions": {"miniature": ("gigavideo_data.miniature.clips", "RenderedClips")},
    "generator": {"diffusers": ("gigavideo_data.generators.diffusers", "DiffusersGenerator")},
    "judge": {"miniature": ("gigavideo_data.miniature.judge", "MiniatureJudge")},
}

# Too heavy to be loaded by whichever process comes along: these get a pool of workers that hold them.
RESIDENT = {("generator", "diffusers")}

# What a writer can write about, where that is not everything: the keys of a mapping.
SUBJECTS: dict[str, tuple[str, str]] = {"grammar": ("gigavideo_data.miniature.questions", "ASK")}


def check_subjects(recipe: Recipe) -> None:
    """Refuse dimensions that the recipe's writers cannot write about, before anything is made.

    Raises:
        RecipeError: naming the dimension, and those that it could be.
    """
    for writer in dict.fromkeys((recipe.prompts.writer, recipe.questions.writer)):
        if writer not in SUBJECTS:
            continue
        module, name = SUBJECTS[writer]
        known = sorted(getattr(importlib.import_module(module), name))
        for dimension in recipe.dimensions:
            if dimension not in known:
                raise RecipeError(
                    f"dimensions: the writer {writer!r} cannot write about {dimension!r}, only about {', '.join(known)}"
                )


def load_engine(kind: str, engine: dict[str, Any]) -> Any:
    """Make the engine of a kind that `engine["backend"]` names; `engine` holds its settings."""
    module, name = ENGINES[kind][engine["backend"]]
    return getattr(importlib.import_module(module), name)(engine)


# What exactly a judge is, told without loading it.
JUDGE_REVISIONS: dict[str, tuple[str, str]] = {"miniature": ("gigavideo_data.miniature.judge", "revision")}


def judge_engine(judge: Judge) -> dict[str, Any]:
    """A judge as a recipe names it, with the revision (content hash or commit) that would answer now."""
    module, name = JUDGE_REVISIONS[judge.backend]
    revision = getattr(importlib.import_module(module), name)()
    return {"backend": judge.backend, "model": judge.model, "revision": revision}

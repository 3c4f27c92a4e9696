"""Resolve every Hub model of a recipe to a commit once before a build, so that the dataset can record it."""

from __future__ import annotations

from typing import Any, TypeVar

from gigavideo_data.errors import HubError
from gigavideo_data.hub.models import commit_of
from gigavideo_data.recipe.engines import ENGINES
from gigavideo_data.recipe.features import Features
from gigavideo_data.recipe.recipe import Counting, Generator, Judge, Recipe, Writer, on_the_hub

Part = TypeVar("Part", Writer, Generator, Judge, Counting, Features)


def pinned(recipe: Recipe, unknown: list[HubError] | None = None) -> Recipe:
    """Return the recipe with the commit of every model that it loads from the Hub.

    Args:
        recipe: the recipe.
        unknown: collects the error of each model whose commit cannot be resolved, which keeps its revision; None
            raises the first error.

    Raises:
        HubError: a commit cannot be resolved.
        RecipeError: a model's name is not a Hub id.
    """

    def of(part: Part) -> Part:
        try:
            return pinned_part(part)
        except HubError as error:
            if unknown is None:
                raise
            unknown.append(error)
            return part

    changes: dict[str, Any] = {
        "generators": tuple(of(generator) for generator in recipe.generators),
        "writer": of(recipe.writer),
        "judge": of(recipe.judge),
    }
    if recipe.specialists.counting:
        counting = of(recipe.specialists.counting)
        changes["specialists"] = recipe.specialists.model_copy(update={"counting": counting})
    return Recipe.model_construct(**(dict(recipe) | changes))


def pinned_part(part: Part) -> Part:
    """Return one model of a recipe or of an evaluation with its commit, if it is loaded from the Hub."""
    engine = ENGINES[part.kind].get(part.backend)
    if engine is None or engine.hub_file is None or not on_the_hub(part.model):
        return part
    return part.model_copy(update={"revision": commit_of(part.model, part.revision, engine.hub_file)})

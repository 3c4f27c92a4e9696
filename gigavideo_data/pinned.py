"""Which commits of the Hub a recipe means: found once before a build, so that its dataset can name them."""

from __future__ import annotations

from typing import Any, TypeVar

from gigavideo_data.errors import HubError
from gigavideo_data.hub_models import commit_of
from gigavideo_data.recipe import Counting, Generator, Judge, Recipe, Writer, on_the_hub

# A small file that every model of a backend has. Backends that are not here load nothing from the Hub.
SMALL_FILES = {
    "diffusers": "model_index.json",
    "transformers": "config.json",
    "vllm": "config.json",
    "counting": "config.json",
}

Part = TypeVar("Part", Writer, Generator, Judge, Counting)


def pinned(recipe: Recipe, unknown: list[HubError] | None = None) -> Recipe:
    """The same recipe, with the commit of every model that it loads from the Hub.

    Args:
        recipe: as it was written.
        unknown: gets the error of each model whose commit cannot be found out, which then stays as it is; None, and
            the first of them is raised.

    Raises:
        HubError: one cannot be found out.
        RecipeError: one is no name on the Hub.
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
    """One model of a recipe, with its commit if it is one of the Hub that is loaded here."""
    if part.backend not in SMALL_FILES or not on_the_hub(part.model):
        return part
    commit = commit_of(part.model, part.revision, SMALL_FILES[part.backend])
    return part.model_copy(update={"revision": commit})

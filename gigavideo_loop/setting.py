"""What a loop is: the recipe and the options that its results depend on, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Generator, Recipe, on_the_hub
from gigavideo_data.recipe.yaml_config import suggest

NO_NEW_BEST, OTHER_DIMENSIONS = "no new best", "other dimensions"
REALISM, MOTION, SPREAD, SECOND_JUDGE = "realism", "motion", "spread", "second judge"
GUARDS = (NO_NEW_BEST, OTHER_DIMENSIONS, REALISM, MOTION, SPREAD, SECOND_JUDGE)


@dataclass(frozen=True)
class Setting:
    """The options of `gv-loop`.

    Attributes:
        recipe_name: file or shipped name, as the commands get it.
        overrides: "key=value" of the recipe.
        recipe: both together.
        out: folder of the loop.
        store: folder of finished rows.
        rounds: the number of rounds.
        strategy, train_settings, processes: of gv-train.
        kappa: factor of the squared distance to the first model; only for nft.
        second_judge: "key=value" of a judge of another kind, as gv-data eval takes them.
        same_prompts: every round trains on the prompts of the first one.
        guards_off: names of guards that do not stop the loop.
        dataset_repo, model_repo: owner/name on the Hub, to publish each round's dataset and the best model.
        private: create missing repositories as private.
    """

    recipe_name: str
    overrides: tuple[str, ...]
    recipe: Recipe
    out: Path
    store: Path
    rounds: int
    strategy: str = "nft"
    train_settings: tuple[str, ...] = ()
    kappa: float = 0.1
    second_judge: tuple[str, ...] = ()
    processes: int | None = None
    same_prompts: bool = False
    guards_off: frozenset[str] = frozenset()
    dataset_repo: str | None = None
    model_repo: str | None = None
    private: bool = False

    @property
    def recorded(self) -> dict[str, Any]:
        """The options that results depend on, beside recipe and strategy; a loop keeps them in all its rounds."""
        return {
            "kappa": self.kappa,
            "second_judge": list(self.second_judge),
            "same_prompts": self.same_prompts,
            "train": list(self.train_settings),
        }


def load_recipe(name: str, overrides: Sequence[str]) -> Recipe:
    """Load the recipe of a loop.

    Raises:
        RecipeError: it is wrong, or a loop cannot be made of it.
    """
    recipe = load(name, overrides)
    if not recipe.eval_prompts.per_dimension:
        raise RecipeError(
            f"{recipe.name}: eval_prompts.per_dimension is 0, and rounds are compared on evaluation prompts; set it "
            "to 8 or more"
        )
    if len(recipe.generators) > 1:
        raise RecipeError(
            f"{recipe.name}: it has {len(recipe.generators)} generators; in a loop the model in training generates all "
            "videos, keep one"
        )
    (generator,) = recipe.generators
    if Generator.is_plugin(dict(generator)):
        raise RecipeError(
            f"{recipe.name}: the generator is the plug-in {generator.backend!r}, which cannot be trained; name a "
            "diffusers model"
        )
    if generator.adapter:
        raise RecipeError(
            f"{recipe.name}: the generator has an adapter; a loop starts from a model without one, remove "
            "generators.0.adapter"
        )
    return recipe


def guard_names(given: Sequence[str]) -> frozenset[str]:
    """The names of guards as `--no-guard` has them, with hyphens or spaces.

    Raises:
        RecipeError: there is no such guard.
    """
    names = frozenset(name.replace("-", " ") for name in given)
    for name in sorted(names - set(GUARDS)):
        raise RecipeError(f"--no-guard {name}: no such guard; {suggest(name, GUARDS)}")
    return names


def check_repository(option: str, name: str | None) -> None:
    """Check that an option names a repository as owner/name.

    Raises:
        RecipeError: it does not.
    """
    if name is not None and not (on_the_hub(name) and name.count("/") == 1 and all(name.split("/"))):
        raise RecipeError(f"{option} {name}: must be owner/name")

"""The dimensions that a recipe can target: one YAML file each, beside this module, named as in VBench-2.0.

To add a dimension, add its file; no code changes. A user's own dimension is a file in a folder `dimensions` beside the
recipe, or in the working directory. Seeds are phrases of our own: a benchmark's test prompts must never become training
prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from gigavideo_data.errors import RecipeError
from gigavideo_data.recipe.yaml_config import StrictModel, read, suggest, validate

FOLDER = Path(__file__).parent
OWN = "dimensions"  # name of a folder with a user's own dimensions

_own_folders = [Path(OWN)]  # in the working directory, and beside the recipe (`use_dimensions_beside`)

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Dimension(StrictModel):
    """One ability that a video can show or lack.

    `combine` is the rule that turns the answers about one video into one reward (see `rewards.score`). `scorer` is the
    best judge: the multimodal judge (qa), or a specialist that a recipe may enable. `shows` lists the other dimensions
    that its videos are scored on if the recipe targets them; null means all.
    """

    name: Text
    group: Literal["human", "physics", "dynamics", "existence", "other"]
    definition: Text
    seeds: Annotated[tuple[Text, ...], Field(strict=False, min_length=3)]
    question_guidance: Text
    combine: Literal["mean", "all", "gate", "prefix"]
    scorer: Literal["qa", "camera", "counting"]
    shows: Annotated[tuple[Text, ...], Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _seeds_differ(self) -> Dimension:
        if len({seed.casefold() for seed in self.seeds}) != len(self.seeds):
            raise ValueError("seeds: two are equal; remove one")
        return self


def use_dimensions_beside(recipe: Path) -> None:
    """Use the folder `dimensions` beside this recipe from now on, and no longer that of an earlier recipe."""
    _own_folders[1:] = [recipe.parent / OWN]
    load_dimension.cache_clear()


def names() -> list[str]:
    """Return the names of all dimensions, sorted."""
    return sorted({path.stem for folder in (FOLDER, *_own_folders) for path in folder.glob("*.yaml")})


def suggest_dimension(name: str, options: Iterable[str] | None = None) -> str:
    """Return the end of an "unknown dimension" message: the members of a group, the nearest option, or all options.

    Args:
        name: the unknown name.
        options: valid names; None means all dimensions.
    """
    options = sorted(names() if options is None else options)
    members = [option for option in options if option in names() and load_dimension(option).group == name]
    if members:
        return f"it is a group: write {','.join(members)}, or some of them"
    return suggest(name, options)


@cache
def load_dimension(name: str) -> Dimension:
    """Return one dimension.

    Raises:
        RecipeError: there is no dimension of this name, there are two, or its file is not valid.
    """
    if name not in names():
        raise RecipeError(f"unknown dimension {name!r}; {suggest_dimension(name)}")
    shipped = FOLDER / f"{name}.yaml"
    own = [path for folder in _own_folders if (path := folder / f"{name}.yaml").exists()]
    path, *others = [shipped, *own] if shipped.exists() else own
    for other in others:
        if not other.samefile(path) and path == shipped:
            raise RecipeError(f"{other}: a shipped dimension has this name; give yours another name")
        if other.read_bytes() != path.read_bytes():
            raise RecipeError(f"{other}: {path} is a different dimension of the same name; remove one of the two files")
    dimension = validate(Dimension, read(path))
    if dimension.name != name:
        raise RecipeError(f"{path}: name is {dimension.name!r}; it must be the file name, {name!r}")
    return dimension

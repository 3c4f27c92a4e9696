"""The weaknesses a recipe can name: one YAML file each, beside this module, named as in VBench-2.0.

To add a dimension, add its file; nothing else has to know. One of your own goes into a folder `dimensions` beside the
recipe that names it, or where the command runs. Seeds are our own phrases: a benchmark's test prompts must never become
training prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gigavideo_data.errors import RecipeError
from gigavideo_data.typed_yaml import read, suggest, validate

FOLDER = Path(__file__).parent
OWN = "dimensions"  # folder of a user's dimensions

_own_folders = [Path(OWN)]  # where the command runs, and beside its recipe (`look_beside`)

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Dimension(BaseModel):
    """One thing a video can get right or wrong.

    `combine` says how the questions of one video become one reward (see `rewards.score`); `scorer` who answers them
    best: the multimodal judge (qa), or a specialist that a recipe may name. `shows` are the other dimensions that its
    videos are asked about where a recipe has them too; null is any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

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
            raise ValueError("seeds: two are equal; keep one")
        return self


def look_beside(recipe: Path) -> None:
    """From now on, take dimensions from the folder beside a recipe too, instead of from that of a recipe before."""
    _own_folders[1:] = [recipe.parent / OWN]
    load_dimension.cache_clear()


def names() -> list[str]:
    """Return the names of all dimensions, sorted."""
    return sorted({path.stem for folder in (FOLDER, *_own_folders) for path in folder.glob("*.yaml")})


def hint(name: str, options: Iterable[str] | None = None) -> str:
    """Return the end of an "unknown dimension" message: the members of a group, the nearest option, or all options.

    Args:
        name: what is no dimension.
        options: names that it could be; None is all dimensions.
    """
    options = sorted(names() if options is None else options)
    members = [option for option in options if option in names() and load_dimension(option).group == name]
    if members:
        return f"it is a group of dimensions: name {', '.join(members)}, or some of them"
    return suggest(name, options)


@cache
def load_dimension(name: str) -> Dimension:
    """Return one dimension.

    Raises:
        RecipeError: there is none of that name, there are two, or its file is not valid.
    """
    if name not in names():
        raise RecipeError(f"unknown dimension {name!r}; {hint(name)}")
    shipped = FOLDER / f"{name}.yaml"
    own = [path for folder in _own_folders if (path := folder / f"{name}.yaml").exists()]
    path, *others = [shipped, *own] if shipped.exists() else own
    for other in others:
        if not other.samefile(path) and path == shipped:
            raise RecipeError(f"{other}: a dimension of that name comes along; give yours another name")
        if other.read_bytes() != path.read_bytes():
            raise RecipeError(f"{other}: {path} is another dimension of that name; keep one of the two files")
    dimension = validate(Dimension, read(path))
    if dimension.name != name:
        raise RecipeError(f"{path}: name is {dimension.name!r}; it must be the file name, {name!r}")
    return dimension

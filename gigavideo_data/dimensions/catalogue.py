"""The weaknesses a recipe can name: one YAML file each, beside this module, named as in VBench-2.0.

To add a dimension, add its file; nothing else has to know. One of your own goes into a folder `dimensions` where the
command runs. Seeds are our own phrases: a benchmark's test prompts must never become training prompts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gigavideo_data.errors import RecipeError
from gigavideo_data.typed_yaml import read, suggest, validate

FOLDER = Path(__file__).parent
OWN = Path("dimensions")  # of the user, in the working folder

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


def names() -> list[str]:
    """Return the names of all dimensions, sorted."""
    return sorted({path.stem for folder in (FOLDER, OWN) for path in folder.glob("*.yaml")})


@cache
def load_dimension(name: str) -> Dimension:
    """Return one dimension.

    Raises:
        RecipeError: there is none of that name, there are two, or its file is not valid.
    """
    if name not in names():
        raise RecipeError(f"unknown dimension {name!r}; {suggest(name, names())}; `gv-data dimensions` lists them")
    path, own = FOLDER / f"{name}.yaml", OWN / f"{name}.yaml"
    if path.exists() and own.exists():
        raise RecipeError(f"{own}: a dimension of that name comes along; give yours another name")
    path = path if path.exists() else own
    dimension = validate(Dimension, read(path))
    if dimension.name != name:
        raise RecipeError(f"{path}: name is {dimension.name!r}; it must be the file name, {name!r}")
    return dimension

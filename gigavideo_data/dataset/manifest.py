"""The manifest of a dataset (manifest.json): its fields and their validation.

It is plain JSON in code too, typed by TypedDicts: a manifest that is read, changed and written again keeps every field.
A manifest may come from anybody, so `parse` checks each field before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import NonNegativeInt, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from gigavideo_data.dataset.schema import FILE_NAME, MAX_PROBLEMS, check_format
from gigavideo_data.errors import DatasetError
from gigavideo_data.recipe.recipe import current_keys
from gigavideo_data.scoring.judge_verdict import JudgeCheck
from gigavideo_data.scoring.rewards import MeanSem


class File(TypedDict):
    """One Parquet file of a dataset, and its size in bytes."""

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    rows: NonNegativeInt
    bytes: NonNegativeInt


# The rows of one source in one stage. `rejected` maps a reason to a number of rows, and in = out + their sum.
LedgerLine = TypedDict(
    "LedgerLine",
    {
        "stage": str,
        "source": str,
        "in": NonNegativeInt,
        "out": NonNegativeInt,
        "rejected": dict[str, NonNegativeInt],
    },
)


class RewardSummary(MeanSem):
    """The rewards on one dimension: numbers of rows, mean, and standard error of the mean."""

    scored: NonNegativeInt
    unscorable: NonNegativeInt


class Sampled(TypedDict):
    """Of which prompts of one dimension a build made more videos, decided by the rewards of their first ones.

    A base prompt whose first rewards differ got `more` further videos; `prompts` maps an `Outcome` to a number of base
    prompts. A reward above `tau` is right. The rewards were those of the recipe with this hash.
    """

    recipe_hash: str
    dimension: str
    first: NonNegativeInt
    more: NonNegativeInt
    tau: float
    prompts: dict[str, NonNegativeInt]


class Rescored(TypedDict):
    """The rules of rewards that were computed again from stored answers."""

    min_mass: float
    combine: dict[str, str]


class GeneratingModel(TypedDict):
    """A model that generated videos: its Hub id or the name of its folder, its commit or content hash, its adapter."""

    model: str
    revision: str | None
    adapter: str | None


class Merged(TypedDict):
    """One of the datasets that a merged dataset was made of."""

    name: str
    recipe: dict[str, Any]
    recipe_hash: str


class Manifest(TypedDict):
    """manifest.json. `recipe` is the resolved recipe as written by the code version that built the dataset."""

    format: str
    name: str
    recipe: dict[str, Any]
    recipe_hash: str
    code_version: str
    target_model: str
    dimensions: list[str]  # all that prompts were written for: targets and others
    license: str
    rows: dict[str, NonNegativeInt]  # per split
    files: dict[str, File]  # by path in the dataset's folder
    ledger: list[LedgerLine]
    judge_check: list[JudgeCheck]
    rewards: dict[str, RewardSummary]
    generators: NotRequired[list[GeneratingModel]]
    sampled: NotRequired[list[Sampled]]
    withheld: NotRequired[bool]
    rescored: NotRequired[Rescored]
    merged: NotRequired[list[Merged]]


class _JudgeRules(TypedDict):
    min_mass: float


class _Others(TypedDict):
    dimensions: list[str]


class _ReadRecipe(TypedDict):
    """The parts of a recipe that other commands read again."""

    judge: _JudgeRules
    others: NotRequired[_Others]
    generators: NotRequired[list[dict[str, Any]]]
    specialists: NotRequired[dict[str, Any]]


class _ReadManifest(TypedDict):
    recipe: _ReadRecipe


_FIELDS, _RECIPE = TypeAdapter(Manifest), TypeAdapter(_ReadManifest)


def parse(text: str, where: str) -> Manifest:
    """Parse and validate the text of a manifest.

    Args:
        text: content of manifest.json.
        where: its path, for messages.

    Raises:
        DatasetError: it is damaged, incomplete, of a format that this code does not read, or lists a file whose name is
            not allowed.
    """
    try:
        manifest: Manifest = json.loads(text)
        check_format(str(manifest["format"]), where)
        _FIELDS.validate_python(manifest, strict=True)
        _RECIPE.validate_python(manifest, strict=True)
        for built in (manifest, *manifest.get("merged", ())):
            built["recipe"] = current_keys(built["recipe"])
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:MAX_PROBLEMS])
        raise DatasetError(f"{where}: {wrong}. Build the dataset again; finished work is kept.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{where}: damaged ({error!r}). Build the dataset again; finished work is kept.") from error
    for name in manifest["files"]:
        if not FILE_NAME.fullmatch(name):
            raise DatasetError(f"{where}: file name {name!r} is not allowed in a dataset. Do not use this set.")
    return manifest


def others_of(manifest: Manifest) -> list[str]:
    """The dimensions that are not to be improved but must not get worse."""
    others: dict[str, Any] = manifest["recipe"].get("others", {})
    return [name for name in manifest["dimensions"] if name in others.get("dimensions", ())]


def targets_of(manifest: Manifest) -> list[str]:
    """The dimensions that are to be improved."""
    others = others_of(manifest)
    return [name for name in manifest["dimensions"] if name not in others]


def files_in(manifest: Mapping[str, Any], folder: str) -> list[str]:
    """The files of a manifest in one folder of the dataset, such as `data`, sorted."""
    return sorted(name for name in manifest["files"] if name.startswith(f"{folder}/"))

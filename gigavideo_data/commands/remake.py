"""`gv-data remake`, and datasets without their generated videos, for models whose output may not be published.

    withhold(Path("runs/quickstart"), Path("scores"))
    remake(Path("scores"), Path("complete"), {}, recipe, store, progress)

A row keeps its id, its rewards and the sum of its video. Whoever may run the generator makes the same videos again. If
another machine makes a different video, the row has no score until it is judged again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gigavideo_data.commands.republish import NewStage, read_stored, republish
from gigavideo_data.dataset.manifest import Manifest
from gigavideo_data.dataset.reader import read_video_rows
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.hub.pin import pinned_part
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.registry import generator_spec
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.pipeline import assemble
from gigavideo_data.pipeline.row_counts import check_rejected, reject
from gigavideo_data.pipeline.run_context import open_run
from gigavideo_data.pipeline.stages import Item, Record, rejection, synthesis
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.recipe import Generator, Recipe
from gigavideo_data.recipe.yaml_config import Document, validate
from gigavideo_data.rows import DatasetRow, Reject, Scores, VideoRow

OTHER = "its remade video is another one"  # in the column `reason`
UNJUDGED: Scores = {
    "status": "not_scored",
    "reason": OTHER,
    "reward": None,
    "rewards": [],
    "answers": [],
    "measurements": [],
    "judges": [],
}


def withhold(folder: Path, out: Path, progress: Progress | None = None) -> None:
    """Write a dataset without its generated videos and their latents; real clips stay.

    `progress` shows what is written and verified.

    Raises:
        DatasetError: the folder is no finished dataset.
    """
    stored = read_stored(folder)
    rows = [
        row if row["source"] == "real" else row | {"video": None}
        for row in read_video_rows(folder)  # a few at a time: the videos are larger than memory
    ]
    manifest = stored.manifest | {"withheld": True}
    write_dataset(out, rows, stored.eval_prompts, stored.rejects, manifest, stored.cost, progress)


def remake(
    folder: Path, out: Path, folders: Mapping[str, str], recipe: Recipe, store_root: Path, progress: Progress
) -> dict[str, Any]:
    """Make the withheld videos of a dataset again.

    Args:
        folder: a finished dataset.
        out: folder of the dataset with its videos.
        folders: where models and adapters are that the dataset names by their folders' names.
        recipe: says where and within which limits to run.
        store_root: folder of the store.
        progress: where to show it.

    Returns:
        JSON-able: rows, how many videos were made again, how many of them differ from the original ones, how many rows
        were rejected.

    Raises:
        DatasetError: nothing is withheld.
        RecipeError: a model that made some of the videos is not here, or differs from the original one.
        RejectedError: too many videos could not be made; the dataset is written all the same.
    """
    with open_run(recipe, out, store_root, progress) as context:
        stored = read_stored(folder)
        if not stored.manifest.get("withheld"):
            raise DatasetError(f"{folder}: no video is withheld; there is nothing to make again.")
        before = list(read_video_rows(folder))
        missing = [row for row in before if row["video"] is None and _is_reproducible(row)]
        engines = _engines(stored.manifest, folders, recipe)
        items = [_item(row, engines) for row in missing]
        records = dict(zip((row["id"] for row in missing), context.runner.records(items), strict=True))
        after, rejects = _with_videos(before, records, context.runner.store)
        republish(
            out,
            stored,
            after,
            changes={"withheld": None},
            stage=NewStage("remake", [row["source"] for row in after], rejects, context.runner.cost),
            progress=progress,
        )
        num_made = sum("rejected" not in record for record in records.values())
        check_rejected(rejects, num_made, recipe.limits.max_rejected, out)
    others = sum(row["reason"] == OTHER for row in after)
    return {"rows": len(after), "made": num_made, "others": others, "rejected": len(rejects)}


def _with_videos(
    before: list[VideoRow], records: Mapping[str, Record], store: Store
) -> tuple[list[VideoRow], list[Reject]]:
    """The rows with their videos, and those that get none; `records` of the new videos are by row id."""
    after: list[VideoRow] = []
    rejects: list[Reject] = []
    for row in before:
        record = records.get(row["id"], rejection(Reason.MADE_ELSEWHERE, "not made by a model of the recipe"))
        if row["video"] is not None:
            after.append(row)
        elif "rejected" in record:
            rejects.append(reject("remake", row["source"], row["id"], record))
        else:
            video = assemble.video_column(row["id"], store.on_disk(record["blobs"]["video.mp4"]))
            remade = row | {"video": video}
            same = record["video_sha256"] == row["video_sha256"]
            after.append(remade if same else {**remade, **UNJUDGED, **assemble.video_facts(record)})
    return after, rejects


def _is_reproducible(row: DatasetRow) -> bool:
    """Whether a model of a recipe made the video, and no other program."""
    return row["generator"] is not None and row["generator"]["backend"] != "files"


def _engines(manifest: Manifest, folders: Mapping[str, str], selected: Recipe) -> dict[str, EngineSpec]:
    """The generators of a dataset's recipes as this machine has them, by what decides a video.

    Args:
        manifest: of the dataset.
        folders: of models and adapters that the dataset names by their folders' names.
        selected: a recipe whose plug-ins may be loaded.
    """
    recipes = [manifest["recipe"], *(one["recipe"] for one in manifest.get("merged", ()))]
    named = [plain for recipe in recipes for plain in recipe.get("generators", ())]
    generators = [one for one in selected.generators if Generator.is_plugin(dict(one))]
    unselected = [one for one in named if Generator.is_plugin(one)]
    if unselected and not generators:
        raise Generator.refusal("this dataset", unselected)
    for plain in named:
        if plain in unselected:
            continue
        here = {name: folders.get(plain[name], plain[name]) for name in ("model", "adapter")}
        generator = pinned_part(validate(Generator, Document(plain | here, "manifest.json")))
        if generator.adapter and not Path(generator.adapter).expanduser().is_dir():
            raise RecipeError(f"adapter {generator.adapter}: give its folder with --model {generator.adapter}=FOLDER")
        generators.append(generator)
    return {_float32_key(spec.identity): spec for spec in map(generator_spec, generators)}


def _item(row: DatasetRow, engines: Mapping[str, EngineSpec]) -> Item:
    """The work of making one video again."""
    assert row["generator"] is not None
    assert row["generator"]["seed"] is not None
    decides = {name: value for name, value in row["generator"].items() if name not in ("seed", "prompt")}
    if _float32_key(decides) not in engines:
        made_by = f"{decides['model']} (revision {decides['revision']}, adapter {decides['adapter']})"
        here = ", ".join(f"{one.identity['model']} (revision {one.identity['revision']})" for one in engines.values())
        raise RecipeError(
            f"row {row['id']} was made by {made_by}, which is not here, only {here}. Give the folder of a model "
            "or an adapter with --model NAME=FOLDER."
        )
    return synthesis(engines[_float32_key(decides)], row["prompt"], row["generator"]["seed"], row["id"])


def _float32_key(settings: Mapping[str, Any]) -> str:
    """A key of settings that is the same whether they come from a recipe or from float32 columns."""
    return json.dumps({name: _float32(value) for name, value in settings.items()}, sort_keys=True)


def _float32(value: Any) -> Any:
    return struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, int | float) else value

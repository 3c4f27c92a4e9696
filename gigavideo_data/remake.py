"""Datasets without their generated videos, for models whose output may not be passed on, and the videos made again.

    withhold(Path("runs/quickstart"), Path("scores"));  remake(Path("scores"), Path("whole"), {}, work)

A row keeps its id, its rewards and the sum of its video. Whoever may run the generator makes the same videos again;
where another machine makes other ones, the row's scores are not theirs, and it is not scored until it is judged again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gigavideo_data import assemble, latents
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.folder_read import Row as Columns
from gigavideo_data.folder_read import read_all, read_data, read_manifest
from gigavideo_data.generators.models import found_at, settings_of
from gigavideo_data.manifest import Manifest
from gigavideo_data.pinned import pinned_part
from gigavideo_data.pipeline import Build, check_rejected
from gigavideo_data.progress import Progress
from gigavideo_data.publish import write_dataset
from gigavideo_data.recipe import Generator
from gigavideo_data.report import write_report
from gigavideo_data.schema import EVAL_PROMPT_SCHEMA, REJECT_SCHEMA, ROW_SCHEMA
from gigavideo_data.stages import Item, Record, rejection, synthesis
from gigavideo_data.typed_yaml import Document, validate

OTHER = "its remade video is another one"
UNJUDGED: dict[str, Any] = {
    "status": "not_scored",
    "reason": OTHER,
    "reward": None,
    "rewards": [],
    "answers": [],
    "measurements": [],
    "judges": [],
}

Found = tuple[dict[str, Any], dict[str, Any]]  # a generator's settings, and where this machine finds it


def withhold(folder: Path, out: Path, progress: Progress | None = None) -> None:
    """Write a dataset without its generated videos and their latents; real clips stay.

    `progress` shows what is written and verified.

    Raises:
        DatasetError: the folder is no finished dataset.
    """
    manifest = read_manifest(folder) | {"withheld": True}
    rows = [
        row if row["source"] == "real" else row | {"video": None}
        for batch in read_data(folder, ROW_SCHEMA.names)  # a batch at a time: the videos are larger than memory
        for row in batch.to_pylist()
    ]
    cost = json.loads((folder / "cost.json").read_text("utf-8"))
    write_dataset(out, rows, *_beside(folder), manifest, cost, progress)


def remake(folder: Path, out: Path, folders: Mapping[str, str], work: Build) -> dict[str, Any]:
    """Make the withheld videos of a dataset again.

    Args:
        folder: a finished dataset.
        out: folder of the dataset with its videos.
        folders: where models and adapters lie that are named by their folders' names.
        work: store, Ray, progress and limits.

    Returns:
        JSON-able: rows, how many videos were made again, how many of them came out otherwise, how many fell.

    Raises:
        DatasetError: nothing is withheld.
        RecipeError: a model that made some of the videos is not here, or is another one here.
        RejectedError: too many could not be made; the dataset is written all the same.
    """
    manifest = read_manifest(folder)
    if not manifest.pop("withheld", False):
        raise DatasetError(f"{folder}: all its videos are there; there is nothing to make again.")
    before = read_all(folder, ROW_SCHEMA, "data")
    missing = [row for row in before if row["video"] is None and _made_here(row)]
    found = _generators(manifest, folders)
    items = [_item(row, found) for row in missing]
    made = dict(zip((row["id"] for row in missing), work.runner.records(items), strict=True))
    after, fallen = [], []
    for row in before:
        record = made.get(row["id"], rejection("made_elsewhere", "by no model that can be run here"))
        if row["video"] is not None:
            after.append(row)
        elif "rejected" in record:
            fallen.append(_reject(row, record))
        else:
            clip = work.runner.store.on_disk(record["blobs"]["video.mp4"])
            facts = {name: record[name] for name in assemble.VIDEO_FACTS}
            same = record["video_sha256"] == row["video_sha256"]
            video = {"video": {"bytes": clip, "path": f"{row['id']}.mp4"}}
            after.append(row | video | ({} if same else UNJUDGED | facts))
    manifest |= {
        "code_version": version("gigavideo"),
        "ledger": [*manifest["ledger"], *assemble.ledger_lines("remake", (row["source"] for row in after), fallen)],
        "rewards": assemble.reward_summaries(after, manifest["dimensions"]),
    }
    prompts, rejects = _beside(folder)
    cost = json.loads((folder / "cost.json").read_text("utf-8"))
    cost |= {"stages": cost["stages"] + work.runner.cost}
    shipped = list(latents.carried(folder, after))
    write_dataset(out, after, prompts, [*rejects, *fallen], manifest, cost, work.runner.progress, latents=shipped)
    write_report(out)
    work.rejects += fallen
    num_made = sum("rejected" not in record for record in made.values())
    check_rejected(work, num_made, out)
    others = sum(row["reason"] == OTHER for row in after)
    return {"rows": len(after), "made": num_made, "others": others, "fell": len(fallen)}


def _made_here(row: Columns) -> bool:
    """Whether a model of a recipe made it, and no other program."""
    return row["generator"] is not None and row["generator"]["backend"] != "files"


def _beside(folder: Path) -> tuple[list[Columns], list[Columns]]:
    return read_all(folder, EVAL_PROMPT_SCHEMA, "eval_prompts"), read_all(folder, REJECT_SCHEMA, "rejects")


def _generators(manifest: Manifest, folders: Mapping[str, str]) -> dict[str, Found]:
    """What this machine finds of the generators that a dataset's recipes name, by what decides a video.

    Raises:
        RecipeError: it is not told where a model or an adapter lies.
    """
    recipes = [manifest["recipe"], *(one["recipe"] for one in manifest.get("merged", ()))]
    found = {}
    for recipe in recipes:
        for plain in recipe.get("generators", ()):
            here = {name: folders.get(plain[name], plain[name]) for name in ("model", "adapter")}
            generator = pinned_part(validate(Generator, Document(plain | here, "manifest.json")))
            if generator.adapter and not Path(generator.adapter).expanduser().is_dir():
                raise RecipeError(f"adapter {generator.adapter}: say where it lies, --model {generator.adapter}=FOLDER")
            settings = settings_of(generator)
            found[_spelled(settings)] = settings, found_at(generator)
    return found


def _item(row: Columns, found: Mapping[str, Found]) -> Item:
    """A video to be made again.

    Raises:
        RecipeError: not by a model that is here.
    """
    decides = {name: value for name, value in row["generator"].items() if name not in ("seed", "prompt")}
    if _spelled(decides) not in found:
        made_by = f"{decides['model']} (revision {decides['revision']}, adapter {decides['adapter']})"
        here = ", ".join(f"{settings['model']} (revision {settings['revision']})" for settings, _ in found.values())
        raise RecipeError(
            f"row {row['id']} was made by {made_by}, which is not here, only {here}. --model NAME=FOLDER says where a "
            "model or an adapter lies."
        )
    settings, place = found[_spelled(decides)]
    return synthesis(settings, place, row["prompt"], row["generator"]["seed"])


def _spelled(settings: Mapping[str, Any]) -> str:
    """One spelling of settings, whether they come from a recipe or from float32 columns."""
    return json.dumps({name: _float32(value) for name, value in settings.items()}, sort_keys=True)


def _float32(value: Any) -> Any:
    return struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, int | float) else value


def _reject(row: Columns, record: Record) -> dict[str, Any]:
    reject = {"stage": "remake", "source": row["source"], "id": row["id"], "reason": record["rejected"]}
    return reject | {"detail": record.get("detail"), "attempts": record.get("attempts")}

"""What goes into a build: written prompts, captions with their real clips, and videos that were made elsewhere.

Each is a row that may have fallen already, with the reason: nothing is passed over in silence.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

from gigavideo_data import captions, decontaminate, pixels
from gigavideo_data.captions import Captioned
from gigavideo_data.decontaminate import Blocklist
from gigavideo_data.dimensions.catalogue import load_dimension
from gigavideo_data.engines import writer_engine
from gigavideo_data.errors import RunError
from gigavideo_data.generators.models import profile_of, warnings_for
from gigavideo_data.prompts import Seen
from gigavideo_data.recipe import Imported, Recipe
from gigavideo_data.row import Row
from gigavideo_data.runner import Runner
from gigavideo_data.stages import Item
from gigavideo_data.store import content_key

EVAL_SPLITS = ("dev", "test")

Fate = tuple[Row, str | None]  # a row, and why it fell, if it did


def intake(recipe: Recipe, runner: Runner) -> list[Fate]:
    """All rows of a build before the first stage that they pass one by one.

    Raises:
        RunError: a writer could not write at all.
        RecipeError: a table or a block-list cannot be read.
    """
    made_by = [*(one.model for one in recipe.generators), *(one.model for one in recipe.imports)]
    for warning in warnings_for(made_by, recipe.target):
        runner.progress.note(warning)
    blocklist = Blocklist(text for path in recipe.blocklists for text in decontaminate.read(Path(path)))
    taken = [*_written(recipe, runner), *_captions(recipe, runner)]
    for wanted in recipe.imports:
        taken += _imported(wanted, recipe, runner)
    rows = [row for row, reason in taken if reason is None]
    reasons = _separate(rows, recipe.prompts.likeness, blocklist)
    return [*zip(rows, reasons, strict=True), *((row, reason) for row, reason in taken if reason)]


def about(dimension: str, *fields: str) -> dict[str, Any]:
    """What a writer must be told of a dimension."""
    return {"about": load_dimension(dimension).model_dump(mode="json", include={"definition", *fields})}


def _written(recipe: Recipe, runner: Runner) -> Iterator[Fate]:
    """Base prompts: those of evaluation first."""
    asks = [(split, d, recipe.eval_prompts.per_dimension) for split in EVAL_SPLITS for d in recipe.dimensions]
    if recipe.synthetic:
        asks += [("train", dimension, recipe.prompts.per_dimension) for dimension in recipe.dimensions]
    settings, found_at = writer_engine(recipe.writer)
    rules = recipe.prompts.model_dump(include={"per_call", "likeness", "sift"})
    items = [
        Item(
            "prompt",
            settings,
            {"dimension": d, "count": n, "seed": recipe.seed, "split": split, "rules": rules, **about(d, "seeds")},
            found_at,
        )
        for split, d, n in asks
        if n
    ]
    for item, record in zip(items, runner.records(items), strict=True):
        dimension, split, wanted = (item.inputs[name] for name in ("dimension", "split", "count"))
        if "rejected" in record:
            raise RunError(
                f"prompt: {dimension}: {record['rejected']}: {record['detail']}. Try again with --retry-rejected, or "
                "take the dimension out of the recipe."
            )
        if len(record["prompts"]) < wanted:
            missed = f"{len(record['prompts'])} of {wanted} different {split} prompts"
            runner.progress.note(f"prompt: {dimension}: the writer found only {missed}")
        source, eval_split = ("synthetic", None) if split == "train" else ("eval", split)
        for draft in record["prompts"]:
            yield Row(source, draft["prompt"], dimension, tuple(draft["objects"]), eval_split=eval_split), None
        for draft in record["dropped"]:
            yield Row(source, draft["prompt"], dimension, eval_split=eval_split), draft["reason"]


def _captions(recipe: Recipe, runner: Runner) -> Iterator[Fate]:
    """A twin for each caption, and the real clip with it."""
    wanted = recipe.captions
    if wanted.table is None or wanted.clips is None:
        items = [
            Item("caption", {"backend": wanted.source}, {"index": i, "seed": recipe.seed}) for i in range(wanted.count)
        ]
    else:
        table = Path(wanted.table).expanduser()
        chosen, passed_over = captions.choose(table, wanted.count, wanted.max_seconds, wanted.min_suitability)
        if len(chosen) < wanted.count:
            runner.progress.note(f"caption: {table.name} holds only {len(chosen)} of {wanted.count} usable rows")
        for clip, reason in passed_over:
            yield Row("real", clip), reason
        items = [_clip(one, table.stem, wanted.clips, recipe) for one in chosen]
    for item, record in zip(items, runner.records(items), strict=True):
        if "rejected" in record:
            told = str(item.inputs.get("caption", item.inputs))
            yield Row("twin", told), record["rejected"]
            if wanted.real:
                yield Row("real", told), record["rejected"]
            continue
        pair = content_key({"caption": record["caption"], "video_sha256": record["video_sha256"]})
        shared = {"base_prompt": record["caption"], "prompt": record["caption"], "pair_id": pair}
        yield Row("twin", **shared), None
        if wanted.real:
            yield Row("real", **shared, clip=record, origin=record["origin"]), None


def _imported(wanted: Imported, recipe: Recipe, runner: Runner) -> Iterator[Fate]:
    """Videos made elsewhere, with the prompts they were made from."""
    table = Path(wanted.table).expanduser()
    chosen, passed_over = captions.choose(table, sys.maxsize, inf, None)
    for clip, reason in passed_over:
        yield Row("synthetic", clip), reason
    samples = Counter[str]()
    items = [_clip(one, table.stem, wanted.clips, recipe) for one in chosen]
    for one, record in zip(chosen, runner.records(items, "import"), strict=True):
        flaw = pixels.flaw(pixels.levels(record))
        unwanted = flaw if flaw in recipe.reject_videos else None
        if "rejected" in record or one.dimension not in recipe.dimensions or unwanted:
            yield Row("synthetic", one.caption), record.get("rejected", unwanted or "other_dimension")
            continue
        yield (
            Row(
                "synthetic",
                one.caption,
                one.dimension,
                sample=samples[one.caption],
                prompt=one.caption,
                generator={"backend": "files", "model": wanted.model},
                clip=record,
            ),
            None,
        )
        samples[one.caption] += 1


def _clip(one: Captioned, dataset: str, folder: str, recipe: Recipe) -> Item:
    """A clip of a folder, to be made to fit the target."""
    profile = profile_of(recipe.target)
    shape = {name: getattr(profile, name) for name in ("height", "width", "num_frames", "fps", "stride")}
    work = {name: getattr(one, name) for name in ("caption", "clip", "start_s", "end_s")}
    settings = {"backend": "table", "dataset": dataset, **shape}
    return Item("caption", settings, work, {"load": str(Path(folder).expanduser())})


def _separate(rows: list[Row], likeness: float | None, blocklist: Blocklist) -> Iterator[str | None]:
    """Why each prompt falls, if it does: evaluation prompts come first, and what they say, training may not."""
    evaluated, written = Seen(likeness), Seen(likeness)
    clips: set[tuple[str, str, int]] = set()
    for row in rows:
        text = row.base_prompt
        if row.prompt:  # it came with a clip: twin and real one share a caption, samples a prompt
            name = (row.source, text, row.sample)
            reason = "duplicate" if name in clips else evaluated.double(text)
            clips.add(name)
        else:
            reason = written.double(text)
            written.add(text)
        if row.eval_split:
            evaluated.add(text)
        yield reason or blocklist.reason(text)

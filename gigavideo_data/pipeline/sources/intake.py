"""The source rows of a build: written prompts, captions with their real clips, and videos that were made elsewhere.

A row may be rejected here already, with a reason; no row is dropped silently. Tables are checked before any model runs.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError, RowError, RunError
from gigavideo_data.io.hashing import content_key
from gigavideo_data.io.spool import Spool
from gigavideo_data.models.generators.profiles import profile_of, warnings_for
from gigavideo_data.models.llm.templates.doubles import doubles
from gigavideo_data.models.llm.templates.prompts import Seen
from gigavideo_data.models.registry import captions_spec, held_out, writer_spec
from gigavideo_data.pipeline.execution.runner import Runner
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.sources import caption_table, decontamination, used_prompts
from gigavideo_data.pipeline.sources.caption_table import Captioned
from gigavideo_data.pipeline.sources.clip_files import ClipFiles
from gigavideo_data.pipeline.sources.decontamination import Blocklist
from gigavideo_data.pipeline.stages import Item, Record, rejection
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from gigavideo_data.recipe.recipe import Imported, Recipe, original_keys
from gigavideo_data.scoring import pixels

EVAL_SPLITS = ("dev", "test")

MAX_LISTED = 3  # files or dimensions in one warning

SourceRow = tuple[Row, Record | None]  # a row, and the record of its rejection, if it was rejected


@dataclass(frozen=True)
class Table:
    """The rows that a recipe uses of one table of clips.

    Attributes:
        key: the key of the recipe that names the table.
        path: of the table.
        folder: of the clips.
        usable: rows whose clips exist.
        without_clip: rows whose clips do not exist, each with the record of its rejection.
        rejected: clips of the rows that cannot be used, each with the reason.
    """

    key: str
    path: Path
    folder: Path
    usable: list[Captioned]
    without_clip: list[tuple[Captioned, Record]]
    rejected: list[tuple[str, Reason]]

    @property
    def num_rows(self) -> int:
        """The number of rows that can be used if their clips exist."""
        return len(self.usable) + len(self.without_clip)


def intake(recipe: Recipe, runner: Runner) -> Sequence[SourceRow]:
    """All rows of a build, as they enter its first stage, kept on disk.

    Raises:
        RunError: the writer wrote no prompts at all for a dimension.
        RecipeError: a table, a block-list or a dataset with used prompts cannot be read, or a table has prompts that
            are kept for evaluation.
    """
    captioned, imported = _tables(recipe)  # first, so that mistakes in tables are reported before any model runs
    for warning in _warnings(recipe, captioned, imported):
        runner.progress.note(warning)
    blocklist = Blocklist(text for path in recipe.blocklists for text in decontamination.read(Path(path)))
    sources = Spool(_written(recipe, runner))
    sources.extend(_captions(recipe, captioned, runner))
    for part, table in zip(recipe.imports, imported, strict=True):
        sources.extend(_imported(part, table, recipe, runner))
    rows = Spool(row for row, reject in sources if reject is None)
    reasons = _duplicates(rows, recipe.prompts.dedup_threshold, blocklist)
    checked = Spool[SourceRow](
        (row, rejection(reason, row.base_prompt) if reason else None) for row, reason in zip(rows, reasons, strict=True)
    )
    checked.extend((row, reject) for row, reject in sources if reject)
    return checked


def intake_warnings(recipe: Recipe) -> list[str]:
    """Warnings about a recipe before it is built: the terms of its models, and table rows that will be rejected.

    Raises:
        RecipeError: a table cannot be read, it has prompts that are kept for evaluation, or a column or the folder of
            its clips is missing.
    """
    return _warnings(recipe, *_tables(recipe))


def _tables(recipe: Recipe) -> tuple[Table | None, list[Table]]:
    """The table of captions, if the recipe has one, and the tables of its imports."""
    part, captioned = recipe.captions, None
    if part.table is not None and part.clips is not None:
        limits = (part.count, part.max_seconds, part.min_suitability)
        captioned = _table("captions", part.table, part.clips, limits)
    no_limits = (sys.maxsize, inf, None)
    imported = [
        _table(f"imports.{number}", one.table, one.clips, no_limits, needs_dimension=True)
        for number, one in enumerate(recipe.imports)
    ]
    for table in [*filter(None, [captioned]), *imported]:
        _refuse_held_out(table, recipe)
    return captioned, imported


def _refuse_held_out(table: Table, recipe: Recipe) -> None:
    """Refuse a table with prompts of a split that the writer keeps for evaluation, drawn by this recipe or not."""
    rows = [*table.usable, *(one for one, _ in table.without_clip)]
    kept = [(one, split) for one in rows if (split := held_out(recipe.writer, one.caption))]
    if kept:
        one, split = kept[0]
        raise RecipeError(
            f"{table.key}.table: {table.path}: {len(kept)} of {table.num_rows} rows have prompts that are kept for "
            f"evaluation and must not be trained on. Clip {one.clip!r}: {one.caption!r} is in {split}. Remove them."
        )


def _table(
    key: str, table: str, clips: str, limits: tuple[int, float, float | None], *, needs_dimension: bool = False
) -> Table:
    path, folder = Path(table).expanduser(), Path(clips).expanduser()
    candidates, rejected = caption_table.choose(path, *limits, needs_dimension=needs_dimension)
    if not folder.is_dir():
        raise RecipeError(f"{key}.clips: {folder}: no such folder; it must contain the clips that {path.name} names")
    files, usable, without_clip = ClipFiles(folder), [], []
    for one in candidates:
        try:
            files.locate(one.clip, timed=one.start_s is not None)
            usable.append(one)
        except RowError as error:  # not recorded in the store: the next build uses the row if the file exists then
            without_clip.append((one, rejection(error.reason, error.detail)))
    return Table(key, path, folder, usable, without_clip, rejected)


def _warnings(recipe: Recipe, captioned: Table | None, imported: list[Table]) -> list[str]:
    models = [*(one.model for one in recipe.generators), *(one.model for one in recipe.imports)]
    warnings = warnings_for(models, recipe.target)
    if captioned and captioned.num_rows < recipe.captions.count:
        usable = f"{captioned.num_rows} of {recipe.captions.count} usable rows"
        warnings.append(f"captions: {captioned.path.name} has only {usable}")
    for table in [*filter(None, [captioned]), *imported]:
        where = f"{table.key}: {table.path.name}"
        if table.rejected:
            reasons = Counter(reason for _, reason in table.rejected)
            counts = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
            warnings.append(f"{where}: {len(table.rejected)} rows cannot be used: {counts}")
        if table.without_clip:
            missing = f"{len(table.without_clip)} of {table.num_rows} clips are not in {table.folder}"
            warnings.append(f"{where}: {missing}: {_listed([one.clip for one, _ in table.without_clip])}")
    for table in imported:
        others = [str(one.dimension) for one in table.usable if one.dimension not in recipe.all_dimensions]
        if others:
            count = f"{len(others)} of {table.num_rows} rows have dimensions that are not in the recipe"
            warnings.append(f"{table.key}: {table.path.name}: {count}: {_listed(list(dict.fromkeys(others)))}")
    return warnings


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


@cache
def about(dimension: str, *fields: str) -> dict[str, Any]:
    """The facts about a dimension that a writer needs: its definition, and these fields. Not to be changed."""
    return {"about": load_dimension(dimension).model_dump(mode="json", include={"definition", *fields})}


def _written(recipe: Recipe, runner: Runner) -> Iterator[SourceRow]:
    """Base prompts, those of evaluation first."""
    requests = [(split, d, recipe.eval_prompts.per_dimension) for split in EVAL_SPLITS for d in recipe.all_dimensions]
    requests += [("train", dimension, count) for dimension, count in recipe.num_prompts.items()]
    used = used_prompts.read(recipe.prompts.used)
    settings, location = writer_spec(recipe.writer)
    prompts = original_keys({"prompts": recipe.prompts.model_dump()})["prompts"]  # they are part of the store's keys
    rules = {name: prompts[name] for name in ("per_call", "likeness", "sift")}
    items = []
    for split, d, n in requests:
        if n:
            inputs = {"dimension": d, "count": n, "seed": recipe.seed, "split": split, "rules": rules}
            earlier = {"used": used[d]} if split == "train" and d in used else {}
            items.append(Item("prompt", settings, {**inputs, **about(d, "seeds"), **earlier}, location))
    for item, record in zip(items, runner.records(items), strict=True):
        dimension, split, count = (item.inputs[name] for name in ("dimension", "split", "count"))
        if "rejected" in record:
            raise RunError(
                f"prompt: {dimension}: {record['rejected']}: {record['detail']}. Try again with --retry-rejected, or "
                "remove the dimension from the recipe."
            )
        if len(record["prompts"]) < count:
            written = f"{len(record['prompts'])} of {count} different {split} prompts"
            runner.progress.note(f"prompt: {dimension}: the writer wrote only {written}")
        if "used" in item.inputs:
            texts = [draft["prompt"] for draft in record["prompts"]]
            num_fresh = len(texts) - used_prompts.num_used(texts, item.inputs["used"])
            runner.progress.note(f"prompt: {dimension}: {num_fresh} of {len(texts)} training prompts are fresh")
        source, eval_split = ("synthetic", None) if split == "train" else ("eval", split)
        for draft in record["prompts"]:
            yield Row(source, draft["prompt"], dimension, tuple(draft["objects"]), eval_split=eval_split), None
        for draft in record["dropped"]:
            reject = rejection(draft["reason"], draft["prompt"])
            yield Row(source, draft["prompt"], dimension, eval_split=eval_split), reject


def _captions(recipe: Recipe, table: Table | None, runner: Runner) -> Iterator[SourceRow]:
    """A twin for each caption, and its real clip."""
    part = recipe.captions
    if table is None:
        settings, location = captions_spec(part)
        items = [Item("caption", settings, {"index": i, "seed": recipe.seed}, location) for i in range(part.count)]
    else:
        for clip, reason in table.rejected:
            yield Row("real", clip), rejection(reason, clip)
        for one, reject in table.without_clip:
            yield from _without_clip(one.caption, reject, recipe)
        items = [_clip(one, table, recipe) for one in table.usable]
    for item, record in zip(items, runner.records(items), strict=True):
        if "rejected" in record:
            yield from _without_clip(str(item.inputs.get("caption", item.inputs)), _of_clip(record, item), recipe)
            continue
        pair = content_key({"caption": record["caption"], "video_sha256": record["video_sha256"]})
        shared = {"base_prompt": record["caption"], "prompt": record["caption"], "pair_id": pair}
        yield Row("twin", **shared), None
        if part.real:
            yield Row("real", **shared, clip=record, origin=record["origin"]), None


def _without_clip(caption: str, reject: Record, recipe: Recipe) -> Iterator[SourceRow]:
    yield Row("twin", caption), reject
    if recipe.captions.real:
        yield Row("real", caption), reject


def _imported(part: Imported, table: Table, recipe: Recipe, runner: Runner) -> Iterator[SourceRow]:
    """Videos made elsewhere, with the prompts they were made from."""
    for clip, reason in table.rejected:
        yield Row("synthetic", clip), rejection(reason, clip)
    for one, reject in table.without_clip:
        yield Row("synthetic", one.caption), reject
    used = [one for one in table.usable if one.dimension in recipe.all_dimensions]
    for one in table.usable:
        if one.dimension not in recipe.all_dimensions:
            detail = f"{one.clip}: {one.dimension} is no dimension of the recipe"
            yield Row("synthetic", one.caption), rejection(Reason.OTHER_DIMENSION, detail)
    samples = Counter[str]()
    items = [_clip(one, table, recipe) for one in used]
    for one, item, record in zip(used, items, runner.records(items, "import"), strict=True):
        if "rejected" in record:
            yield Row("synthetic", one.caption), _of_clip(record, item)
            continue
        flaw = pixels.flaw(pixels.levels(record))
        if flaw and flaw in recipe.reject_videos:
            yield Row("synthetic", one.caption), rejection(flaw, f"{one.clip}: {pixels.describe(record)}")
            continue
        yield (
            Row(
                "synthetic",
                one.caption,
                one.dimension,
                sample=samples[one.caption],
                prompt=one.caption,
                generator={"backend": "files", "model": part.model},
                clip=record,
            ),
            None,
        )
        samples[one.caption] += 1


def _of_clip(record: Record, item: Item) -> Record:
    """The record of a rejected clip, with the clip's name in its detail."""
    name, detail = str(item.inputs.get("clip", "")), record.get("detail") or ""
    return record | {"detail": detail if name in detail else f"{name}: {detail}"}


def _clip(one: Captioned, table: Table, recipe: Recipe) -> Item:
    """The work to fit a clip of a folder to the target model."""
    profile = profile_of(recipe.target)
    shape = {name: getattr(profile, name) for name in ("height", "width", "num_frames", "fps", "stride")}
    work = {name: getattr(one, name) for name in ("caption", "clip", "start_s", "end_s")}
    settings = {"backend": "table", "dataset": table.path.stem, **shape}
    return Item("caption", settings, work, {"load": str(table.folder)})


def _duplicates(rows: Sequence[Row], threshold: float | None, blocklist: Blocklist) -> Iterator[Reason | None]:
    """Why each prompt is rejected, or None; evaluation prompts come first, and no training prompt may be like them."""
    written = iter(doubles([row.base_prompt for row in rows if not row.prompt], threshold))
    evaluated = Seen(threshold)
    clips: set[tuple[str, str, int]] = set()
    for row in rows:
        text = row.base_prompt
        if row.prompt:  # it has a clip: a twin and its real clip share a caption, samples share a prompt
            name = (row.source, text, row.sample)
            reason = Reason.DUPLICATE if name in clips else evaluated.double(text)
            clips.add(name)
        else:
            reason = next(written)
        if row.eval_split:
            evaluated.add(text)
        yield reason or blocklist.reason(text)

"""What goes into a build: written prompts, captions with their real clips, and videos that were made elsewhere.

Each is a row that may be rejected already, with the reason: nothing is passed over in silence. Mistakes in tables
are said before anything is made.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from gigavideo_data import captions, decontaminate, pixels
from gigavideo_data.captions import Captioned
from gigavideo_data.clip_files import ClipFiles
from gigavideo_data.decontaminate import Blocklist
from gigavideo_data.dimensions.catalogue import load_dimension
from gigavideo_data.engines import writer_engine
from gigavideo_data.errors import RecipeError, RowError, RunError
from gigavideo_data.generators.models import profile_of, warnings_for
from gigavideo_data.hashing import content_key
from gigavideo_data.prompts import Seen
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe import Imported, Recipe
from gigavideo_data.row import Row
from gigavideo_data.runner import Runner
from gigavideo_data.stages import Item, Record, rejection

EVAL_SPLITS = ("dev", "test")

NAMED = 3  # files and dimensions that one remark names

Fate = tuple[Row, Record | None]  # a row, and the record of its rejection, if it was rejected


@dataclass(frozen=True)
class Table:
    """What a recipe takes of one table of clips.

    Attributes:
        key: the recipe's part that names it.
        path: of the table.
        folder: of the clips.
        chosen: rows to be used.
        lacking: rows without a file, each with the record of that.
        passed_over: clips of the rows that cannot be used, each with the reason.
    """

    key: str
    path: Path
    folder: Path
    chosen: list[Captioned]
    lacking: list[tuple[Captioned, Record]]
    passed_over: list[tuple[str, Reason]]

    @property
    def num_rows(self) -> int:
        """Rows that can be used, if their files are there."""
        return len(self.chosen) + len(self.lacking)


def intake(recipe: Recipe, runner: Runner) -> list[Fate]:
    """All rows of a build before the first stage that they pass one by one.

    Raises:
        RunError: a writer could not write at all.
        RecipeError: a table or a block-list cannot be read.
    """
    captioned, imported = _tables(recipe)  # and so the mistakes in them, before anything is made
    for remark in _remarks(recipe, captioned, imported):
        runner.progress.note(remark)
    blocklist = Blocklist(text for path in recipe.blocklists for text in decontaminate.read(Path(path)))
    taken = [*_written(recipe, runner), *_captions(recipe, captioned, runner)]
    for wanted, table in zip(recipe.imports, imported, strict=True):
        taken += _imported(wanted, table, recipe, runner)
    rows = [row for row, reject in taken if reject is None]
    reasons = _separate(rows, recipe.prompts.likeness, blocklist)
    separated = [
        (row, rejection(reason, row.base_prompt) if reason else None) for row, reason in zip(rows, reasons, strict=True)
    ]
    return [*separated, *((row, reject) for row, reject in taken if reject)]


def remarks(recipe: Recipe) -> list[str]:
    """What is to be said of a recipe before anything is made: terms of models, and rows of tables that will fall.

    Raises:
        RecipeError: a table cannot be read, or a column or the folder of its clips is missing.
    """
    return _remarks(recipe, *_tables(recipe))


def _tables(recipe: Recipe) -> tuple[Table | None, list[Table]]:
    """The table of captions, if there is one, and those of imports."""
    wanted, captioned = recipe.captions, None
    if wanted.table is not None and wanted.clips is not None:
        limits = (wanted.count, wanted.max_seconds, wanted.min_suitability)
        captioned = _table("captions", wanted.table, wanted.clips, limits)
    everything = (sys.maxsize, inf, None)
    imported = [
        _table(f"imports.{number}", one.table, one.clips, everything, needs_dimension=True)
        for number, one in enumerate(recipe.imports)
    ]
    return captioned, imported


def _table(
    key: str, table: str, clips: str, limits: tuple[int, float, float | None], *, needs_dimension: bool = False
) -> Table:
    path, folder = Path(table).expanduser(), Path(clips).expanduser()
    usable, passed_over = captions.choose(path, *limits, needs_dimension=needs_dimension)
    if not folder.is_dir():
        raise RecipeError(f"{key}.clips: {folder}: no such folder; it must hold the clips that {path.name} names")
    files, chosen, lacking = ClipFiles(folder), [], []
    for one in usable:
        try:
            files.locate(one.clip, timed=one.start_s is not None)
            chosen.append(one)
        except RowError as error:  # no record of the store: once the file is there, the row is made
            lacking.append((one, rejection(error.reason, error.detail)))
    return Table(key, path, folder, chosen, lacking, passed_over)


def _remarks(recipe: Recipe, captioned: Table | None, imported: list[Table]) -> list[str]:
    made_by = [*(one.model for one in recipe.generators), *(one.model for one in recipe.imports)]
    found = warnings_for(made_by, recipe.target)
    if captioned and captioned.num_rows < recipe.captions.count:
        usable = f"{captioned.num_rows} of {recipe.captions.count} usable rows"
        found.append(f"captions: {captioned.path.name} holds only {usable}")
    for table in [*filter(None, [captioned]), *imported]:
        where = f"{table.key}: {table.path.name}"
        if table.passed_over:
            reasons = Counter(reason for _, reason in table.passed_over)
            told = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
            found.append(f"{where}: {len(table.passed_over)} rows cannot be used: {told}")
        if table.lacking:
            missing = f"{len(table.lacking)} of {table.num_rows} clips are not in {table.folder}"
            found.append(f"{where}: {missing}: {_some([one.clip for one, _ in table.lacking])}")
    for table in imported:
        others = [str(one.dimension) for one in table.chosen if one.dimension not in recipe.dimensions]
        if others:
            told = f"{len(others)} of {table.num_rows} rows are of dimensions that the recipe does not name"
            found.append(f"{table.key}: {table.path.name}: {told}: {_some(list(dict.fromkeys(others)))}")
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


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
            reject = rejection(draft["reason"], draft["prompt"])
            yield Row(source, draft["prompt"], dimension, eval_split=eval_split), reject


def _captions(recipe: Recipe, table: Table | None, runner: Runner) -> Iterator[Fate]:
    """A twin for each caption, and the real clip with it."""
    wanted = recipe.captions
    if table is None:
        items = [
            Item("caption", {"backend": wanted.source}, {"index": i, "seed": recipe.seed}) for i in range(wanted.count)
        ]
    else:
        for clip, reason in table.passed_over:
            yield Row("real", clip), rejection(reason, clip)
        for one, reject in table.lacking:
            yield from _without_clip(one.caption, reject, recipe)
        items = [_clip(one, table, recipe) for one in table.chosen]
    for item, record in zip(items, runner.records(items), strict=True):
        if "rejected" in record:
            yield from _without_clip(str(item.inputs.get("caption", item.inputs)), _of_clip(record, item), recipe)
            continue
        pair = content_key({"caption": record["caption"], "video_sha256": record["video_sha256"]})
        shared = {"base_prompt": record["caption"], "prompt": record["caption"], "pair_id": pair}
        yield Row("twin", **shared), None
        if wanted.real:
            yield Row("real", **shared, clip=record, origin=record["origin"]), None


def _without_clip(caption: str, reject: Record, recipe: Recipe) -> Iterator[Fate]:
    yield Row("twin", caption), reject
    if recipe.captions.real:
        yield Row("real", caption), reject


def _imported(wanted: Imported, table: Table, recipe: Recipe, runner: Runner) -> Iterator[Fate]:
    """Videos made elsewhere, with the prompts they were made from."""
    for clip, reason in table.passed_over:
        yield Row("synthetic", clip), rejection(reason, clip)
    for one, reject in table.lacking:
        yield Row("synthetic", one.caption), reject
    wanted_here = [one for one in table.chosen if one.dimension in recipe.dimensions]
    for one in table.chosen:
        if one.dimension not in recipe.dimensions:
            detail = f"{one.clip}: {one.dimension} is no dimension of the recipe"
            yield Row("synthetic", one.caption), rejection(Reason.OTHER_DIMENSION, detail)
    samples = Counter[str]()
    items = [_clip(one, table, recipe) for one in wanted_here]
    for one, item, record in zip(wanted_here, items, runner.records(items, "import"), strict=True):
        if "rejected" in record:
            yield Row("synthetic", one.caption), _of_clip(record, item)
            continue
        flaw = pixels.flaw(pixels.levels(record))
        if flaw and flaw in recipe.reject_videos:
            yield Row("synthetic", one.caption), rejection(flaw, f"{one.clip}: {pixels.told(record)}")
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


def _of_clip(record: Record, item: Item) -> Record:
    """The record of a rejected clip, whose detail names the clip."""
    name, detail = str(item.inputs.get("clip", "")), record.get("detail") or ""
    return record | {"detail": detail if name in detail else f"{name}: {detail}"}


def _clip(one: Captioned, table: Table, recipe: Recipe) -> Item:
    """A clip of a folder, to be made to fit the target."""
    profile = profile_of(recipe.target)
    shape = {name: getattr(profile, name) for name in ("height", "width", "num_frames", "fps", "stride")}
    work = {name: getattr(one, name) for name in ("caption", "clip", "start_s", "end_s")}
    settings = {"backend": "table", "dataset": table.path.stem, **shape}
    return Item("caption", settings, work, {"load": str(table.folder)})


def _separate(rows: list[Row], likeness: float | None, blocklist: Blocklist) -> Iterator[Reason | None]:
    """Why each prompt falls, if it does: evaluation prompts come first, and what they say, training may not."""
    evaluated, written = Seen(likeness), Seen(likeness)
    clips: set[tuple[str, str, int]] = set()
    for row in rows:
        text = row.base_prompt
        if row.prompt:  # it came with a clip: twin and real one share a caption, samples a prompt
            name = (row.source, text, row.sample)
            reason = Reason.DUPLICATE if name in clips else evaluated.double(text)
            clips.add(name)
        else:
            reason = written.double(text)
            written.add(text)
        if row.eval_split:
            evaluated.add(text)
        yield reason or blocklist.reason(text)

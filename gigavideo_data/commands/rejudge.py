"""`gv-data score --recipe R`: judge the videos of a dataset again, by another judge, or those that have no scores yet.

    rejudge(Path("runs/quickstart"), load("quickstart", ["judge.readout=text"]), out, store, progress)

Ids, clips and questions stay. Only judge, specialists and check of the recipe are used, and the writer where a row has
no questions that its new judge understands. A judge is not asked what it has answered already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gigavideo_data.commands.republish import NewStage, Stored, read_stored, republish
from gigavideo_data.commands.rescore import rescored
from gigavideo_data.dataset import latents, summary
from gigavideo_data.dataset.manifest import Manifest
from gigavideo_data.dataset.reader import WITHHELD, read_data, read_rows
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.atomic import Blob
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.judges.base import negate
from gigavideo_data.pipeline import assemble, steps
from gigavideo_data.pipeline.panel import Panel
from gigavideo_data.pipeline.row import AskedQuestion, Row
from gigavideo_data.pipeline.row_counts import check_rejected
from gigavideo_data.pipeline.run_context import RunContext, open_run
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Judge, Recipe, Specialists, hash_of, judge_of, readout_of
from gigavideo_data.rows import DatasetRow, EvalPrompt, LatentsRow, QuestionEntry, Reject, VideoRow
from gigavideo_data.scoring.judge_verdict import JudgeCheck

OWN_WORDS = {"camera", "counting"}  # backends that understand only their own questions; others understand any language
PARTS = ("judge", "specialists", "check")  # of the recipe, that go into the dataset's manifest


@dataclass(frozen=True)
class _Judged:
    """What judging came to.

    `rows` are the generated videos by id, with their new columns; `judged` is how many of them a judge was asked about.
    """

    rows: dict[str, DatasetRow]
    judged: int
    held_out: list[Row]
    check: list[JudgeCheck]


def rejudge(folder: Path, recipe: Recipe, out: Path, store_root: Path, progress: Progress) -> dict[str, Any]:
    """Judge a dataset again.

    Args:
        folder: a finished dataset.
        recipe: names the judge, and the writer of questions that are missing.
        out: folder of the dataset with the new rewards; may be the same.
        store_root: folder of the store, which gets the clips too.
        progress: where to show it.

    Returns:
        JSON-able: number of rows, how many of them were judged and how many were rejected, and the hash of the recipe
        that the dataset has now.

    Raises:
        DatasetError: the folder is no finished dataset, or `out` cannot take one.
        RejectedError: too many rows could not be judged; the dataset is written all the same.
        RunError: another build uses `out`, or the run cannot go on; finished answers are kept.
    """
    stored, before = read_stored(folder), read_rows(folder)
    if stored.manifest.get("withheld"):
        raise DatasetError(f"{folder}: {WITHHELD}")
    used = judging_parts(recipe, summary.dimensions(stored.manifest, before))
    with open_run(used, out, store_root, progress) as context:
        store, counts = context.runner.store, context.counts
        _keep_clips(folder, store, progress, len(before))
        result = _judge(context, stored, before)
        resolved = stored.manifest["recipe"] | {part: context.recipe.resolved()[part] for part in PARTS}
        recipe_facts = {"recipe": resolved, "recipe_hash": hash_of(resolved)}
        real = {row["id"]: row for row in before if row["source"] == "real"}
        after: list[VideoRow] = [
            {**row, "recipe": hash_of(resolved), "video": assemble.video_column(name, _clip(row, store))}
            for name, row in (result.rows | real).items()
        ]
        rejects: list[Reject] = [{**each, "stage": "rejudge"} for each in counts.rejects]
        sources = [*(row["source"] for row in after), *("eval" for _ in result.held_out)]
        republish(
            out,
            stored,
            after,
            changes={**recipe_facts, "judge_check": result.check, "rescored": None},
            stage=NewStage("rejudge", sources, rejects, context.runner.cost),
            eval_prompts=_prompts(stored.eval_prompts, result.held_out),
            shipped=_latents(folder, after, store),
            progress=progress,
        )
        check_rejected(counts.rejects, result.judged, context.recipe.limits.max_rejected, out)
    num_rejected = len(before) - len(after)
    return {"rows": len(after), "judged": result.judged, "rejected": num_rejected, "recipe": hash_of(resolved)}


def judging_parts(recipe: Recipe, dimensions: list[str]) -> Recipe:
    """Only the parts of a recipe that judging uses: its tables and generators need not exist here."""
    parts = {name: getattr(recipe, name) for name in (*PARTS, "writer", "seed", "scale", "limits")}
    return Recipe(name=recipe.name, dimensions=tuple(dimensions), **parts)


def _keep_clips(folder: Path, store: Store, progress: Progress, total: int) -> None:
    """Put the clips into the store, where judges read them."""
    progress.start("clips", total=total)
    for batch in read_data(folder, ["id", "video.bytes", "video_sha256"]):
        for row in batch.to_pylist():
            data = row["video"] and row["video"]["bytes"]
            if data is None:
                raise DatasetError(f"{folder}: row {row['id']}: {WITHHELD}")
            if store.keep(data, ".mp4") != f"{row['video_sha256']}.mp4":
                raise DatasetError(f"{folder}: row {row['id']}: its clip is not that of video_sha256. Do not use it.")
            progress.advance()
    progress.finish()


def _judge(context: RunContext, stored: Stored, before: list[DatasetRow]) -> _Judged:
    """Ask what is missing: questions first, then answers; then compute rewards and check the judge."""
    rows = [_row(columns, context) for columns in before if columns["source"] != "real"]
    rows = _with_all_questions(context, rows)
    prompts = [_held_out(prompt, stored.manifest, context) for prompt in stored.eval_prompts]
    held_out = _with_all_questions(context, prompts)
    columns = {row["id"]: row for row in before}
    answered = [row for row in rows if _is_answered(row, columns[row.id], context.panel)]
    answered_ids = {row.id for row in answered}
    judged = steps.judge(context, [row for row in rows if row.id not in answered_ids])
    judged = steps.reward(context, judged)
    check = steps.check_judge(context, [*answered, *judged], _real(before, rows))
    targets, min_mass = stored.manifest["dimensions"], context.recipe.judge.min_mass
    settings = context.panel.settings
    new: dict[str, DatasetRow]
    new = {row.id: {**columns[row.id], **assemble.scores(row, targets, settings)} for row in judged}
    new |= {row.id: rescored(columns[row.id], targets, min_mass, {}) for row in answered}
    return _Judged(new, len(judged), held_out, check)


def _row(columns: DatasetRow, context: RunContext) -> Row:
    """A row of the dataset, with the questions that its new judge understands."""
    backends = {judge["id"]: judge["kind"] for judge in columns["judges"]}
    asked = [(answer, backends[answer["judge"]]) for answer in columns["answers"]]
    return _from_columns(columns, _understood(asked, context))


def _held_out(prompt: EvalPrompt, manifest: Manifest, context: RunContext) -> Row:
    """An evaluation prompt, with the questions that its new judge understands."""
    specialists = Specialists.model_validate(manifest["recipe"].get("specialists", {}))
    backends = [judge_of(question["dimension"], Judge(), specialists).backend for question in prompt["questions"]]
    return Row(
        "eval",
        prompt["base_prompt"],
        prompt["dimension"],
        eval_split=prompt["split"],
        prompt=prompt["prompt"],
        asks=_understood(zip(prompt["questions"], backends, strict=True), context),
        known_id=_prompt_key(prompt),
    )


def _understood(asked: Iterable[tuple[QuestionEntry, str]], context: RunContext) -> dict[str, list[AskedQuestion]]:
    """Questions by dimension; without dimensions whose new judge understands only other questions.

    Args:
        asked: questions, each with the backend of the judge that it was written for; empty if there are none yet.
        context: names the new judges.
    """
    asks: dict[str, list[AskedQuestion]] = {}
    unfit = set()
    for question, backend in asked:
        dimension, new_backend = question["dimension"], context.panel.judge_of(question["dimension"]).backend
        if backend != new_backend and {backend, new_backend} & OWN_WORDS:
            unfit.add(dimension)
        kept: AskedQuestion = {
            "question": question["question"],
            "expected": question["expected"],
            "gate": question["gate"],
            "negated": negate(question["question"]),
        }
        asks.setdefault(dimension, []).append(kept)
    known = dict.fromkeys((*context.recipe.dimensions, *asks)) if asks else ()
    return {dimension: asks.get(dimension, []) for dimension in known if dimension not in unfit}


def _with_all_questions(context: RunContext, rows: list[Row]) -> list[Row]:
    """The rows with all their questions: first those that had them, then the others, without rejected ones."""
    complete, lacking = [], []
    for row in rows:
        if set(steps.possible_dimensions(context.recipe, row)) <= row.asks.keys():
            complete.append(replace(row, asks={name: questions for name, questions in row.asks.items() if questions}))
        else:
            lacking.append(row)
    return [*complete, *steps.ask(context, lacking)]


def _is_answered(row: Row, columns: DatasetRow, panel: Panel) -> bool:
    """Whether the same judge, shown the same frames, has answered the same questions already."""
    asked = Counter((dimension, q["question"]) for dimension, questions in row.asks.items() for q in questions)
    if asked != Counter((answer["dimension"], answer["question"]) for answer in row.answers):
        return False
    if any(answer["readout"] != readout_of(panel.judge_of(answer["dimension"])) for answer in row.answers):
        return False
    judges = assemble.judged_by([panel.settings_of(panel.judge_of(dimension)) for dimension in row.asks], row)
    new, old = (
        {(judge["id"], judge["kind"], judge["frames"], judge["template"]) for judge in each}
        for each in (judges, columns["judges"])
    )
    return new == old


def _real(before: list[DatasetRow], rows: list[Row]) -> list[Row]:
    """The real clips with the questions of their generated counterparts, for the judge check."""
    asks = {row.pair_id: row.asks for row in rows if row.source == "twin"}
    return [_from_columns(row, asks.get(row["pair_id"], {})) for row in before if row["source"] == "real"]


def _from_columns(columns: DatasetRow, asks: dict[str, list[AskedQuestion]]) -> Row:
    return Row(
        columns["source"],
        columns["base_prompt"],
        columns["dimension"],
        sample=columns["sample"],
        pair_id=columns["pair_id"],
        prompt=columns["prompt"],
        asks=asks,
        clip={**assemble.video_facts(columns)},
        answers=columns["answers"],
        measurements=columns["measurements"],
        known_id=columns["id"],
    )


def _clip(columns: DatasetRow, store: Store) -> Blob:
    return store.on_disk(f"{columns['video_sha256']}.mp4")


def _latents(folder: Path, rows: list[VideoRow], store: Store) -> list[LatentsRow]:
    """The latents of the rows that stay. They are put into the store, as the clips: they are larger than memory."""
    kept = []
    for one in latents.carried(folder, rows):
        assert isinstance(one["latents"], bytes)  # as read from a dataset
        kept.append(one | {"latents": store.on_disk(store.keep(one["latents"], ".latents"))})
    return kept


def _prompts(prompts: list[EvalPrompt], held_out: list[Row]) -> list[EvalPrompt]:
    """The evaluation prompts with the questions that they have now."""
    rows = {row.id: row for row in held_out}
    return [
        prompt | {"questions": assemble.questions(rows[key])}
        for prompt in prompts
        if (key := _prompt_key(prompt)) in rows
    ]


def _prompt_key(prompt: EvalPrompt) -> str:
    return f"{prompt['prompt_id']} {prompt['dimension']}"

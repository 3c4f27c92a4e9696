"""The videos of a dataset, judged again: by another judge, or those that nobody has judged yet.

    rejudge(Path("runs/quickstart"), load("quickstart", ["judge.readout=text"]), out, store, progress)

Ids, clips and questions stay. Of the recipe only judge, specialists and check are used, and the writer where a row has
no questions that its new judge understands. What this very judge has answered already is not asked again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gigavideo_data import assemble, latents, summary
from gigavideo_data.errors import DatasetError
from gigavideo_data.folder_read import WITHHELD, read_all, read_data, read_manifest, read_rows
from gigavideo_data.folder_read import Row as Columns
from gigavideo_data.judges.protocol import turn
from gigavideo_data.manifest import Manifest
from gigavideo_data.pipeline import Build, at_work, check_rejected
from gigavideo_data.progress import Progress
from gigavideo_data.publish import write_dataset
from gigavideo_data.recipe import Judge, Recipe, Specialists, hash_of, judge_of, readout_of
from gigavideo_data.report import write_report
from gigavideo_data.rescore import rescored
from gigavideo_data.row import Row
from gigavideo_data.schema import EVAL_PROMPT_SCHEMA, REJECT_SCHEMA
from gigavideo_data.store import Store

OWN_WORDS = {"camera", "counting"}  # backends that understand only questions of their own; others, any language
PARTS = ("judge", "specialists", "check")  # of a recipe, what is used here


def rejudge(folder: Path, recipe: Recipe, out: Path, store_root: Path, progress: Progress) -> dict[str, Any]:
    """Judge a dataset again.

    Args:
        folder: a finished dataset.
        recipe: names the judge, and the writer of questions that are missing.
        out: folder of the dataset with the new rewards; may be the same.
        store_root: finished work; the clips are put there too.
        progress: where to show it.

    Returns:
        JSON-able: number of rows, how many of them were judged and how many fell, and the hash of the recipe that the
        dataset has now.

    Raises:
        DatasetError: the folder is no finished dataset, or `out` cannot take one.
        RejectedError: too many rows could not be judged; the dataset is written all the same.
        RunError: another build works in `out`, or the run cannot go on; finished answers are kept.
    """
    manifest, before = read_manifest(folder), read_rows(folder)
    if manifest.get("withheld"):
        raise DatasetError(f"{folder}: {WITHHELD}")
    prompts = read_all(folder, EVAL_PROMPT_SCHEMA, "eval_prompts")
    with at_work(_used(recipe, summary.dimensions(manifest, before)), out, store_root, progress) as work:
        _keep_clips(folder, work.runner.store, progress, len(before))
        rows = _with_questions([_row(row, work) for row in before if row["source"] != "real"], work)
        held_out = _with_questions([_held_out(prompt, manifest, work) for prompt in prompts], work)
        columns = {row["id"]: row for row in before}
        settled = {row.id for row in rows if _is_settled(row, columns[row.id], work)}
        judged = work.reward(work.judge([row for row in rows if row.id not in settled]))
        check = work.check_judge([row for row in rows if row.id in settled] + judged, _real(before, rows))
        targets, judges = manifest["dimensions"], [settings for settings, _ in work.engines.values()]
        new = {row.id: columns[row.id] | assemble.scores(row, targets, judges) for row in judged}
        new |= {name: rescored(columns[name], targets, work.recipe.judge.min_mass, {}) for name in settled}
        new |= {row["id"]: row for row in before if row["source"] == "real"}
        resolved = manifest["recipe"] | {part: work.recipe.resolved()[part] for part in PARTS}
        after = [row | {"recipe": hash_of(resolved), "video": _video(row, work.runner.store)} for row in new.values()]
        fallen = [reject | {"stage": "rejudge"} for reject in work.rejects]
        sources = [*(row["source"] for row in after), *("eval" for _ in held_out)]
        manifest |= {
            "recipe": resolved,
            "recipe_hash": hash_of(resolved),
            "code_version": version("gigavideo"),
            "ledger": [*manifest["ledger"], *assemble.ledger_lines("rejudge", sources, fallen)],
            "judge_check": check,
            "rewards": assemble.reward_summaries(after, manifest["dimensions"]),
        }
        manifest.pop("rescored", None)
        cost = json.loads((folder / "cost.json").read_text("utf-8"))
        write_dataset(
            out,
            after,
            _prompts(prompts, held_out),
            [*read_all(folder, REJECT_SCHEMA, "rejects"), *fallen],
            manifest,
            cost | {"stages": cost["stages"] + work.runner.cost},
            progress,
            latents=_latents(folder, after, work.runner.store),
        )
        write_report(out)
        check_rejected(work, len(judged), out)
    return {"rows": len(after), "judged": len(judged), "fell": len(before) - len(after), "recipe": hash_of(resolved)}


def _used(recipe: Recipe, dimensions: list[str]) -> Recipe:
    """Only what is used of a recipe: tables and generators that it names are not looked for."""
    parts = {name: getattr(recipe, name) for name in (*PARTS, "writer", "seed", "scale", "limits")}
    return Recipe(name=recipe.name, dimensions=tuple(dimensions), **parts)


def _keep_clips(folder: Path, store: Store, progress: Progress, total: int) -> None:
    """Put the clips where judges find them.

    Raises:
        DatasetError: they are withheld, or one is not that whose sum its row gives.
    """
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


def _row(columns: Columns, work: Build) -> Row:
    """A row on its way again, with the questions that its new judge understands."""
    kinds = {judge["id"]: judge["kind"] for judge in columns["judges"]}
    asked = [(answer, kinds[answer["judge"]]) for answer in columns["answers"]]
    return _on_its_way(columns, _understood(asked, work))


def _held_out(prompt: Columns, manifest: Manifest, work: Build) -> Row:
    """An evaluation prompt with the same."""
    specialists = Specialists.model_validate(manifest["recipe"].get("specialists", {}))
    kinds = [judge_of(question["dimension"], Judge(), specialists).backend for question in prompt["questions"]]
    asks = _understood(zip(prompt["questions"], kinds, strict=True), work)
    return Row(
        "eval",
        prompt["base_prompt"],
        prompt["dimension"],
        eval_split=prompt["split"],
        prompt=prompt["prompt"],
        asks=asks,
        known=_name(prompt),
    )


def _understood(asked: Iterable[tuple[Columns, str]], work: Build) -> dict[str, list[dict[str, Any]]]:
    """Questions by dimension, empty where none was asked; without dimensions whose new judge wants other words.

    Args:
        asked: questions with the backend of the judge that they were written for; none: nobody has asked yet.
        work: names the new judges.
    """
    asks: dict[str, list[dict[str, Any]]] = {}
    unfit = set()
    for question, backend in asked:
        dimension, now = question["dimension"], work.judge_of(question["dimension"]).backend
        if backend != now and {backend, now} & OWN_WORDS:
            unfit.add(dimension)
        kept = {name: question[name] for name in ("question", "expected", "gate")}
        asks.setdefault(dimension, []).append(kept | {"negated": turn(question["question"])})
    known = dict.fromkeys((*work.recipe.dimensions, *asks)) if asks else ()
    return {dimension: asks.get(dimension, []) for dimension in known if dimension not in unfit}


def _with_questions(rows: list[Row], work: Build) -> list[Row]:
    """The rows with all their questions, those that lacked some after the others; without those that get none."""
    lacking = [row for row in rows if not set(work.may_show(row)) <= row.asks.keys()]
    names = {row.id for row in lacking}
    whole = [row for row in rows if row.id not in names]
    asked = [replace(row, asks={d: questions for d, questions in row.asks.items() if questions}) for row in whole]
    return asked + work.questions(lacking)


def _is_settled(row: Row, columns: Columns, work: Build) -> bool:
    """Whether the judge, shown the same frames, has answered the same questions already."""
    asked = Counter((dimension, q["question"]) for dimension, questions in row.asks.items() for q in questions)
    if asked != Counter((answer["dimension"], answer["question"]) for answer in row.answers):
        return False
    if any(answer["readout"] != readout_of(work.judge_of(answer["dimension"])) for answer in row.answers):
        return False
    judges = assemble.judged_by([work.engines[work.judge_of(dimension)][0] for dimension in row.asks], row)
    shown = ("id", "kind", "frames", "template")
    now, then = ({tuple(judge[name] for name in shown) for judge in each} for each in (judges, columns["judges"]))
    return now == then


def _real(before: list[Columns], rows: list[Row]) -> list[Row]:
    """The real clips with their twins' questions, for the judge check."""
    asks = {row.pair_id: row.asks for row in rows if row.source == "twin"}
    real = [row for row in before if row["source"] == "real"]
    return [_on_its_way(row, asks.get(row["pair_id"], {})) for row in real]


def _on_its_way(columns: Columns, asks: dict[str, list[dict[str, Any]]]) -> Row:
    names = ("source", "base_prompt", "dimension", "sample", "pair_id", "prompt", "answers", "measurements")
    clip = {name: columns[name] for name in assemble.VIDEO_FACTS}
    return Row(**{name: columns[name] for name in names}, clip=clip, asks=asks, known=columns["id"])


def _video(columns: Columns, store: Store) -> dict[str, Any]:
    return {"bytes": store.on_disk(f"{columns['video_sha256']}.mp4"), "path": f"{columns['id']}.mp4"}


def _latents(folder: Path, rows: list[Columns], store: Store) -> list[Columns]:
    """Those of the rows that stay, put into the store as the clips are: they are larger than memory."""
    return [
        one | {"latents": store.on_disk(store.keep(one["latents"], ".latents"))}
        for one in latents.carried(folder, rows)
    ]


def _prompts(prompts: list[Columns], held_out: list[Row]) -> list[Columns]:
    """The evaluation prompts with the questions that they have now."""
    asked = {row.id: row for row in held_out}
    kept = [(prompt, asked[_name(prompt)]) for prompt in prompts if _name(prompt) in asked]
    return [prompt | {"questions": assemble.questions(row)} for prompt, row in kept]


def _name(prompt: Columns) -> str:
    return f"{prompt['prompt_id']} {prompt['dimension']}"

"""`gv-data build`: from a recipe to a published dataset folder.

Each stage is one Ray Data execution over the rows that the store does not have yet, so only one kind of model is loaded
at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from gigavideo_data.commands.plan import missing_videos
from gigavideo_data.dataset import finished, latents
from gigavideo_data.dataset.report import page
from gigavideo_data.dataset.writer import Uploader, commonest, write_dataset
from gigavideo_data.errors import HubError, RecipeError
from gigavideo_data.io.hashing import canonical
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.spool import Spool
from gigavideo_data.models.generators.profiles import vae_of
from gigavideo_data.models.generators.requirements import check_models, depends_on_machine, refusal, this_machine
from gigavideo_data.models.registry import check_subjects, generator_spec
from gigavideo_data.pipeline import assemble, steps
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.row_counts import check_rejected, summed
from gigavideo_data.pipeline.run_context import RunContext, open_run
from gigavideo_data.pipeline.stages import LATENTS_FILE
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Generator, Recipe
from gigavideo_data.rows import LatentsRow, VaeColumn, VideoRow


@dataclass(frozen=True)
class BuildResult:
    """What a build wrote."""

    rows: int
    rejected: int
    reasons: list[str]  # the most frequent ones, one line each
    out: Path
    cost: dict[str, Any]


def build(
    recipe: Recipe,
    out: Path,
    store_root: Path,
    progress: Progress,
    *,
    retry_rejected: bool = False,
    uploader: Uploader | None = None,
    with_latents: bool | None = None,
) -> BuildResult:
    """Build a dataset.

    Args:
        recipe: what to make.
        out: folder of the dataset; one build at a time.
        store_root: folder of the store; any number of builds at a time.
        progress: where to show it.
        retry_rejected: process rows again that earlier builds rejected.
        uploader: gets each shard as soon as it is closed.
        with_latents: whether the dataset holds the final latents of its generated videos; None is yes, unless a
            generator's autoencoder cannot be identified on this machine. No row depends on it.

    Raises:
        RunError: another build uses `out`, or the run cannot go on; finished rows are kept.
        RejectedError: more rows failed than `limits.max_rejected` allows; the dataset is written all the same.
        DatasetError: `out` cannot take a dataset.
        RecipeError: a writer cannot write about a dimension, or a generator cannot run as requested, or not here.
        HubError: the commit of a model cannot be determined.
    """
    check_subjects(recipe)
    check_models(recipe)
    _check_machine(recipe, store_root)
    with open_run(recipe, out, store_root, progress, retry_rejected=retry_rejected) as context:
        return _build(context, out, uploader, with_latents=with_latents)


def _check_machine(recipe: Recipe, store_root: Path) -> None:
    """Refuse a recipe that this machine cannot make, unless the store has its videos. A cluster is not examined.

    Raises:
        RecipeError: the machine has too few GPUs or too little memory.
    """
    if "RAY_ADDRESS" in os.environ or not depends_on_machine(recipe):
        return
    problem = refusal(recipe, this_machine())
    if problem and missing_videos(recipe, Store(store_root)):
        raise RecipeError(problem)


def _build(context: RunContext, out: Path, uploader: Uploader | None, *, with_latents: bool | None) -> BuildResult:
    recipe, runner, counts, began = context.recipe, context.runner, context.counts, time.monotonic()
    asked = steps.ask(context, steps.extend(context, steps.prompts(context)))
    evaluation = [row for row in asked if row.source == "eval"]
    real = Spool(row for row in asked if row.source == "real")
    generated, sampled = steps.videos(context, Spool(row for row in asked if row.source in ("synthetic", "twin")))
    check = steps.check_judge(context, generated, real)
    rows = Spool(assemble.row(row, recipe, context.panel.settings, runner.store) for row in chain(generated, real))
    cost = {"stages": runner.cost, "wall_seconds": round(time.monotonic() - began, 3)}
    resolved = recipe.resolved()
    manifest = {
        "name": recipe.name,
        "recipe": resolved,
        "recipe_hash": recipe.hash,
        "code_version": version("gigavideo"),
        "target_model": resolved["target"],
        "dimensions": list(recipe.all_dimensions),
        "license": recipe.license,
        "ledger": summed(counts.lines),
        "judge_check": check,
        "generators": assemble.generating_models(rows),
        "rewards": assemble.reward_summaries(rows, recipe.all_dimensions),
        **({"sampled": sampled} if sampled else {}),
    }
    prompts = [assemble.eval_prompt(row, recipe) for row in evaluation]
    vaes = _vaes(context, required=with_latents) if with_latents is not False else {}
    blobs = (row.clip["blobs"] for row in generated if row.clip and vaes)  # name the latents by their content
    facts = ([manifest], [list(vaes.values())], map(_facts, rows), blobs, prompts, counts.rejects)
    written_from = finished.fingerprint(chain.from_iterable(facts))
    if finished.is_finished(out, written_from):
        runner.progress.note(f"nothing changed: {out} was written and verified before")
    else:
        shipped = _latents(context, generated, rows, vaes)
        write_dataset(out, rows, prompts, counts.rejects, manifest, cost, runner.progress, uploader, shipped)
        page.write_report(out)
        finished.mark(out, written_from)
    check_rejected(counts.rejects, len(generated), recipe.limits.max_rejected, out)
    return BuildResult(len(rows), len(counts.rejects), commonest(counts.rejects), out, cost)


def _vaes(context: RunContext, *, required: bool | None) -> dict[bytes, VaeColumn]:
    """The autoencoder of each of the recipe's generators, by its settings.

    Raises:
        RecipeError, HubError: latents are required, and an autoencoder cannot be identified.
    """
    try:
        return {
            canonical(generator_spec(generator).identity): vae_of(generator)
            for generator in context.recipe.generators
            if not Generator.is_plugin(dict(generator))  # whose latents, if it has any, are of an unknown autoencoder
        }
    except (RecipeError, HubError) as error:  # as on a machine that has the videos in its store, but no model
        if required:
            raise
        context.runner.progress.note(f"the dataset has no latents: {error}")
        return {}


def _latents(
    context: RunContext, generated: Sequence[Row], rows: Sequence[VideoRow], vaes: dict[bytes, VaeColumn]
) -> Iterator[LatentsRow]:
    """The final latents of the videos that generators with these autoencoders made; imported videos have none.

    `rows` are the columns of `generated`, in the same order, and more.
    """
    for row, columns in zip(generated, rows, strict=False):
        if row.clip and LATENTS_FILE in row.clip["blobs"] and (key := canonical(row.generator)) in vaes:
            yield latents.columns(columns, context.runner.store.on_disk(row.clip["blobs"][LATENTS_FILE]), vaes[key])


def _facts(row: VideoRow) -> dict[str, Any]:
    """A row without the bytes of its video, which `video_sha256` stands for."""
    return {**row, "video": row["video"] and row["video"]["path"]}

"""`gv-data plan`: what a recipe would make, what the store has of it already, and what the rest may cost.

    facts = plan(load("physics"), Store(Path("runs/store")), gpu_named("h100"));  show(facts, terminal.console())

The steps run as in a build, with a runner that only reads the store: a row that it lacks does not reach the next step.
After an unfinished stage, rows are counted by arithmetic from the recipe, as the largest possible number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from gigavideo_data.commands.planning import estimate
from gigavideo_data.commands.planning.estimate import Judged, Sizes
from gigavideo_data.commands.planning.rates import Gpu, kind_of
from gigavideo_data.errors import HubError
from gigavideo_data.hub import models
from gigavideo_data.hub.pin import pinned
from gigavideo_data.io import terminal
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators.requirements import (
    check_models,
    depends_on_machine,
    descriptions,
    refusal,
    this_machine,
)
from gigavideo_data.models.registry import check_subjects
from gigavideo_data.pipeline import assemble, steps
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.sources.intake import intake_warnings
from gigavideo_data.pipeline.stages import LATENTS_FILE, Item, Record
from gigavideo_data.pipeline.steps import Context
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Recipe
from gigavideo_data.scoring.training_weights import default_weights, effective_size

STAGES = (
    "prompt",
    "caption",
    "import",
    "extend",
    "questions",
    "synthesize",
    "judge",
    "synthesize more",
    "judge more",
    "judge check",
)


NOT_MADE = "new"  # stands for the reason where the store has no record


class DryRunRunner:
    """A runner that reads the store and processes nothing."""

    def __init__(self, store: Store) -> None:
        self.store, self.progress = store, Progress(Console(quiet=True))
        self.seen: dict[str, tuple[int, int]] = {}  # label -> number of rows, and of those in the store
        self.sizes = Sizes()  # of the videos in the store

    def records(self, items: Iterable[Item], label: str | None = None) -> list[Record]:
        """Records that the store has. A missing one is a rejection, or in the stage `prompt` an empty list."""
        items = list(items)
        if not items:
            return []
        stage = items[0].stage
        found = {item.key: self.store.peek(stage, item.key) for item in items}
        self.seen[label or stage] = len(found), sum(record is not None for record in found.values())
        for record in found.values():
            blobs = (record or {}).get("blobs", {})
            if name := blobs.get("video.mp4"):
                self.sizes.videos.append(self.store.size(name))
            if name := blobs.get(LATENTS_FILE):
                self.sizes.latents.append(self.store.size(name))
        missing: Record = {"prompts": [], "dropped": []} if stage == "prompt" else {"rejected": NOT_MADE}
        return [found[item.key] or missing for item in items]


def plan(recipe: Recipe, store: Store, gpu: Gpu | None = None) -> dict[str, Any]:
    """Count the rows of each stage, and those in the store, and estimate what the rest takes.

    Args:
        recipe: of the build.
        store: that the build would use.
        gpu: that the models would run on; None: nothing is said about GPUs.

    Returns:
        JSON-able: the target dimensions and the others, what each generator makes and its licence, one line per stage
        (`estimate.stage_line`), the total of device hours (`estimate.totals`), the disk (`estimate.disk`), and the cost
        per useful sample (`estimate.cost_per_sample`; None if it cannot be estimated).

    Raises:
        RecipeError: the writer cannot write about a dimension, a generator cannot run as requested, or a table, the
            folder of its clips, or a dataset with used prompts cannot be read.
    """
    check_subjects(recipe)
    check_models(recipe)
    unknown: list[HubError] = []
    with models.asked_once():
        recipe = pinned(recipe, unknown)
        runner = DryRunRunner(store)
        most, judged = _run_steps(recipe, runner, unknown)
    warnings = [f"{error}. What the store has of it is not counted." for error in unknown]
    lines, complete = [], True
    for stage in STAGES:
        rows, in_store = runner.seen.get(stage, (0, 0))
        if not complete:
            rows = max(rows, most[stage])
        complete = complete and in_store == rows
        if rows:
            lines.append(estimate.stage_line(stage, rows, in_store, recipe, gpu))
    return {
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "targets": list(recipe.dimensions),
        "others": list(recipe.others.dimensions),
        "generators": descriptions(recipe),
        "stages": lines,
        "total": estimate.totals(lines, gpu),
        "disk": estimate.disk(lines, recipe, runner.sizes),
        "cost_per_sample": estimate.cost_per_sample(lines, judged),
        "warnings": warnings + _machine_warnings(recipe) + intake_warnings(recipe),
    }


def missing_videos(recipe: Recipe, store: Store) -> int:
    """The largest number of videos that a build would make now; raises what `plan` raises."""
    lines = plan(recipe, store)["stages"]
    return sum(line["rows"] - line["in_store"] for line in lines if kind_of(line["stage"]) == estimate.SYNTHESIZE)


def _machine_warnings(recipe: Recipe) -> list[str]:
    """Why this machine cannot make the videos, if it is not one of a cluster."""
    if "RAY_ADDRESS" in os.environ or not depends_on_machine(recipe):
        return []
    problem = refusal(recipe, this_machine())
    return [f"a build on this machine is refused: {problem}"] if problem else []


def _run_steps(recipe: Recipe, runner: DryRunRunner, unknown: list[HubError]) -> tuple[dict[str, int], Judged]:
    """Run the steps of a build; return the largest number of rows of each stage, and what judged clips are worth.

    `unknown` gets the error where a model's commit, which decides a video, cannot be determined.
    """
    context = Context(recipe, runner)
    asked = steps.ask(context, steps.extend(context, steps.prompts(context)))
    real = [row for row in asked if row.source == "real"]
    most = _most(recipe, runner)
    generated: Sequence[Row] = []
    judged = Judged(0, 0, 0.0)
    try:
        drafts = [row for row in asked if row.source in ("synthetic", "twin")]
        generated, _ = steps.videos(context, drafts)
        judged = _judged(context, store=runner.store, rows=generated)
    except HubError as error:
        unknown.append(error)
        runner.seen["synthesize"] = most["synthesize"], 0
    steps.check_judge(context, generated, real)
    return most, judged


def _judged(context: Context, store: Store, rows: Sequence[Row]) -> Judged:
    """How useful the generated clips are that the store has with their rewards."""
    recipe, settings = context.recipe, context.panel.settings
    scored = [assemble.row(row, recipe, settings, store) for row in rows]
    weights = default_weights(scored, recipe.all_dimensions)
    return Judged(len(scored), len(weights), effective_size(weights))


def _most(recipe: Recipe, runner: DryRunRunner) -> dict[str, int]:
    """The largest number of rows that each stage can have."""
    num_dimensions = len(recipe.all_dimensions)
    written = sum(recipe.num_prompts.values())
    held_out = num_dimensions * recipe.eval_prompts.per_dimension * 2
    captioned, imported = (runner.seen.get(name, (0, 0))[0] for name in ("caption", "import"))
    extended = written * recipe.prompts.variants + held_out
    samples = recipe.samples_per_prompt
    videos = written * recipe.prompts.variants * samples.first + captioned
    more = written * recipe.prompts.variants * samples.more
    clips = captioned * (1 + recipe.captions.real)
    # For each dimension: its own videos, generated counterparts of real clips that may show it, and real clips.
    per_prompt = recipe.prompts.variants * (samples.first + samples.more)
    checked = sum(
        min(recipe.check.videos, count * per_prompt + captioned + imported) + min(recipe.check.videos, captioned)
        for count in recipe.num_prompts.values()
    )
    return {
        "prompt": num_dimensions * 3,
        "caption": captioned,
        "import": imported,
        "extend": extended,
        "questions": (extended + clips + imported) * num_dimensions,
        "synthesize": videos,
        "judge": videos + imported,
        "synthesize more": more,
        "judge more": more,
        "judge check": checked,
    }


def show(facts: dict[str, Any], console: Console) -> None:
    """Print a plan: the cost per useful sample, the stages, the totals, and what they are based on."""
    if figure := facts["cost_per_sample"]:
        console.print(estimate.sentence(figure))
    title = f"{facts['recipe']}   recipe {facts['recipe_hash']}"
    table = terminal.Table(title, "stage", ">rows", ">in store", ">missing", ">device hours", "device", "known by")
    for line in facts["stages"]:
        missing = line["rows"] - line["in_store"]
        hours = "-" if not missing else "unknown" if line["seconds"] is None else f"{line['seconds'] / 3600:.2f}"
        cells = (line["device"] or "-", line["kind"] or "-") if missing else ("-", "-")
        table.add(line["stage"], line["rows"], line["in_store"], missing, hours, *cells)
    console.print(table)
    missing_of = {line["stage"]: line["rows"] - line["in_store"] for line in facts["stages"]}
    if "synthesize more" in missing_of and missing_of["judge"]:
        console.print("synthesize more, judge more: at most so many; the rewards of the first videos decide")
    for line in terminal.targets_and_others(facts["targets"], facts["others"]):
        console.print(line)
    for one in facts["generators"]:
        console.print(f"{one['model']}: {one['videos']}, {one['steps']} steps; licence: {one['licence']}")
    for text in estimate.in_words(facts["total"], facts["disk"]):
        console.print(text)
    for line in facts["stages"]:
        if line["rate"]:
            console.print(f"{line['stage']}: {line['rate']}")
    for warning in facts["warnings"]:
        console.print(warning)

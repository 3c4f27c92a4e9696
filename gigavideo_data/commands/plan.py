"""`gv-data plan`: what a recipe would make, what the store has of it already, and what the rest may cost.

The steps run as in a build, with a runner that only reads the store: a row that it lacks does not reach the next step.
After an unfinished stage, rows are counted by arithmetic from the recipe, as the largest possible number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from gigavideo_data.errors import HubError
from gigavideo_data.hub import models
from gigavideo_data.hub.pin import pinned
from gigavideo_data.io import terminal
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.registry import check_subjects
from gigavideo_data.pipeline import steps
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.sources.intake import intake_warnings
from gigavideo_data.pipeline.stages import Item, Record
from gigavideo_data.pipeline.steps import Context
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Recipe, published_name

STAGES = ("prompt", "caption", "import", "extend", "questions", "synthesize", "judge", "judge check")


@dataclass(frozen=True)
class Rate:
    """Seconds that one row takes on one device, which device, and where the number comes from."""

    seconds: float
    device: str
    source: str


_QUICKSTART = "recipe quickstart-all on two cores of an AMD EPYC"
# Only measured values; nothing is guessed.
RATES = {
    ("synthesize", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"): Rate(240.0, "RTX 4090", "README of Wan2.1, 832x480, 81 frames"),
    # Twice the wall seconds of cost.json over its rows: two workers were busy, Ray's start included.
    ("prompt", "grammar"): Rate(0.55, "CPU core", _QUICKSTART),
    ("extend", "grammar"): Rate(0.006, "CPU core", _QUICKSTART),
    ("questions", "grammar"): Rate(0.003, "CPU core", _QUICKSTART),
    ("synthesize", "miniature"): Rate(0.34, "CPU core", _QUICKSTART),
    ("judge", "miniature"): Rate(0.05, "CPU core", _QUICKSTART),
}


NOT_MADE = "new"  # stands for the reason where the store has no record


class DryRunRunner:
    """A runner that reads the store and processes nothing."""

    def __init__(self, store: Store) -> None:
        self.store, self.progress = store, Progress(Console(quiet=True))
        self.seen: dict[str, tuple[int, int]] = {}  # label -> number of rows, and of those in the store
        self.num_bytes: list[int] = []  # of each video in the store

    def records(self, items: Iterable[Item], label: str | None = None) -> list[Record]:
        """Records that the store has. A missing one is a rejection, or in the stage `prompt` an empty list."""
        items = list(items)
        if not items:
            return []
        stage = items[0].stage
        found = {item.key: self.store.peek(stage, item.key) for item in items}
        self.seen[label or stage] = len(found), sum(record is not None for record in found.values())
        for record in found.values():
            name = (record or {}).get("blobs", {}).get("video.mp4")
            if name:
                self.num_bytes.append(self.store.size(name))
        missing: Record = {"prompts": [], "dropped": []} if stage == "prompt" else {"rejected": NOT_MADE}
        return [found[item.key] or missing for item in items]


def plan(recipe: Recipe, store: Store) -> dict[str, Any]:
    """Count the rows of each stage, and those in the store.

    Returns:
        JSON-able: the target dimensions and the others, one line per stage (largest number of rows, rows in the store,
        seconds of a device for the rest and their source, None where nobody measured them), and the bytes of the videos
        that are missing (None if the store has no video to estimate from).

    Raises:
        RecipeError: the writer cannot write about a dimension, or a table, the folder of its clips, or a dataset with
            used prompts cannot be read.
    """
    check_subjects(recipe)
    unknown: list[HubError] = []
    with models.asked_once():
        recipe = pinned(recipe, unknown)
        runner = DryRunRunner(store)
        most = _run_steps(recipe, runner, unknown)
    warnings = [f"{error}. What the store has of it is not counted." for error in unknown]
    lines, complete = [], True
    for stage in STAGES:
        rows, in_store = runner.seen.get(stage, (0, 0))
        if not complete:
            rows = max(rows, most[stage])
        complete = complete and in_store == rows
        if rows:
            lines.append({"stage": stage, "rows": rows, "in_store": in_store, **_cost(stage, rows - in_store, recipe)})
    num_missing = sum(line["rows"] - line["in_store"] for line in lines if line["stage"] == "synthesize")
    sizes = runner.num_bytes
    return {
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "targets": list(recipe.dimensions),
        "others": list(recipe.others.dimensions),
        "stages": lines,
        "video_bytes": (round(num_missing * sum(sizes) / len(sizes)) if sizes else None) if num_missing else 0,
        "warnings": warnings + intake_warnings(recipe),
    }


def _run_steps(recipe: Recipe, runner: DryRunRunner, unknown: list[HubError]) -> dict[str, int]:
    """Run the steps of a build; return the largest number of rows of each stage.

    `unknown` gets the error where a model's commit, which decides a video, cannot be determined.
    """
    context = Context(recipe, runner)
    asked = steps.ask(context, steps.extend(context, steps.prompts(context)))
    real = [row for row in asked if row.source == "real"]
    most = _most(recipe, runner)
    generated: Sequence[Row] = []
    try:
        drafts = [row for row in asked if row.source in ("synthetic", "twin")]
        generated = steps.judge(context, steps.synthesize(context, drafts))
    except HubError as error:
        unknown.append(error)
        runner.seen["synthesize"] = most["synthesize"], 0
    steps.check_judge(context, generated, real)
    return most


def _most(recipe: Recipe, runner: DryRunRunner) -> dict[str, int]:
    """The largest number of rows that each stage can have."""
    num_dimensions = len(recipe.all_dimensions)
    written = sum(recipe.num_prompts.values())
    held_out = num_dimensions * recipe.eval_prompts.per_dimension * 2
    captioned, imported = (runner.seen.get(name, (0, 0))[0] for name in ("caption", "import"))
    extended = written * recipe.prompts.variants + held_out
    videos = written * recipe.prompts.variants * recipe.samples_per_prompt + captioned
    clips = captioned * (1 + recipe.captions.real)
    # For each dimension: its own videos, generated counterparts of real clips that may show it, and real clips.
    per_prompt = recipe.prompts.variants * recipe.samples_per_prompt
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
        "judge check": checked,
    }


def _cost(stage: str, rows: int, recipe: Recipe) -> dict[str, Any]:
    """Device seconds for the missing rows, divided among the models by their shares."""
    shares = {recipe.writer.model if recipe.writer.backend != "grammar" else "grammar": 1.0}
    if stage == "synthesize":
        shares = {published_name(generator.model): generator.share for generator in recipe.generators}
    elif stage in ("judge", "judge check"):
        shares = {published_name(recipe.judge.model): 1.0}
    rates = {name: RATES.get((stage.split()[0], name)) for name in shares}
    known = {name: rate for name, rate in rates.items() if rate}
    if not rows or len(known) < len(shares):
        return {"seconds": None if rows else 0.0, "rate": None}
    total = sum(shares.values())
    sources = [f"{name}: {rate.seconds:g} s on one {rate.device} ({rate.source})" for name, rate in known.items()]
    return {
        "seconds": sum(rows * shares[name] / total * rate.seconds for name, rate in known.items()),
        "rate": "; ".join(sources),
    }


def show(facts: dict[str, Any], console: Console) -> None:
    """Print a plan as a table."""
    title = f"{facts['recipe']}   recipe {facts['recipe_hash']}"
    table = terminal.Table(title, "stage", ">rows", ">in store", ">missing", ">device hours")
    for line in facts["stages"]:
        missing = line["rows"] - line["in_store"]
        hours = "-" if not missing else "unknown" if line["seconds"] is None else f"{line['seconds'] / 3600:.2f}"
        table.add(line["stage"], line["rows"], line["in_store"], missing, hours)
    console.print(table)
    for line in terminal.targets_and_others(facts["targets"], facts["others"]):
        console.print(line)
    for line in facts["stages"]:
        if line["rate"]:
            console.print(f"{line['stage']}: {line['rate']}")
    if any(line["seconds"] is None for line in facts["stages"]):
        console.print("unknown: not measured; build a few rows and see cost.json")
    for warning in facts["warnings"]:
        console.print(warning)
    if facts["video_bytes"]:
        console.print(f"missing videos: about {facts['video_bytes'] / 1e6:.1f} MB, estimated from those in the store")

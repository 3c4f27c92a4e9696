"""`gv-data build`: the stages of a recipe in order, from prompts to a published folder.

    prompt -> extend -> questions -> synthesize -> judge -> reward -> publish

Each stage is one Ray Data execution over the rows that the store does not have yet, so only one model family is loaded
at a time. What a stage rejects goes no further and is written down: rows in = rows out + rejected, per stage and
source.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gigavideo_data import assemble, judge_check, latents, pixels, report
from gigavideo_data.dimensions.catalogue import load_dimension
from gigavideo_data.engines import check_subjects, judge_engine, key_warning, writer_engine
from gigavideo_data.errors import RejectedError, RunError
from gigavideo_data.execute import ray_for_build
from gigavideo_data.generators.models import family_of, found_at, settings_of, vae_of
from gigavideo_data.intake import about, intake
from gigavideo_data.judge_verdict import JudgeCheck
from gigavideo_data.pinned import pinned
from gigavideo_data.progress import Progress
from gigavideo_data.publish import Uploader, check_out, commonest, write_dataset
from gigavideo_data.reasons import is_failure
from gigavideo_data.recipe import AnyJudge, Generator, Judge, Recipe, judge_of, readout_of
from gigavideo_data.rewards import NO_ANSWER, as_read
from gigavideo_data.row import Row
from gigavideo_data.runner import Runner
from gigavideo_data.stages import LATENTS_FILE, Item, Record, rejection, synthesis
from gigavideo_data.store import Store, canonical, content_key


@dataclass(frozen=True)
class BuildResult:
    """What a build made."""

    rows: int
    rejected: int
    reasons: list[str]  # of most rejects, a line each
    out: Path
    cost: dict[str, Any]


class Build:
    """The state of one build: what was made and rejected."""

    def __init__(self, recipe: Recipe, runner: Runner) -> None:
        self.recipe, self.runner = recipe, runner
        self.ledger: list[dict[str, Any]] = []
        self.rejects: list[dict[str, Any]] = []

    def pass_on(self, stage: str, rows: list[Row], outcomes: list[Row | Record]) -> list[Row]:
        """Enter one stage into the ledger: a row goes on, a rejection record is written down."""
        kept = []
        for source in dict.fromkeys(row.source for row in rows):
            reasons: Counter[str] = Counter()
            num_in = 0
            for row, outcome in zip(rows, outcomes, strict=True):
                if row.source != source:
                    continue
                num_in += 1
                if isinstance(outcome, Row):
                    kept.append(outcome)
                    continue
                reasons[outcome["rejected"]] += 1
                self.rejects.append(
                    {
                        "stage": stage,
                        "source": source,
                        "id": row.id,
                        "reason": outcome["rejected"],
                        "detail": outcome.get("detail"),
                        "attempts": outcome.get("attempts"),
                    }
                )
            self.ledger.append(
                {
                    "stage": stage,
                    "source": source,
                    "in": num_in,
                    "out": num_in - sum(reasons.values()),
                    "rejected": dict(sorted(reasons.items())),
                }
            )
        return kept

    # --- stages ------------------------------------------------------------------------------------------------------

    def prompts(self) -> list[Row]:
        """Base prompts for training and evaluation, captions with their real clips, imported videos; none twice."""
        fates = intake(self.recipe, self.runner)
        outcomes: list[Row | Record] = [reject or row for row, reject in fates]
        return self.pass_on("prompt", [row for row, _ in fates], outcomes)

    def extend(self, rows: list[Row]) -> list[Row]:
        """Variants of each synthetic prompt, in the long form that the target model was trained with."""
        variants = range(self.recipe.prompts.variants)
        drafts = [
            replace(row, variant=v) for row in rows if not row.prompt for v in (variants if not row.eval_split else [0])
        ]
        captions = [row for row in rows if row.prompt]
        items = [
            self.writer_item(
                "extend",
                {
                    "prompt": row.base_prompt,
                    "objects": list(row.objects),
                    "variant": row.variant,
                    "family": family_of(self.recipe.target),
                    "seed": self.recipe.seed,
                },
            )
            for row in drafts
        ]
        outcomes: list[Row | Record] = []
        seen = {row.prompt for row in captions}  # a twin of the same text would be the same video
        for row, record in zip(drafts, self.runner.records(items), strict=True):
            text = record.get("prompt")
            outcomes.append(
                record if text is None else rejection("duplicate", text) if text in seen else replace(row, prompt=text)
            )
            seen.add(text or "")
        return self.pass_on("extend", drafts, outcomes) + captions

    def questions(self, rows: list[Row]) -> list[Row]:
        """Yes/no questions on every target dimension that a prompt states something of; none, and no video is made.

        A dimension that a row has questions on already is not asked about again, be they none.
        """
        wanted = [[dimension for dimension in self.may_show(row) if dimension not in row.asks] for row in rows]
        asked = zip(rows, wanted, strict=True)
        items = [self._question_item(row, dimension) for row, dimensions in asked for dimension in dimensions]
        outcomes: list[Row | Record] = []
        records = iter(self.runner.records(items))
        for row, dimensions in zip(rows, wanted, strict=True):
            of_row = {dimension: next(records) for dimension in dimensions}
            new = {d: r["questions"] for d, r in of_row.items() if r.get("questions")}
            asks = {d: questions for d, questions in row.asks.items() if questions} | new
            needed = of_row.get(row.dimension, {}) if row.dimension else {}
            if "rejected" in needed:
                outcomes.append(needed)
            elif not asks or (row.dimension and row.dimension not in asks):
                outcomes.append(rejection("shows_no_target", row.prompt))
            else:
                outcomes.append(replace(row, asks=asks))
        return self.pass_on("questions", rows, outcomes)

    def may_show(self, row: Row) -> list[str]:
        """Target dimensions that a row is asked about: its own and those its videos can show; of a caption, all."""
        own = load_dimension(row.dimension) if row.dimension else None
        if own is None or own.shows is None:
            return list(self.recipe.dimensions)
        return [dimension for dimension in self.recipe.dimensions if dimension in (own.name, *own.shows)]

    def _question_item(self, row: Row, dimension: str) -> Item:
        """The writer's work, or that of the specialist who will judge: it reads the short form, where facts stand."""
        judge = self.judge_of(dimension)
        if not isinstance(judge, Judge):
            return Item("questions", {"backend": judge.backend}, {"prompt": row.base_prompt, "dimension": dimension})
        told = about(dimension, "question_guidance", "combine")
        return self.writer_item("questions", {"prompt": row.prompt, "dimension": dimension, **told})

    def synthesize(self, rows: list[Row]) -> list[Row]:
        """One video per prompt and sample; real rows have theirs."""
        drafts, items = [], []
        imported = [row for row in rows if row.clip]
        for row in rows:
            if row.clip:
                continue
            for sample in range(self.recipe.samples_per_prompt if row.source == "synthetic" else 1):
                chosen = _generator(self.recipe, row.prompt, sample)
                seed = int(content_key([self.recipe.seed, row.prompt, sample])[:8], 16) >> 1
                settings = settings_of(chosen)
                drafts.append(replace(row, sample=sample, seed=seed, generator=settings))
                items.append(synthesis(settings, found_at(chosen), row.prompt, seed))
        outcomes: list[Row | Record] = [
            self._with_clip(row, record) for row, record in zip(drafts, self.runner.records(items), strict=True)
        ]
        return [_measured(row) for row in self.pass_on("synthesize", drafts, outcomes) + imported]

    def _with_clip(self, row: Row, record: Record) -> Row | Record:
        """A row with its video, or why there is none."""
        flaw = pixels.flaw(pixels.levels(record))
        if flaw and flaw in self.recipe.reject_videos:
            return rejection(flaw, pixels.told(record))
        return record if "rejected" in record else replace(row, clip=record)

    def judge(self, rows: list[Row]) -> list[Row]:
        """All questions of a video that one judge answers together, to one worker."""
        panels = [self._panel(row) for row in rows]
        items = [
            self.judge_item(judge, row, [q["question"] for _, q in asked])
            for row, panel in zip(rows, panels, strict=True)
            for judge, asked in panel.items()
        ]
        records = iter(self.runner.records(items))
        outcomes: list[Row | Record] = []
        for row, panel in zip(rows, panels, strict=True):
            answers, failed = [], None
            measurements = {
                (one["dimension"], one["name"]): one for one in row.measurements if one["judge"] == pixels.JUDGE_ID
            }
            for judge, asked in panel.items():
                record = as_read(next(records), readout_of(judge))
                if "rejected" in record:
                    failed = record
                    continue
                judge_id = assemble.judge_id(self.engines[judge][0])
                for (dimension, q), answer in zip(asked, record["answers"], strict=True):
                    known = {name: q[name] for name in ("question", "expected", "gate")}
                    known |= {name: answer[name] for name in ("p_yes", "p_no")}
                    answers.append({"dimension": dimension, **known, "readout": readout_of(judge), "judge": judge_id})
                    for name, values in answer.get("readings", {}).items():
                        named = {"dimension": dimension, "name": name, "judge": judge_id}
                        measurements[dimension, name] = {**named, "values": values}
            outcomes.append(failed or replace(row, answers=answers, measurements=list(measurements.values())))
        return self.pass_on("judge", rows, outcomes)

    def _panel(self, row: Row) -> dict[AnyJudge, list[tuple[str, dict[str, Any]]]]:
        """Who is asked what about a video: (dimension, question)."""
        panel: dict[AnyJudge, list[tuple[str, dict[str, Any]]]] = {}
        for dimension, questions in row.asks.items():
            panel.setdefault(self.judge_of(dimension), []).extend((dimension, q) for q in questions)
        return panel

    def reward(self, rows: list[Row]) -> list[Row]:
        """Answers to one number per dimension, or null with a reason."""
        pairs = [(row, dimension) for row in rows for dimension in row.asks]
        items = [
            Item(
                "reward",
                {},
                {
                    "answers": [
                        {k: a[k] for k in ("question", "expected", "gate", "p_yes", "p_no")}
                        for a in row.answers
                        if a["dimension"] == dimension
                    ],
                    "combine": load_dimension(dimension).combine,
                    "min_mass": self.recipe.judge.min_mass,
                    **_why_silent(row, dimension),
                },
            )
            for row, dimension in pairs
        ]
        records = iter(self.runner.records(items))
        outcomes: list[Row | Record] = []
        for row in rows:
            of_row = {dimension: next(records) for dimension in row.asks}
            failed = next((record for record in of_row.values() if "rejected" in record), None)
            rewards = [{"dimension": d, **record} for d, record in of_row.items()]
            outcomes.append(failed or replace(row, rewards=rewards))
        return self.pass_on("reward", rows, outcomes)

    def check_judge(self, made: list[Row], real: list[Row]) -> list[JudgeCheck]:
        """Ask the judge what it should not fall for, and sum up per dimension."""
        trials = judge_check.plan(made, real, self.recipe.dimensions, self.recipe.check.videos)
        judges = [self.judge_of(trial.dimension) for trial in trials]
        items = [self.judge_item(judge, t.row, t.asked) for judge, t in zip(judges, trials, strict=True)]
        answered = zip(self.runner.records(items, label="judge check"), judges, strict=True)
        records = [as_read(record, readout_of(judge)) for record, judge in answered]
        return judge_check.summary(trials, records, self.recipe.dimensions, self.recipe.judge.min_mass)

    def writer_item(self, stage: str, inputs: dict[str, Any]) -> Item:
        """The writer's work in one stage."""
        settings, local = writer_engine(self.recipe.writer)
        return Item(stage, settings, inputs, local)

    def judge_of(self, dimension: str) -> AnyJudge:
        """Who judges a dimension."""
        return judge_of(dimension, self.recipe.judge, self.recipe.specialists)

    def judge_item(self, judge: AnyJudge, row: Row, questions: list[str]) -> Item:
        """A judge's work on one video."""
        assert row.clip is not None
        settings, found_at = self.engines[judge]
        return Item("judge", settings, {"video_sha256": row.clip["video_sha256"], "questions": questions}, found_at)

    @cached_property
    def engines(self) -> dict[AnyJudge, tuple[dict[str, Any], dict[str, Any]]]:
        """Each judge's settings, with the revision that answers now, and where it is found."""
        return {judge: judge_engine(judge) for judge in map(self.judge_of, self.recipe.dimensions)}


def build(
    recipe: Recipe,
    out: Path,
    store_root: Path,
    progress: Progress,
    *,
    retry_rejected: bool = False,
    uploader: Uploader | None = None,
    with_latents: bool = False,
) -> BuildResult:
    """Build a dataset.

    Args:
        recipe: what to make.
        out: folder of the dataset; one build at a time.
        store_root: folder of finished work; any number of builds at a time.
        progress: where to show it.
        retry_rejected: try the rows again that earlier builds gave up.
        uploader: gets each shard as soon as it is closed.
        with_latents: whether the dataset ships the final latents of its generated videos. No row depends on it.

    Raises:
        RunError: another build works in `out`, or the run cannot go on; finished rows are kept.
        RejectedError: more rows were rejected than `limits.max_rejected` allows; the dataset is written all the same.
        DatasetError: `out` cannot take a dataset.
        RecipeError: a writer cannot write about a dimension.
        HubError: a model's commit cannot be found out.
    """
    check_subjects(recipe)
    with at_work(recipe, out, store_root, progress, retry_rejected=retry_rejected) as work:
        return _build(work, out, uploader, with_latents=with_latents)


@contextmanager
def at_work(
    recipe: Recipe, out: Path, store_root: Path, progress: Progress, *, retry_rejected: bool = False
) -> Iterator[Build]:
    """A build with its store and its Ray, alone in `out`; its models are those commits of the Hub that answer now."""
    check_out(out)
    recipe = pinned(recipe)
    lock_file = out / ".gv" / "lock"
    lock_file.parent.mkdir(exist_ok=True)
    try:
        with FileLock(lock_file, timeout=0):
            store = Store(store_root)
            store.create()
            with ray_for_build(recipe.limits, recipe.scale) as ray:
                if warning := key_warning(recipe):
                    progress.note(warning)
                yield Build(recipe, Runner(store, ray, progress, retry_rejected=retry_rejected))
    except Timeout:
        raise RunError(f"{out}: another build is at work there. Wait for it, or name another --out.") from None


def _build(work: Build, out: Path, uploader: Uploader | None, *, with_latents: bool) -> BuildResult:
    recipe, began = work.recipe, time.monotonic()
    asked = work.questions(work.extend(work.prompts()))
    evaluation = [row for row in asked if row.source == "eval"]
    real = [row for row in asked if row.source == "real"]
    made = work.reward(work.judge(work.synthesize([row for row in asked if row.source in ("synthetic", "twin")])))
    check = work.check_judge(made, real)
    judges = [settings for settings, _ in work.engines.values()]
    rows = [assemble.row(row, recipe, judges, work.runner.store) for row in made + real]
    cost = {"stages": work.runner.cost, "wall_seconds": round(time.monotonic() - began, 3)}
    resolved = recipe.resolved()
    manifest = {
        "name": recipe.name,
        "recipe": resolved,
        "recipe_hash": recipe.hash,
        "code_version": version("gigavideo"),
        "target_model": resolved["target"],
        "dimensions": list(recipe.dimensions),
        "license": recipe.license,
        "ledger": work.ledger,
        "judge_check": check,
        "rewards": assemble.reward_summaries(rows, recipe.dimensions),
    }
    prompts = [assemble.eval_prompt(row, recipe) for row in evaluation]
    shipped = _latents(work, made, rows) if with_latents else []
    write_dataset(out, rows, prompts, work.rejects, manifest, cost, work.runner.progress, uploader, shipped)
    report.write_report(out)
    check_rejected(work, len(made), out)
    return BuildResult(len(rows), len(work.rejects), commonest(work.rejects), out, cost)


def _latents(work: Build, made: list[Row], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The final latents of the videos that this recipe's generators made; those of others were never here."""
    vaes = {canonical(settings_of(generator)): vae_of(generator) for generator in work.recipe.generators}
    columns = {row["id"]: row for row in rows}
    return [
        latents.columns(columns[row.id], work.runner.store.on_disk(row.clip["blobs"][LATENTS_FILE]), vaes[key])
        for row in made
        if row.clip and (key := canonical(row.generator)) in vaes
    ]


def check_rejected(work: Build, num_made: int, out: Path) -> None:
    """Say so if too many rows failed.

    Raises:
        RejectedError: more than `limits.max_rejected` of them.
    """
    failures = [reject for reject in work.rejects if is_failure(reject["reason"])]
    failed, allowed = len(failures), work.recipe.limits.max_rejected
    if failed > allowed * max(1, failed + num_made):
        lines = "".join(f"\n  {line}" for line in commonest(failures))
        raise RejectedError(
            f"{failed} of {failed + num_made} rows were rejected, more than limits.max_rejected = {allowed:g} allows. "
            f"The dataset is in {out}; its rejects say why, most often:{lines}"
        )


def _measured(row: Row) -> Row:
    """A row with what the pixels of its video say."""
    return replace(row, measurements=pixels.measurements(pixels.levels(row.clip or {}), row.asks))


def _generator(recipe: Recipe, prompt: str, sample: int) -> Generator:
    """The generator of a row: chosen by shares, from the prompt alone, so that neighbours do not matter."""
    point = int(content_key(["generator", prompt, sample])[:8], 16) / 2**32
    total = sum(generator.share for generator in recipe.generators)
    for chosen in recipe.generators:
        point -= chosen.share / total
        if point < 0:
            break
    return chosen


def _why_silent(row: Row, dimension: str) -> dict[str, list[str]]:
    """What `rewards.score` is told beside the answers, where a judge said why it has none."""
    names = [one["name"] for one in row.measurements if one["dimension"] == dimension]
    told = [name for name in names if name.startswith(NO_ANSWER)]
    return {"readings": told} if told else {}

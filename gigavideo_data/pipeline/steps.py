"""The steps of a build. Each takes rows and returns those that go on; rejected rows are counted, with the reason.

    prompts -> extend -> ask -> videos: synthesize -> judge -> reward, and once more for some prompts

`gv-data plan` runs the same steps with a runner that only looks into the store; rejudging and remaking a dataset use
some of them. Rows are kept on disk between the steps and pass through each of them one by one: memory holds few at a
time, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from gigavideo_data.dataset.manifest import Sampled
from gigavideo_data.io.hashing import digest_of, fraction_of, seed_of
from gigavideo_data.io.spool import Spool, joined
from gigavideo_data.models.generators.profiles import family_of
from gigavideo_data.models.registry import generator_spec, writer_spec
from gigavideo_data.pipeline import judge_check, sampling
from gigavideo_data.pipeline.assemble import judge_id
from gigavideo_data.pipeline.execution.runner import Runner, grouped_records
from gigavideo_data.pipeline.panel import Panel
from gigavideo_data.pipeline.row import AskedQuestion, Row
from gigavideo_data.pipeline.row_counts import RowCounts
from gigavideo_data.pipeline.sources.intake import about, intake
from gigavideo_data.pipeline.stages import Item, Record, rejection, synthesis
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from gigavideo_data.recipe.recipe import AnyJudge, Generator, Judge, Recipe, readout_of
from gigavideo_data.rows import AnswerEntry, MeasurementEntry, RewardEntry
from gigavideo_data.scoring import pixels
from gigavideo_data.scoring.groups import Outcome
from gigavideo_data.scoring.judge_verdict import JudgeCheck
from gigavideo_data.scoring.rewards import as_read, score


@dataclass(frozen=True)
class Context:
    """What all steps of one run share: the recipe, the runner, and the counts of rows so far."""

    recipe: Recipe
    runner: Runner
    counts: RowCounts = field(default_factory=RowCounts)

    @cached_property
    def panel(self) -> Panel:
        """The judges of the recipe."""
        return Panel(self.recipe.judge, self.recipe.specialists, self.recipe.all_dimensions)


def prompts(context: Context) -> Sequence[Row]:
    """Base prompts for training and evaluation, captions with their real clips, imported videos; no duplicates."""
    source_rows = intake(context.recipe, context.runner)
    outcomes: Iterator[Row | Record] = (rejected or row for row, rejected in source_rows)
    return context.counts.add("prompt", (row for row, _ in source_rows), outcomes)


def extend(context: Context, rows: Sequence[Row]) -> Sequence[Row]:
    """Variants of each synthetic prompt, in the long form that the target model was trained with."""
    recipe = context.recipe
    captions = Spool(row for row in rows if row.prompt)
    drafts = Spool(
        replace(row, variant=variant)
        for row in rows
        if not row.prompt
        for variant in range(1 if row.eval_split else recipe.prompts.variants)
    )
    items = (
        _writer_item(
            context,
            "extend",
            {
                "prompt": row.base_prompt,
                "objects": list(row.objects),
                "variant": row.variant,
                "family": family_of(recipe.target),
                "seed": recipe.seed,
                **(about(row.dimension) if row.variant and row.dimension else {}),
            },
            row,
        )
        for row in drafts
    )
    seen = {digest_of(row.prompt) for row in captions}  # the same text as a caption would give the same video
    outcomes = _extended(drafts, context.runner.records(items), seen)
    return joined(context.counts.add("extend", drafts, outcomes), captions)


def _extended(drafts: Iterable[Row], records: Iterable[Record], seen: set[bytes]) -> Iterator[Row | Record]:
    """The rows with their prompts; `seen` are digests of the prompts so far, which are too long to be kept."""
    for row, record in zip(drafts, records, strict=True):
        text = record.get("prompt")
        if text is None:
            yield record
        elif (digest := digest_of(text)) in seen:
            yield rejection(Reason.DUPLICATE, text)
        else:
            seen.add(digest)
            yield replace(row, prompt=text)


def ask(context: Context, rows: Sequence[Row]) -> Sequence[Row]:
    """Yes/no questions on every dimension of the recipe that a prompt states something of.

    A row without any is rejected. A dimension that a row has an entry for is not asked about again, even if the entry
    is empty.
    """
    groups = (
        {name: _question_item(context, row, name) for name in possible_dimensions(context.recipe, row)
         if name not in row.asks}
        for row in rows
    )  # fmt: skip
    records = grouped_records(context.runner, groups)
    outcomes = (_with_questions(row, answered) for row, answered in zip(rows, records, strict=True))
    return context.counts.add("questions", rows, outcomes)


def possible_dimensions(recipe: Recipe, row: Row) -> list[str]:
    """Dimensions that a row is asked about: its own and those that its videos can show; of a caption, all."""
    own = load_dimension(row.dimension) if row.dimension else None
    if own is None or own.shows is None:
        return list(recipe.all_dimensions)
    return [dimension for dimension in recipe.all_dimensions if dimension in (own.name, *own.shows)]


def _with_questions(row: Row, records: dict[str, Record]) -> Row | Record:
    """A row with its questions by dimension, or why it has none."""
    new: dict[str, list[AskedQuestion]] = {
        name: record["questions"] for name, record in records.items() if record.get("questions")
    }
    asks = {name: questions for name, questions in row.asks.items() if questions} | new
    own = records.get(row.dimension, {}) if row.dimension else {}
    if "rejected" in own:
        return own
    if not asks or (row.dimension and row.dimension not in asks):
        return rejection(Reason.SHOWS_NO_TARGET, row.prompt)
    return replace(row, asks=asks)


def _question_item(context: Context, row: Row, dimension: str) -> Item:
    """The work of the writer; or of the specialist that will judge, which reads the short form of the prompt."""
    judge = context.panel.judge_of(dimension)
    if not isinstance(judge, Judge):
        inputs = {"prompt": row.base_prompt, "dimension": dimension}
        return Item("questions", {"backend": judge.backend}, inputs, row_id=row.id)
    inputs = {"prompt": row.prompt, "dimension": dimension, **about(dimension, "question_guidance", "combine")}
    return _writer_item(context, "questions", inputs, row)


def _writer_item(context: Context, stage: str, inputs: dict[str, Any], row: Row) -> Item:
    settings, location = writer_spec(context.recipe.writer)
    return Item(stage, settings, inputs, location, row_id=row.id)


def videos(context: Context, rows: Sequence[Row]) -> tuple[Sequence[Row], list[Sampled]]:
    """The videos of all prompts, with their rewards: the first ones, then more of the prompts that these select.

    Args:
        context: of the run.
        rows: with their questions; imported ones have their videos.

    Returns:
        The rows, and what the first videos of each dimension's prompts are if they select; else nothing.
    """
    recipe = context.recipe
    first = reward(context, judge(context, synthesize(context, rows)))
    if not recipe.samples_per_prompt.more:
        return first, []
    drafts = Spool(row for row in rows if row.source == "synthetic" and not row.clip)
    tau = sampling.tau_of(first)
    outcomes = sampling.outcomes(drafts, first, tau)
    chosen = Spool(row for row in drafts if outcomes[sampling.group_of(row)] is Outcome.DIFFERENT)
    more = reward(context, judge(context, synthesize(context, chosen, more=True), more=True))
    return joined(first, more), sampling.sampled(recipe, outcomes, tau)


def synthesize(context: Context, rows: Sequence[Row], *, more: bool = False) -> Sequence[Row]:
    """One video for each prompt and sample, of the first ones or `more`; imported rows have theirs."""
    recipe = context.recipe
    number, num_first = recipe.samples_per_prompt, recipe.samples_per_prompt.first
    samples = range(num_first, num_first + number.more) if more else range(num_first)
    spec_of = cache(generator_spec)  # it reads the model's configuration
    imported = Spool(_measured(row) for row in rows if row.clip)
    drafts: Spool[Row] = Spool()

    def items() -> Iterator[Item]:
        for row in rows:
            if row.clip:
                continue
            for sample in samples if row.source == "synthetic" else (0,):
                spec = spec_of(_choose_generator(recipe, row.prompt, sample))
                seed = seed_of([recipe.seed if recipe.video_seed is None else recipe.video_seed, row.prompt, sample])
                draft = replace(row, sample=sample, seed=seed, generator=spec.identity)
                drafts.append(draft)
                yield synthesis(spec, row.prompt, seed, draft.id)

    records = context.runner.records(items(), _label("synthesize", more=more))
    outcomes = (_with_clip(row, record, recipe) for row, record in zip(drafts, records, strict=True))
    return joined(context.counts.add("synthesize", drafts, outcomes), imported)


def _label(stage: str, *, more: bool) -> str:
    """The name under which a stage is shown, and listed in cost.json: one of its own for the videos that are added."""
    return f"{stage} more" if more else stage


def _choose_generator(recipe: Recipe, prompt: str, sample: int) -> Generator:
    """The generator of a row: chosen by shares, and by the prompt alone, so that no other row changes it."""
    point = fraction_of(["generator", prompt, sample])
    total = sum(generator.share for generator in recipe.generators)
    for chosen in recipe.generators:
        point -= chosen.share / total
        if point < 0:
            break
    return chosen


def _with_clip(row: Row, record: Record, recipe: Recipe) -> Row | Record:
    """A row with its video, or why there is none."""
    flaw = pixels.flaw(pixels.levels(record))
    if flaw and flaw in recipe.reject_videos:
        return rejection(flaw, pixels.describe(record))
    return record if "rejected" in record else _measured(replace(row, clip=record))


def _measured(row: Row) -> Row:
    """A row with what the pixels of its video show."""
    return replace(row, measurements=pixels.measurements(pixels.levels(row.clip or {}), row.asks))


def judge(context: Context, rows: Sequence[Row], *, more: bool = False) -> Sequence[Row]:
    """Answers to all questions. Those that one judge answers about one video go to one worker together."""
    panel = context.panel
    groups = (
        {
            judge: panel.item(judge, _clip(row)["video_sha256"], [q["question"] for _, q in questions], row.id)
            for judge, questions in _by_judge(panel, row).items()
        }
        for row in rows
    )
    records = grouped_records(context.runner, groups, _label("judge", more=more))
    outcomes = (_with_answers(panel, row, found) for row, found in zip(rows, records, strict=True))
    return context.counts.add("judge", rows, outcomes)


def _by_judge(panel: Panel, row: Row) -> dict[AnyJudge, list[tuple[str, AskedQuestion]]]:
    """The questions about a video, each with its dimension, by who answers them."""
    asked: dict[AnyJudge, list[tuple[str, AskedQuestion]]] = {}
    for dimension, questions in row.asks.items():
        asked.setdefault(panel.judge_of(dimension), []).extend((dimension, question) for question in questions)
    return asked


def _with_answers(panel: Panel, row: Row, records: dict[AnyJudge, Record]) -> Row | Record:
    """A row with its answers and what its judges measured, or the record of a judge that failed."""
    failed = [record for record in records.values() if "rejected" in record]
    if failed:
        return failed[-1]
    answers: list[AnswerEntry] = []
    measurements = {(one["dimension"], one["name"]): one for one in row.measurements if one["judge"] == pixels.JUDGE_ID}
    for judge, questions in _by_judge(panel, row).items():
        record = as_read(records[judge], readout_of(judge))
        name = judge_id(panel.settings_of(judge))
        for (dimension, question), answer in zip(questions, record["answers"], strict=True):
            answers.append(
                {
                    "dimension": dimension,
                    "question": question["question"],
                    "expected": question["expected"],
                    "gate": question["gate"],
                    "p_yes": answer["p_yes"],
                    "p_no": answer["p_no"],
                    "readout": readout_of(judge),
                    "judge": name,
                }
            )
            for reading, values in answer.get("readings", {}).items():
                entry: MeasurementEntry = {"dimension": dimension, "name": reading, "judge": name, "values": values}
                measurements[dimension, reading] = entry
    return replace(row, answers=answers, measurements=list(measurements.values()))


def _clip(row: Row) -> dict[str, Any]:
    assert row.clip is not None
    return row.clip


def reward(context: Context, rows: Sequence[Row]) -> Sequence[Row]:
    """Answers to one number for each dimension, or None with a reason: arithmetic, done here."""
    min_mass = context.recipe.judge.min_mass
    rewarded = (replace(row, rewards=[_reward(row, name, min_mass) for name in row.asks]) for row in rows)
    return context.counts.add("reward", rows, rewarded)


def _reward(row: Row, dimension: str, min_mass: float) -> RewardEntry:
    answers = [answer for answer in row.answers if answer["dimension"] == dimension]
    readings = [one["name"] for one in row.measurements if one["dimension"] == dimension]
    outcome = score(answers, load_dimension(dimension).combine, min_mass, readings)
    return {"dimension": dimension, **asdict(outcome)}  # type: ignore[typeddict-item]


def check_judge(context: Context, generated: Iterable[Row], real: Iterable[Row]) -> list[JudgeCheck]:
    """Ask the judge foreign and negated questions; return one summary for each dimension (see `judge_check`)."""
    recipe, panel = context.recipe, context.panel
    trials = judge_check.plan(generated, real, recipe.all_dimensions, recipe.check.videos)
    judges = [panel.judge_of(trial.dimension) for trial in trials]
    items = [
        panel.item(judge, _clip(trial.row)["video_sha256"], trial.asked, trial.row.id)
        for judge, trial in zip(judges, trials, strict=True)
    ]
    records = context.runner.records(items, label="judge check")
    read = [as_read(record, readout_of(judge)) for record, judge in zip(records, judges, strict=True)]
    return judge_check.summary(trials, read, recipe.all_dimensions, recipe.judge.min_mass)

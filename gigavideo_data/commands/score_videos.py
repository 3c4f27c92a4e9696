"""`gv-data score VIDEOS`: score videos that exist already, without a dataset of our format.

    result = score_videos(Path("clips"), recipe, progress=progress, prompts=Path("prompts.csv"))

The files are only read. A judge is not asked again about a video that has not changed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gigavideo_data.commands.rejudge import judging_parts
from gigavideo_data.errors import RecipeError, RowError
from gigavideo_data.hub.pin import pinned
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.hashing import content_key
from gigavideo_data.io.progress import Progress
from gigavideo_data.pipeline import steps
from gigavideo_data.pipeline.execution.runner import store_runner
from gigavideo_data.pipeline.row import AskedQuestion, Row
from gigavideo_data.pipeline.row_counts import check_rejected
from gigavideo_data.pipeline.run_context import endpoint_hosts
from gigavideo_data.pipeline.sources import packed_videos, video_list
from gigavideo_data.pipeline.sources.video_list import ListedVideo
from gigavideo_data.pipeline.stages import Item, Record, rejection
from gigavideo_data.pipeline.steps import Context
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.dimensions import catalogue
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Recipe
from gigavideo_data.rows import Reject
from gigavideo_data.scoring.rewards import mean_sem, row_outcome

OUTPUTS = (".csv", ".jsonl", ".parquet")
RUNS = Path("runs/score")  # of each run, the log, the lock against a second one, and unpacked videos


@dataclass(frozen=True)
class VideoScores:
    """The scores of a list of videos.

    Attributes:
        dimensions: that were scored.
        rows: one for each video of the list, in its order: file, sha256, prompt, dimension, reward, one column for each
            dimension, reason (why there is no reward), answers.
        rejects: the videos that could not be scored.
        max_rejected: share of the videos that may fail, of the recipe.
    """

    dimensions: tuple[str, ...]
    rows: list[dict[str, Any]]
    rejects: list[Reject]
    max_rejected: float

    def summary(self) -> dict[str, Any]:
        """Numbers of videos, and for each dimension the number of scored ones, their mean and its standard error."""
        found = {}
        for name in self.dimensions:
            values = [row[name] for row in self.rows if row[name] is not None]
            found[name] = {"scored": len(values), **mean_sem(values)}
        return {"videos": len(self.rows), "rejected": len(self.rejects), "dimensions": found}


def score_videos(
    videos: Path,
    recipe: str | Recipe,
    store_root: Path,
    progress: Progress,
    *,
    overrides: Sequence[str] = (),
    dimensions: Sequence[str] | None = None,
    prompts: Path | None = None,
    names_are_prompts: bool = False,
    questions: Path | None = None,
) -> VideoScores:
    """Score videos.

    Args:
        videos: a folder, a table beside its videos, or one video (see `video_list`).
        recipe: a YAML file, the name of a shipped recipe, or a `Recipe`; names the judge, and the writer of questions.
        store_root: folder of the store, which gets the videos too.
        progress: where to show it.
        overrides: changes such as "judge.frames=8"; not with a `Recipe`.
        dimensions: to score; None: those of the table or the questions, or else those of the recipe.
        prompts: a table with the prompts of the videos of a folder.
        names_are_prompts: the prompt of a video without one is the name of its file.
        questions: a YAML file with questions for all videos; no writer is needed then.

    Raises:
        RecipeError: there is nothing to score, or a table or an argument is wrong.
        RunError: another run scores this folder, or a worker failed.
        HubError: the commit of a model cannot be determined.
    """
    out = RUNS / f"{_file_name(videos.resolve().stem)}-{content_key([str(videos.resolve())])[:8]}"
    if packed := packed_videos.parquet_files(videos):
        videos = packed_videos.unpack(packed, out / "videos", progress)
    folder, listed = video_list.read(videos, prompts, names_are_prompts=names_are_prompts)
    for_all = video_list.read_questions(questions) if questions else {}
    wanted = dimensions or _named_dimensions(listed, for_all)
    loaded = recipe if isinstance(recipe, Recipe) else load(recipe, overrides, dataset_dimensions=wanted)
    names = _checked(wanted or loaded.dimensions, for_all)
    used = pinned(judging_parts(loaded, list(names)))
    progress.note(f"{len(listed)} videos, on {', '.join(names)}, by {used.judge.backend} {used.judge.model}")
    hosts = endpoint_hosts(used.writer, used.judge)
    with store_runner(out, store_root, progress, used.limits, used.scale, hosts=hosts) as runner:
        context = Context(used, runner)
        records = runner.records(_items(listed, folder), "videos")
        clips = dict(zip(dict.fromkeys(one.file for one in listed if not one.flaw), records, strict=True))
        rows = [_row(number, one, names, for_all) for number, one in enumerate(listed)]
        outcomes = [_with_clip(row, one, clips.get(one.file), names) for row, one in zip(rows, listed, strict=True)]
        clipped = context.counts.add("videos", rows, outcomes)
        scored = steps.reward(context, steps.judge(context, steps.ask(context, clipped)))
    rejects = context.counts.rejects
    return VideoScores(names, _table(listed, clips, scored, rejects, names), rejects, used.limits.max_rejected)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def write(scores: VideoScores, out: Path) -> None:
    """Write the rows as CSV, JSON lines or Parquet, by the ending of the file.

    Raises:
        RecipeError: another ending.
    """
    ending = check_output(out)
    if ending == ".csv":
        write_durably(out, as_csv(scores).encode())
    elif ending == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in scores.rows]
        write_durably(out, "".join(lines).encode())
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([_flat(row) for row in scores.rows], _schema(scores.dimensions)), data)
        write_durably(out, data.getvalue())


def check_output(out: Path) -> str:
    """The ending of an output file.

    Raises:
        RecipeError: it is none of `OUTPUTS`.
    """
    if out.suffix.lower() not in OUTPUTS:
        raise RecipeError(f"--out {out}: must end in {', '.join(OUTPUTS)}")
    return out.suffix.lower()


def check_limit(scores: VideoScores, out: Path | None) -> None:
    """Compare the number of failures with the limit of the recipe.

    Raises:
        RejectedError: more videos failed.
    """
    check_rejected(scores.rejects, len(scores.rows) - len(scores.rejects), scores.max_rejected, out or "stdout")


def as_csv(scores: VideoScores) -> str:
    """The rows as CSV; answers are JSON, and what is not there is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_flat(scores.rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row) for row in scores.rows)
    return text.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "answers": json.dumps(row["answers"], ensure_ascii=False)}


def _schema(dimensions: Iterable[str]) -> Any:
    import pyarrow as pa

    texts = ("file", "sha256", "prompt", "dimension")
    columns = [*((name, pa.string()) for name in texts), ("reward", pa.float32())]
    columns += [(name, pa.float32()) for name in dimensions]
    return pa.schema([*columns, ("reason", pa.string()), ("answers", pa.string())])


def _named_dimensions(listed: Sequence[ListedVideo], for_all: Mapping[str, list[AskedQuestion]]) -> list[str]:
    """The dimensions that questions and table name; rows with an unknown one are rejected later."""
    of_table = (one.dimension for one in listed if one.dimension in catalogue.names())
    return [name for name in dict.fromkeys((*for_all, *of_table)) if name]


def _checked(names: Iterable[str], for_all: Mapping[str, list[AskedQuestion]]) -> tuple[str, ...]:
    known = tuple(dict.fromkeys(names))
    for name in known:
        if name not in catalogue.names():
            raise RecipeError(f"unknown dimension {name!r}; {catalogue.suggest_dimension(name)}")
    if missing := for_all.keys() - set(known):
        raise RecipeError(f"--questions: {', '.join(sorted(missing))}: not among --dimensions; add them there")
    return known


def _items(listed: Sequence[ListedVideo], folder: Path) -> list[Item]:
    """The work to read each file once. A file that was changed has another key."""
    items = []
    for name in dict.fromkeys(one.file for one in listed if not one.flaw):
        file = (folder / name).resolve()
        try:
            state = file.stat()
            version = content_key([str(file), state.st_size, state.st_mtime_ns])
        except OSError:
            version = content_key([str(file)])  # the worker says what is wrong with it
        inputs = {"caption": "", "clip": name, "version": version}
        items.append(Item("caption", {"backend": "files"}, inputs, {"load": str(folder.resolve())}, row_id=name))
    return items


def _row(number: int, one: ListedVideo, names: tuple[str, ...], for_all: Mapping[str, list[AskedQuestion]]) -> Row:
    """A row whose id is its number in the list; with all the questions that it will be asked, if some are given."""
    given = dict(for_all)
    if one.questions:
        given[one.dimension or names[0]] = one.questions
    asks = {name: given.get(name, []) for name in names} if given else {}
    prompt = one.prompt or ""
    dimension = one.dimension if one.dimension in names else None
    return Row("synthetic", prompt, dimension, prompt=prompt, asks=asks, known_id=str(number))


def _with_clip(row: Row, one: ListedVideo, record: Record | None, names: tuple[str, ...]) -> Row | Record:
    """A row with its video, or why it cannot be scored."""
    try:
        if one.flaw:
            raise one.flaw
        if one.dimension and one.dimension not in names:
            raise RowError(Reason.OTHER_DIMENSION, f"{one.dimension} is not among {', '.join(names)}")
        if one.questions and not one.dimension and len(names) > 1:
            raise RowError(Reason.OTHER_DIMENSION, "its questions belong to no dimension: add a column dimension")
        if not one.prompt and not row.asks:
            raise RowError(Reason.NO_CAPTION, "it has neither a prompt nor questions")
    except RowError as error:
        return rejection(error.reason, error.detail)
    assert record is not None
    return record if "rejected" in record else replace(row, clip=record)


def _table(
    listed: Sequence[ListedVideo],
    clips: Mapping[str, Record],
    rows: Sequence[Row],
    rejects: Sequence[Reject],
    names: tuple[str, ...],
) -> list[dict[str, Any]]:
    scored = {row.id: row for row in rows}
    reasons = {each["id"]: ": ".join(filter(None, (each["reason"], each["detail"]))) for each in rejects}
    found = []
    for number, one in enumerate(listed):
        row = scored.get(str(number))
        rewards = row.rewards if row else []
        outcome = row_outcome(rewards, row.dimension, names) if row else None
        values = {each["dimension"]: each["value"] for each in rewards}
        found.append(
            {
                "file": one.file,
                "sha256": (clips.get(one.file, {}).get("source_file") or {}).get("sha256"),
                "prompt": one.prompt,
                "dimension": one.dimension,
                "reward": outcome.value if outcome else None,
                **{name: values.get(name) for name in names},
                "reason": outcome.reason if outcome else reasons[str(number)],
                "answers": [_answer(answer) for answer in (row.answers if row else [])],
            }
        )
    return found


def _answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("dimension", "question", "expected", "p_yes", "p_no")}

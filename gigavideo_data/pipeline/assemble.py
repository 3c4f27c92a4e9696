"""Rows that went through all stages, with the columns of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gigavideo_data.dataset.manifest import GeneratingModel, RewardSummary
from gigavideo_data.dataset.schema import prompt_id, split_of
from gigavideo_data.io.atomic import Blob
from gigavideo_data.io.hashing import seed_of
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Recipe
from gigavideo_data.rows import (
    DatasetRow,
    EvalPrompt,
    GeneratorColumn,
    JudgeEntry,
    QuestionEntry,
    Scores,
    VideoColumn,
    VideoFacts,
    VideoRow,
)
from gigavideo_data.scoring import pixels
from gigavideo_data.scoring.rewards import CAPTIONS, mean_sem, reward_group, row_outcome


def judge_id(engine: dict[str, Any]) -> str:
    """The id of a judge in a row's `judges`: the model, its revision, and the rule of a specialist."""
    name = f"{engine['model']}@{engine['revision']}" if engine["revision"] else str(engine["model"])
    return f"{name}+{engine['rule']}" if engine.get("rule") else name


def row(row: Row, recipe: Recipe, judges: list[dict[str, Any]], store: Store) -> VideoRow:
    """One video as a row of the dataset.

    Args:
        row: with its clip, and unless it is real, its answers and rewards.
        recipe: of the build.
        judges: settings of all judges of the build.
        store: that holds the clip.
    """
    assert row.clip is not None
    real = row.source == "real"
    return {
        "id": row.id,
        "prompt_id": prompt_id(row.base_prompt),
        "pair_id": row.pair_id,
        "sample": row.sample,
        "split": split_of(row.pair_id or prompt_id(row.base_prompt), recipe.validation_share),
        "source": row.source,
        "dimension": row.dimension,
        "base_prompt": row.base_prompt,
        "prompt": row.prompt,
        "video": video_column(row.id, store.on_disk(row.clip["blobs"]["video.mp4"])),
        **video_facts(row.clip),
        **scores(row, recipe.all_dimensions, judges),
        "generator": None if real else _generator(row),
        "origin": row.origin,
        "source_file": row.clip.get("source_file"),
        "recipe": recipe.hash,
        "license": recipe.license,
    }


def _generator(row: Row) -> GeneratorColumn:
    """The settings of a row's generator; an imported video has only the name of its model."""
    used = row.generator or {}
    return {
        "backend": used["backend"],
        "model": used["model"],
        "revision": used.get("revision"),
        "adapter": used.get("adapter"),
        "profile": used.get("profile"),
        "scheduler": used.get("scheduler"),
        "shift": used.get("shift"),
        "steps": used.get("steps"),
        "guidance": used.get("guidance"),
        "negative_prompt": used.get("negative_prompt"),
        "prompt": None,
        "seed": row.seed,
    }


def generating_models(rows: Iterable[VideoRow]) -> list[GeneratingModel]:
    """The models that generated the videos of some rows, each once, in order: the lineage of a dataset."""
    used = {
        (one["model"], one["revision"] or "", one["adapter"] or "")
        for row in rows
        if (one := row["generator"]) is not None and one["backend"] != "files"
    }
    return [
        {"model": model, "revision": revision or None, "adapter": adapter or None}
        for model, revision, adapter in sorted(used)
    ]


def video_facts(record: Mapping[str, Any]) -> VideoFacts:
    """The columns that describe a video, from its record in the store, or from a row."""
    return {
        "video_sha256": record["video_sha256"],
        "num_frames": record["num_frames"],
        "height": record["height"],
        "width": record["width"],
        "fps": record["fps"],
    }


def video_column(row_id: str, clip: Blob) -> VideoColumn:
    """The column `video` of a row; its bytes stay on disk until they are written."""
    return {"bytes": clip, "path": f"{row_id}.mp4"}


def scores(row: Row, targets: Iterable[str], judges: list[dict[str, Any]]) -> Scores:
    """The columns that follow from a row's answers and rewards; `judges` are the settings of all judges of the run."""
    outcome = None if row.source == "real" else row_outcome(row.rewards, row.dimension, targets)
    return {
        "status": outcome.status if outcome else "not_scored",
        "reason": outcome.reason if outcome else "a real clip has no reward of its own",
        "reward": outcome.value if outcome else None,
        "rewards": row.rewards,
        "answers": row.answers,
        "measurements": row.measurements,
        "judges": judged_by(judges, row),
    }


def judged_by(judges: list[dict[str, Any]], row: Row) -> list[JudgeEntry]:
    """The column `judges` of a row: those of the given judges (settings) that answered about it or measured it."""
    named = {one["judge"] for one in (*row.answers, *row.measurements)}
    return [_judged_by(judge, row) for judge in (*judges, pixels.JUDGE) if judge_id(judge) in named]


def _judged_by(judge: dict[str, Any], row: Row) -> JudgeEntry:
    """A judge and the frames of this video that it was shown, which belong to the score."""
    assert row.clip is not None
    num_frames = row.clip["num_frames"]
    num_shown = min(judge.get("frames", num_frames), num_frames)
    return {
        "id": judge_id(judge),
        "kind": judge["backend"],
        "model": judge["model"],
        "revision": judge["revision"],
        "frames": num_shown,
        "fps": row.clip["fps"] * num_shown / num_frames,
        "template": judge.get("template"),
    }


def eval_prompt(row: Row, recipe: Recipe) -> EvalPrompt:
    """One held-out prompt; its seeds depend on the prompt alone."""
    assert row.dimension is not None
    assert row.eval_split is not None
    seeds = range(recipe.eval_prompts.seeds)
    return {
        "prompt_id": prompt_id(row.base_prompt),
        "dimension": row.dimension,
        "base_prompt": row.base_prompt,
        "prompt": row.prompt,
        "split": row.eval_split,
        "questions": questions(row),
        "seeds": [seed_of(["eval", recipe.seed, row.prompt, number]) for number in seeds],
    }


def questions(row: Row) -> list[QuestionEntry]:
    """The column `questions` of an evaluation prompt."""
    return [
        QuestionEntry(dimension=name, question=one["question"], expected=one["expected"], gate=one["gate"])
        for name, asked in row.asks.items()
        for one in asked
    ]


def reward_summaries(rows: Iterable[DatasetRow], dimensions: Iterable[str]) -> dict[str, RewardSummary]:
    """Statistics of the column `reward`: of the rows written for each dimension, and under CAPTIONS of the twins.

    Each has the numbers of scored and unscorable rows, the mean, and the mean's standard error.
    """
    found: dict[str | None, list[float | None]] = {}
    twins = False
    for row in rows:
        twins |= row["source"] == "twin"
        found.setdefault(reward_group(row), []).append(row["reward"])
    return {name: _reward_summary(found.get(name, [])) for name in (*dimensions, *([CAPTIONS] if twins else ()))}


def _reward_summary(rewards: list[float | None]) -> RewardSummary:
    values = [value for value in rewards if value is not None]
    return {"scored": len(values), "unscorable": len(rewards) - len(values), **mean_sem(values)}

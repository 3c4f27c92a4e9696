"""The real clips that an evaluation compares the models' videos with, in the store.

Those of the miniature are rendered: one for each prompt and seed. Those of other models are real clips of the dataset:
as many as there are videos, or fewer videos where the dataset has fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

from gigavideo_data.commands.evaluation.result import Draft
from gigavideo_data.commands.evaluation.setting import Setting
from gigavideo_data.dataset.reader import read_data, read_rows
from gigavideo_data.miniature.grammar import parse
from gigavideo_data.models.generators.profile_table import Profile
from gigavideo_data.models.registry import captions_spec
from gigavideo_data.pipeline.execution.runner import StoreRunner, grouped_records
from gigavideo_data.pipeline.stages import Item
from gigavideo_data.recipe.recipe import Captions


def real_clips(drafts: Sequence[Draft], setting: Setting, profile: Profile, runner: StoreRunner) -> list[str | None]:
    """The sha256 of a real clip in the store for each prompt and seed, or None where there is none.

    Args:
        drafts: prompts and seeds that both models have a video of.
        setting: names the dataset.
        profile: of the models.
        runner: has the store.

    Raises:
        DatasetError: a clip of the dataset is damaged.
    """
    if profile.name == "miniature":
        return _rendered(drafts, runner)
    order = sorted(range(len(drafts)), key=lambda at: (_turn(drafts[at]), drafts[at][0]["prompt_id"]))
    clips = _of_dataset(setting, profile, len(drafts), runner)
    by_draft = dict(zip(order, clips, strict=False))
    return [by_draft.get(at) for at in range(len(drafts))]


def _turn(draft: Draft) -> int:
    """The place of a seed among those of its prompt: with few real clips, every prompt has a turn first."""
    prompt, seed = draft
    return list(prompt["seeds"]).index(seed)


def _rendered(drafts: Sequence[Draft], runner: StoreRunner) -> list[str | None]:
    engine = captions_spec(Captions()).identity
    groups = [
        {"clip": Item("render", engine, {"prompt": prompt["prompt"], "seed": seed})} if parse(prompt["prompt"]) else {}
        for prompt, seed in drafts
    ]
    return [group["clip"].get("video_sha256") if group else None for group in grouped_records(runner, groups)]


def _of_dataset(setting: Setting, profile: Profile, count: int, runner: StoreRunner) -> list[str]:
    """Up to `count` real clips of the dataset that have the size of the models' videos; ids are a fixed draw."""
    if setting.dataset is None:
        return []
    rows = [row for row in read_rows(setting.dataset) if row["source"] == "real"]
    size = profile.height, profile.width
    ids = sorted(row["id"] for row in rows if (row["height"], row["width"]) == size)[:count]
    if not ids:
        return []
    chosen, found = set(ids), dict[str, str]()
    runner.progress.start("real clips", total=len(ids))
    for batch in read_data(setting.dataset, ["id", "video.bytes", "video_sha256"]):
        for row in batch.to_pylist():
            if row["id"] in chosen and row["video"] and row["video"]["bytes"] is not None:
                found[row["id"]] = runner.store.keep(row["video"]["bytes"], ".mp4").removesuffix(".mp4")
                runner.progress.advance()
    runner.progress.finish()
    return [found[name] for name in ids if name in found]

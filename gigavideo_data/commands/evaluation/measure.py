"""Measure the videos of an evaluation: how real they are, how they move, how they differ, what the reward goes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gigavideo_data.commands.evaluation.candidates import Candidate
from gigavideo_data.commands.evaluation.real_clips import real_clips
from gigavideo_data.commands.evaluation.result import Draft, Result
from gigavideo_data.commands.evaluation.setting import Setting
from gigavideo_data.miniature.grammar import Question, parse
from gigavideo_data.miniature.questions import ask_everyday
from gigavideo_data.models.generators.profiles import profile_of
from gigavideo_data.models.registry import features_spec, judge_spec
from gigavideo_data.pipeline.execution.runner import Runner, StoreRunner, grouped_records
from gigavideo_data.pipeline.stages import Item, Record, measurement
from gigavideo_data.recipe.features import Features
from gigavideo_data.recipe.recipe import Judge
from gigavideo_data.scoring import measures
from gigavideo_data.scoring.rewards import score

PASS = 0.5  # a clip passes the plain questions if the worst answer scores more
SIDES = ("base", "tuned")


def measure(
    base: Candidate, results: Sequence[Sequence[Result]], setting: Setting, runner: StoreRunner
) -> dict[str, Any]:
    """The measures of both models, as under `measures` in eval.json.

    Features come from the MP4 of every clip, those of both models and the real ones, by one network: that of the
    setting, or the autoencoder of the base. Only prompts and seeds that both models have a video of are measured.

    Args:
        base: the model that the tuned one is compared with.
        results: of base and tuned, in the same order.
        setting: what they are compared on.
        runner: gives the records.
    """
    profile = profile_of(base.model)
    pairs = [pair for pair in zip(*results, strict=True) if not any("rejected" in one["clip"] for one in pair)]
    drafts: list[Draft] = [(one["prompt"], one["seed"]) for one, _ in pairs]
    real = real_clips(drafts, setting, profile, runner)
    network = setting.network or Features(backend="vae", model=base.model, revision=base.commit)
    spec = features_spec(network)
    clips = [{side: one["clip"]["video_sha256"] for side, one in zip(SIDES, pair, strict=True)} for pair in pairs]
    clips = [one | ({"real": sha256} if sha256 else {}) for one, sha256 in zip(clips, real, strict=True)]
    groups = [{side: measurement(spec, sha256) for side, sha256 in one.items()} for one in clips]
    measured = [
        measures.Pair(
            dimension=one["prompt"]["dimension"],
            prompt_id=one["prompt"]["prompt_id"],
            base=records["base"],
            tuned=records["tuned"],
            rewards=(one["reward"], two["reward"]),
            real=records.get("real", {}).get("features"),
        )
        for (one, two), records in zip(pairs, grouped_records(runner, groups), strict=True)
        if not any("rejected" in records[side] for side in SIDES)
    ]
    name = f"{network.backend} {spec.identity['model']}@{spec.identity['revision']}"
    plain = _plain(pairs, runner) if profile.name == "miniature" else None
    return measures.facts(measured, name) | {"plain": plain}


def _plain(pairs: Sequence[tuple[Result, Result]], runner: Runner) -> dict[str, float] | None:
    """The share of clips of each model that pass the miniature's plain questions; None if no prompt has any."""
    spec = judge_spec(Judge())
    groups: list[dict[str, Item]] = []
    asked: list[list[Question]] = []
    for pair in pairs:
        scene = parse(pair[0]["prompt"]["prompt"])
        if scene is not None and (questions := ask_everyday(scene)):
            shas = [one["clip"]["video_sha256"] for one in pair]
            texts = [question.text for question in questions]
            works = [Item("judge", spec.identity, {"video_sha256": sha256, "questions": texts}) for sha256 in shas]
            groups.append(dict(zip(SIDES, works, strict=True)))
            asked.append(questions)
    answered = list(zip(grouped_records(runner, groups), asked, strict=True))
    passed = {side: [_passes(records[side], questions) for records, questions in answered] for side in SIDES}
    return {side: sum(each) / len(each) for side, each in passed.items()} if answered else None


def _passes(record: Record, questions: Sequence[Question]) -> bool:
    """Whether the worst answer is right; a clip that could not be judged does not pass."""
    if "rejected" in record:
        return False
    given = zip(questions, record["answers"], strict=True)
    answers = [{**asdict(question), "question": question.text, **answer} for question, answer in given]
    value = score(answers, "all", min_mass=Judge().min_mass).value
    return value is not None and value > PASS

"""One video of an evaluation with its reward, and the judging that gives it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypedDict

from gigavideo_data.commands.evaluation.setting import Judging
from gigavideo_data.pipeline.execution.runner import Runner, grouped_records
from gigavideo_data.pipeline.stages import Item, Record
from gigavideo_data.rows import EvalPrompt
from gigavideo_data.scoring import bootstrap


class Result(TypedDict):
    """One prompt and seed: the record of the video, and its reward on the prompt's dimension or why there is none."""

    prompt: EvalPrompt
    seed: int
    clip: Record
    reward: float | None
    rejected: str | None


Draft = tuple[EvalPrompt, int]  # a prompt and a seed


def judged(
    drafts: Sequence[Draft],
    clips: Sequence[Record],
    judging: Judging,
    runner: Runner,
) -> list[Result]:
    """Judge videos, one of each prompt and seed.

    Args:
        drafts: prompts with only their own questions, and seeds.
        clips: records of the videos, or of their rejection.
        judging: who judges.
        runner: gives the records.
    """
    groups: list[dict[str, Item]] = []
    for (prompt, _), clip in zip(drafts, clips, strict=True):
        questions = [question["question"] for question in prompt["questions"]]
        judge = judging.panel.judge_of(prompt["dimension"])
        groups.append(
            {} if "rejected" in clip else {"judge": judging.panel.item(judge, clip["video_sha256"], questions)}
        )
    results: list[Result] = []
    for (prompt, seed), clip, answer in zip(drafts, clips, grouped_records(runner, groups), strict=True):
        record = answer.get("judge", clip)  # of the judge, or else the rejection of the video
        reward, rejected = judging.reward_of(prompt, record), record.get("rejected")
        results.append({"prompt": prompt, "seed": seed, "clip": clip, "reward": reward, "rejected": rejected})
    return results


def judged_again(results: Sequence[Result], judging: Judging, runner: Runner) -> list[Result]:
    """The same videos, judged by another judge."""
    drafts = [(result["prompt"], result["seed"]) for result in results]
    return judged(drafts, [result["clip"] for result in results], judging, runner)


def second_facts(judging: Judging, rewards: Sequence[bootstrap.Scored], others: Collection[str] = ()) -> dict[str, Any]:
    """The comparisons of the second judge, as under `second` in eval.json; `others` as in `bootstrap.compare`."""
    comparisons = bootstrap.facts(bootstrap.compare(rewards, others))
    return {"judge": ", ".join(judging.panel.ids), "comparisons": comparisons}


def scored(base: Sequence[Result], tuned: Sequence[Result]) -> list[bootstrap.Scored]:
    """The rewards of both models for every prompt and seed."""
    return [
        bootstrap.Scored(
            one["prompt"]["dimension"], one["prompt"]["prompt_id"], one["seed"], one["reward"], two["reward"]
        )
        for one, two in zip(base, tuned, strict=True)
    ]

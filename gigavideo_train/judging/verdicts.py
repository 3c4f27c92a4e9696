"""Rewards of sample clips on disk: the judge is loaded, scores the clips, and is unloaded.

    samples/step-00000100/0.json, beside 0.mp4: {"reward": 0.71, "reason": null}

A clip is judged after compression, by the questions of its prompt and the rules of `gv-data eval`.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gigavideo_data.io import video
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.models.registry import load_engine
from gigavideo_data.rows import EvalPrompt
from gigavideo_data.scoring.eval_reward import own_questions, reward_of
from gigavideo_train.judging.judges import SampleJudge


@dataclass(frozen=True)
class Verdict:
    """A reward in [0, 1]; or None, with the reason why the clip cannot be scored."""

    reward: float | None
    reason: str | None = None


def judge_clips(clips: dict[Path, EvalPrompt], judges: dict[str, SampleJudge]) -> None:
    """Write a verdict beside each clip. One judge at a time is in memory, and none afterwards.

    Args:
        clips: MP4 files, each with the evaluation prompt that it was made for.
        judges: by dimension.
    """
    by_engine: dict[str, list[Path]] = {}
    for clip, prompt in clips.items():
        by_engine.setdefault(json.dumps(judges[prompt["dimension"]].engine, sort_keys=True), []).append(clip)
    for engine, own_clips in by_engine.items():
        judge = load_engine("judge", json.loads(engine))
        for clip in own_clips:
            verdict = _judge(judge, clip, clips[clip], judges[clips[clip]["dimension"]])
            write_durably(_verdict_file(clip), json.dumps(asdict(verdict)).encode())
        del judge
        gc.collect()  # modules in reference cycles are not freed before
        torch.cuda.empty_cache()


def read(clip: Path) -> Verdict | None:
    """The verdict on a clip; None if it was not judged."""
    path = _verdict_file(clip)
    return Verdict(**json.loads(path.read_text())) if path.is_file() else None


def mean_reward(verdicts: Iterable[Verdict]) -> dict[str, float | int | None]:
    """As in metrics.jsonl: `sample_reward`, the mean over the clips that were scored, and `samples_scored`."""
    rewards = [verdict.reward for verdict in verdicts if verdict.reward is not None]
    return {"sample_reward": sum(rewards) / len(rewards) if rewards else None, "samples_scored": len(rewards)}


def _judge(judge: Any, path: Path, prompt: EvalPrompt, rules: SampleJudge) -> Verdict:
    clip = video.decode(path.read_bytes(), path.name)
    answers = judge.answer(clip.frames_THWC, clip.fps, [each["question"] for each in own_questions(prompt)])
    given = [{"p_yes": answer.p_yes, "p_no": answer.p_no, "readings": answer.readings} for answer in answers]
    reward = reward_of(prompt, given, rules.judge, rules.min_mass)
    return Verdict(reward.value, reward.reason)


def _verdict_file(clip: Path) -> Path:
    return clip.with_suffix(".json")

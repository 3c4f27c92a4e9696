"""What the dataset's judge makes of samples: loaded, asked about clips on disk, and gone again.

    samples/step-00000100/0.json, beside 0.mp4: {"reward": 0.71, "reason": null}

A clip is judged as it was written, by the questions of its prompt and the rules of `gv-data eval`.
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
from gigavideo_data.scoring.eval_reward import own_questions, reward_of
from gigavideo_train.judging.judges import Row, SampleJudge


@dataclass(frozen=True)
class Verdict:
    """A reward in [0, 1]; or None, and why it cannot be known."""

    reward: float | None
    reason: str | None = None


def judge(clips: dict[Path, Row], judges: dict[str, SampleJudge]) -> None:
    """Write the verdict on each clip beside it; one judge at a time is in memory, and none when it is done.

    Args:
        clips: MP4 files, each with the evaluation prompt that it was made for.
        judges: by dimension.
    """
    by_engine: dict[str, list[Path]] = {}
    for clip, prompt in clips.items():
        by_engine.setdefault(json.dumps(judges[prompt["dimension"]].engine, sort_keys=True), []).append(clip)
    for engine, its_clips in by_engine.items():
        asked = load_engine("judge", json.loads(engine))
        for clip in its_clips:
            verdict = _verdict(asked, clip, clips[clip], judges[clips[clip]["dimension"]])
            write_durably(_beside(clip), json.dumps(asdict(verdict)).encode())
        del asked
        gc.collect()  # modules that know each other are not gone before
        torch.cuda.empty_cache()


def read(clip: Path) -> Verdict | None:
    """The verdict on a clip; None if it was not judged."""
    path = _beside(clip)
    return Verdict(**json.loads(path.read_text())) if path.is_file() else None


def means(verdicts: Iterable[Verdict]) -> dict[str, float | int | None]:
    """As metrics.jsonl has them: the mean over the clips that could be scored, and how many these are."""
    rewards = [verdict.reward for verdict in verdicts if verdict.reward is not None]
    return {"sample_reward": sum(rewards) / len(rewards) if rewards else None, "samples_scored": len(rewards)}


def _verdict(asked: Any, path: Path, prompt: Row, rules: SampleJudge) -> Verdict:
    clip = video.decode(path.read_bytes(), path.name)
    answers = asked.answer(clip.frames_THWC, clip.fps, [each["question"] for each in own_questions(prompt)])
    given = [{"p_yes": answer.p_yes, "p_no": answer.p_no, "readings": answer.readings} for answer in answers]
    reward = reward_of(prompt, given, rules.judge, rules.min_mass)
    return Verdict(reward.value, reward.reason)


def _beside(clip: Path) -> Path:
    return clip.with_suffix(".json")

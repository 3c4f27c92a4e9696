"""Small true rows, and the rest of a set around them, for tests of the rooms that read and write sets."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gigavideo_data.dataset import schema
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.io import video

FPS = 8.0
DIMENSION = "mechanics"


@cache
def clip(seed: int, num_frames: int = 5, size: int = 32) -> bytes:
    """An MP4 of a square that moves over a flat ground."""
    frames_THWC = np.full((num_frames, size, size, 3), 40 + seed % 160, np.uint8)
    for number in range(num_frames):
        frames_THWC[number, 8:16, 2 * number : 2 * number + 8] = (250, 40, 40)
    return video.encode(frames_THWC, FPS)


def answer(p_yes: float, expected: str = "yes", gate: bool = False) -> Any:
    return {
        "dimension": DIMENSION,
        "question": "Does the ball fall?",
        "expected": expected,
        "gate": gate,
        "p_yes": p_yes,
        "p_no": 1 - p_yes,
        "readout": "logits",
        "judge": "miniature",
    }


def make_row(seed: int = 0, source: str = "synthetic", reward: float | None = 0.75, split: str | None = None) -> Any:
    """One row that keeps every rule; a null reward makes it unscorable, a real row has none."""
    base_prompt = f"a red ball number {seed} falls"
    generator = dict.fromkeys(schema.ROW_SCHEMA.field("generator").type.names)
    generator |= {"backend": "diffusers", "model": "miniature", "steps": 20, "guidance": 3.0, "seed": seed}
    data = clip(seed)
    row_id = schema.row_id(base_prompt, {**generator, "model": source}, seed)
    pair_id = None if source == "synthetic" else f"pair-{seed}"
    status = "not_scored" if source == "real" else "unscorable" if reward is None else "scored"
    value = reward if status == "scored" else None
    reason = None if status == "scored" else "low_mass" if status == "unscorable" else "real clip"
    scored = [{"dimension": DIMENSION, "value": value, "status": status, "reason": reason}] * (source != "real")
    return {
        "id": row_id,
        "prompt_id": schema.prompt_id(base_prompt),
        "pair_id": pair_id,
        "sample": 0,
        "split": split or schema.split_of(pair_id or schema.prompt_id(base_prompt)),
        "source": source,
        "dimension": DIMENSION if source == "synthetic" else None,
        "base_prompt": base_prompt,
        "prompt": f"{base_prompt}, [/b] *wide* shot",
        "video": {"bytes": data, "path": f"{row_id}.mp4"},
        "video_sha256": hashlib.sha256(data).hexdigest(),
        "num_frames": 5,
        "height": 32,
        "width": 32,
        "fps": FPS,
        "status": status,
        "reason": reason,
        "reward": value,
        "rewards": scored,
        "answers": [answer(reward or 0.125)] if source != "real" else [],
        "measurements": [],
        "judges": [
            {
                "id": "miniature",
                "kind": "qa",
                "model": "miniature",
                "revision": "1",
                "frames": 5,
                "fps": FPS,
                "template": None,
            }
        ],
        "generator": None if source == "real" else generator,
        "origin": {"dataset": "miniature", "clip": str(seed), "start_s": 0.0, "end_s": 0.5}
        if source == "real"
        else None,
        "source_file": None,
        "recipe": "0123456789abcdef",
        "license": "apache-2.0",
    }


def make_rows() -> list[Any]:
    """Six written prompts, one of them unscorable, and two pairs; both splits occur."""
    rows = [make_row(seed, reward=seed / 8, split="validation" if seed == 2 else "train") for seed in range(5)]
    rows.append(make_row(5, reward=None, split="train"))
    for seed in (10, 11):
        rows += [make_row(seed, source, split="train") for source in ("twin", "real")]
    return rows


def make_eval_prompts(asked: str = "Does it fall?") -> list[Any]:
    question = {"dimension": DIMENSION, "question": asked, "expected": "yes", "gate": False}
    prompts = [("dev", "a blue cube falls"), ("test", "a green cube falls"), ("test", "a grey cube falls")]
    return [
        {
            "prompt_id": schema.prompt_id(prompt),
            "dimension": DIMENSION,
            "base_prompt": prompt,
            "prompt": prompt,
            "split": split,
            "questions": [question, question | {"dimension": "composition", "question": "Is it a cube?"}],
            "seeds": [1, 2],
        }
        for split, prompt in prompts
    ]


def make_rejects() -> list[Any]:
    return [
        {
            "stage": "prompt",
            "source": "synthetic",
            "id": "0" * 16,
            "reason": "duplicate",
            "detail": "a red ball | falls",
            "attempts": 1,
        }
    ]


def make_manifest(rows: list[Any], rejects: list[Any]) -> Any:
    """The manifest as the pipeline hands it over: `format`, `rows` and `files` are filled in by write_dataset."""
    ledger = []
    for source, count in sorted(Counter(row["source"] for row in rows).items()):
        reasons = dict(Counter(reject["reason"] for reject in rejects if reject["source"] == source))
        lost = sum(reasons.values())
        ledger += [
            {"stage": "prompt", "source": source, "in": count + lost, "out": count, "rejected": reasons},
            {"stage": "reward", "source": source, "in": count, "out": count, "rejected": {}},
        ]
    return {
        "name": "tiny",
        "recipe": {"name": "tiny", "dimensions": [DIMENSION], "judge": {"min_mass": 0.5}, "generators": []},
        "recipe_hash": "0123456789abcdef",
        "code_version": "0.1.0",
        "target_model": "miniature",
        "dimensions": [DIMENSION],
        "license": "apache-2.0",
        "ledger": ledger,
        "judge_check": [
            {
                "dimension": DIMENSION,
                "videos": 40,
                "auc_foreign": 0.61,
                "yes_bias": 0.02,
                "inconsistency": 0.05,
                "real_videos": 0,
                "auc_real": None,
                "real_score": None,
            }
        ],
        "rewards": {DIMENSION: {"scored": 7, "unscorable": 1, "mean": 0.4, "sem": None}},
    }


COST = {"stages": [{"stage": "judge", "calls": 8, "cached": 0, "seconds": 1.5, "rows": 8}], "wall_seconds": 2.0}


def write_set(
    out: Path,
    rows: list[Any] | None = None,
    *,
    ledger: list[Any] | None = None,
    eval_prompts: list[Any] | None = None,
    latents: list[Any] | None = None,
) -> Path:
    """Publish a small set into `out` and return the folder."""
    rows = make_rows() if rows is None else rows
    rejects = make_rejects()
    manifest = make_manifest(rows, rejects) | ({"ledger": ledger} if ledger is not None else {})
    write_dataset(out, rows, eval_prompts or make_eval_prompts(), rejects, manifest, COST, latents=latents or ())
    return out

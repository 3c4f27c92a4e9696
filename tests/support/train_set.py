"""A small true set to train on: rendered clips of the miniature's world, five frames each, with given rewards."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gigavideo_data.io import video
from gigavideo_data.io.resampling import resize_and_crop
from gigavideo_data.miniature.grammar import describe, sample_scene
from gigavideo_data.miniature.world import render
from gigavideo_data.models.generators.profiles import model_revision
from gigavideo_data.models.spec import folder_revision
from gigavideo_data.recipe.recipe import published_name
from tests.support.rows import FPS, make_row, write_set

REWARDS = (0.9, 0.7, 0.3, 0.95, None, 0.8, 0.6)  # of the synthetic rows; pairs have 0.75


SIZE = (48, 48)  # height and width, px


@cache
def _rendered(seed: int, num_frames: int, size: tuple[int, int] = SIZE) -> tuple[str, bytes]:
    rng = np.random.default_rng(seed)
    scene = sample_scene("mechanics", rng, "tune")
    frames_THWC = render(scene, rng)[:num_frames]
    if size != SIZE:
        frames_THWC = resize_and_crop(frames_THWC, *size)
    return describe(scene, full=True), video.encode(frames_THWC, FPS)


def row(
    seed: int,
    source: str = "synthetic",
    reward: float | None = 0.75,
    num_frames: int = 5,
    prompt: int = 0,
    size: tuple[int, int] = SIZE,
) -> Any:
    """One row; rows of one `prompt` (by default each has its own) are samples of it."""
    text, _ = _rendered(prompt or seed, num_frames)
    _, data = _rendered(seed, num_frames, size)
    made = make_row(seed, source, reward, split="train")
    if prompt:
        made |= {"prompt_id": make_row(prompt)["prompt_id"], "sample": seed}
    return made | {
        "prompt": text,
        "video": {"bytes": data, "path": f"{made['id']}.mp4"},
        "video_sha256": hashlib.sha256(data).hexdigest(),
        "num_frames": num_frames,
        "height": size[0],
        "width": size[1],
    }


def generated_by(made: list[Any], model: str = "miniature", adapter: Path | None = None) -> list[Any]:
    """The rows as if this model, a shipped name or a folder, had generated them."""
    generator = {
        "model": published_name(model),
        "revision": model_revision(model),
        "adapter": f"{adapter.name}@{folder_revision(adapter)}" if adapter else None,
    }
    return [each | {"generator": each["generator"] | generator} if each["generator"] else each for each in made]


def rows() -> list[Any]:
    """Seven synthetic rows, four of them above 0.5 by far, and two pairs, one with a shorter real clip."""
    made = [row(seed, reward=reward) for seed, reward in enumerate(REWARDS, start=1)]
    made += [row(20, "twin"), row(20, "real"), row(21, "twin")]
    return [*made, row(21, "real", num_frames=1)]


def training_set(out: Path, made: list[Any] | None = None) -> Path:
    """Publish it."""
    return write_set(out, rows() if made is None else made)

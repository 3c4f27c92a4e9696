"""The miniature's "real videos": rendered clips with captions that follow the base model's own training mixture.

Rare skills are as rare here as they were in training. Many good examples would improve the weak skills by themselves
and prove nothing about the method.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from gigavideo_data.io import video
from gigavideo_data.miniature import world
from gigavideo_data.miniature.grammar import describe, parse, sample_scene
from gigavideo_data.miniature.mixture import MIXTURE
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.recipe.recipe import Captions

REVISION = "rendered-2"  # raise the number with every change that may change a caption or a pixel of a clip


def spec(captions: Captions) -> EngineSpec:
    """The spec of the rendered clips, which have no settings."""
    return EngineSpec({"backend": captions.source, "revision": REVISION}, {})


class RenderedClips:
    """A captioned clip for every index, as a table of real videos has."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # no settings

    def clip(self, index: int, seed: int) -> tuple[str, bytes, dict[str, Any]]:
        """Caption, MP4 bytes and `origin` column of one clip."""
        rng = np.random.default_rng([seed, 7919, index])
        skill = str(rng.choice(list(MIXTURE), p=list(MIXTURE.values())))
        scene = sample_scene(skill, rng, "pretrain")
        frames_THWC = world.render(scene, rng)
        seconds = len(frames_THWC) / world.FPS
        origin = {"dataset": "miniature", "clip": f"{seed}-{index}", "start_s": 0.0, "end_s": seconds}
        return describe(scene, full=True), video.encode(frames_THWC, world.FPS), origin

    def of_prompt(self, prompt: str, seed: int) -> bytes:
        """MP4 bytes of a clip that shows what a prompt says; seeds differ in what it leaves open.

        Raises:
            ValueError: the prompt is not of the miniature's language.
        """
        scene = parse(prompt)
        if scene is None:
            raise ValueError(f"not a prompt of the miniature world: {prompt!r}")
        digest = hashlib.sha256(prompt.encode()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
        return video.encode(world.render(scene, rng), world.FPS)

    def source_file(self, **_: Any) -> None:
        """None: the clips are rendered and come from no files."""

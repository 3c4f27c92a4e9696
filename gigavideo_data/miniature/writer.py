"""The grammar as a writer: base prompts, extension, questions, by the protocol of a language model's writer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gigavideo_data.miniature import questions
from gigavideo_data.miniature.grammar import SKILLS, describe, parse, sample_scene, split_of
from gigavideo_data.miniature.world import GROUNDS
from gigavideo_data.models.judges.base import negate
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.recipe.recipe import Writer

REVISION = "grammar-2"  # raise the number with every change that may change a prompt, its split or its questions

# The split of the miniature for each split of a writer. The base has seen no combination of these three.
MINIATURE_SPLIT = {"train": "tune", "dev": "dev", "test": "test"}

# A split has few combinations, and the rarest is drawn with a probability above 0.002. After so many draws in a row
# without a new one, fewer prompts are written than requested.
MAX_REPEATS = 3000


def spec(writer: Writer) -> EngineSpec:
    """The spec of the grammar, which has no settings."""
    return EngineSpec({"backend": writer.backend, "revision": REVISION}, {})


def held_out(prompt: str) -> str | None:
    """The split that contains a prompt, in words, if it is dev or test; None otherwise, and for text of others."""
    scene = parse(prompt)
    split = split_of(scene) if scene else None
    return f"the {split} split of the miniature" if split in ("dev", "test") else None


class GrammarWriter:
    """Writes and reads the language of the miniature (see `PromptWriter`); it needs none of the `details`."""

    both_answers = True

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine  # one grammar, no settings

    def prompts(
        self, dimension: str, count: int, seed: int, split: str, used: Sequence[str] = (), **details: Any
    ) -> dict[str, Any]:
        """Write `count` different base prompts for a dimension; fewer if the split has not so many.

        A longer list starts with the shorter one, so that a larger recipe reuses the videos of a smaller one.

        Args:
            dimension: one of the miniature's.
            count: the largest number of prompts.
            seed: decides which prompts, and their order.
            split: train, dev or test.
            used: prompts that are written only where the split has no others left.
            details: not needed.

        Raises:
            ValueError: the miniature cannot show the dimension.
        """
        del details
        if dimension not in SKILLS:
            raise ValueError(f"the miniature world cannot show {dimension!r}")
        rng = _rng("prompts", dimension, seed, split)
        known = set(used)
        fresh: dict[str, None] = {}
        again: dict[str, None] = {}  # used ones, in the order in which they are drawn
        repeats = 0
        while len(fresh) < count and repeats < MAX_REPEATS:
            text = describe(sample_scene(dimension, rng, MINIATURE_SPLIT[split]))
            drawn = again if text in known else fresh
            repeats = repeats + 1 if text in drawn else 0
            drawn[text] = None
        texts = [*fresh, *again][:count]
        return {"prompts": [{"prompt": text, "objects": []} for text in texts], "dropped": []}

    def extend(self, prompt: str, variant: int, seed: int, **details: Any) -> dict[str, Any]:
        """Write a prompt like the base model's captions, with camera and ground; variants differ only in style.

        Raises:
            ValueError: the prompt is not of the miniature's language, or the extension lost facts of it.
        """
        del details
        scene = parse(prompt)
        if scene is None:
            raise ValueError(f"not a prompt of the miniature world: {prompt!r}")
        if scene.ground != "textured":
            grounds = [g for g in GROUNDS if g != "textured"]
            start = int(_rng("extend", prompt, seed).integers(len(grounds)))
            scene = replace(scene, ground=grounds[(start + variant) % len(grounds)])
        extended = describe(scene, full=True)
        read = parse(extended)
        if read is None or split_of(read) != split_of(scene) or describe(read) != describe(scene):
            raise ValueError(f"the extension lost facts of {prompt!r}: {extended!r}")
        return {"prompt": extended}

    def questions(self, prompt: str, dimension: str, **details: Any) -> dict[str, Any]:
        """Questions on what the prompt states of a dimension, each with its negation; maybe none."""
        del details
        scene = parse(prompt)
        asked = questions.ask(scene, dimension) if scene is not None and dimension in questions.ASK else []
        return {
            "questions": [
                {"question": q.text, "expected": q.expected, "gate": q.gate, "negated": negate(q.text)} for q in asked
            ]
        }


def _rng(*parts: object) -> np.random.Generator:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))

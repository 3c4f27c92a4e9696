"""Engines without models: prompts of random words, tiny clips with one picture, answers that the question decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from gigavideo_data.models.generators.base import Generated
from gigavideo_data.models.judges.base import Answer, negate

SYLLABLES = ("ba", "do", "ki", "lu", "me", "no", "ra", "si", "tu", "ve", "wo", "za")
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]
WORDS_OF_A_PROMPT = 9
FRAMES, SIDE, FPS = 5, 16, 8.0


class FakeWriter:
    """Prompts of random words; two questions about each dimension."""

    both_answers = True

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine

    def prompts(self, dimension: str, count: int, seed: int, split: str, **details: Any) -> dict[str, Any]:
        """`count` prompts; a longer list starts with the shorter one."""
        del details
        digest = hashlib.sha256(f"{dimension} {seed} {split}".encode()).digest()
        rng = np.random.default_rng(list(digest[:8]))
        drafts = []
        for words in rng.integers(len(WORDS), size=(count, WORDS_OF_A_PROMPT)):
            drafts.append({"prompt": "a " + " ".join(WORDS[word] for word in words), "objects": []})
        return {"prompts": drafts, "dropped": []}

    def extend(self, prompt: str, **details: Any) -> dict[str, Any]:
        """The prompt with a tail as long as those of language models."""
        del details
        return {
            "prompt": f"{prompt}, seen by a still camera in soft morning light, wide shot, calm mood" + 4 * ", sharp"
        }

    def questions(self, prompt: str, dimension: str, **details: Any) -> dict[str, Any]:
        """One question for each of the two answers."""
        del details
        asked = [(f"Is there {prompt.partition(',')[0]}?", "yes"), (f"Does the {dimension} change?", "no")]
        return {
            "questions": [
                {"question": text, "expected": expected, "gate": False, "negated": negate(text)}
                for text, expected in asked
            ]
        }


class FakeGenerator:
    """Frames that prompt and seed decide; `sitecustomize` encodes them all as one clip."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        """One video for each prompt and seed."""
        return [Generated(_frames(*row), FPS) for row in zip(prompts, seeds, strict=True)]


class FakeJudge:
    """Probabilities that the question decides."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: Sequence[str]) -> list[Answer]:
        """One answer for each question."""
        del frames_THWC, fps
        shares = [hashlib.sha256(question.encode()).digest()[0] / 255 for question in questions]
        return [Answer(share, 1 - share) for share in shares]


def _frames(prompt: str, seed: int) -> np.ndarray:
    digest = hashlib.sha256(f"{prompt} {seed}".encode()).digest()
    frames_THWC = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
    frames_THWC[0, 0, : len(digest) // 3] = np.frombuffer(digest[: len(digest) // 3 * 3], np.uint8).reshape(-1, 3)
    return frames_THWC


@cache
def constant_clip(encode: Callable[..., bytes], shape: tuple[int, ...], fps: float, crf: int) -> bytes:
    """One encoded clip of this shape."""
    num_frames, height, width, _ = shape
    levels = np.linspace(40, 200, num_frames).astype(np.uint8)
    return encode(np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)), fps, crf=crf)


def unique(clip: bytes, frames_THWC: np.ndarray) -> bytes:
    """The clip with a box that players skip, which holds the hash of the frames."""
    content = hashlib.sha256(frames_THWC.tobytes()).digest()
    return clip + (8 + len(content)).to_bytes(4, "big") + b"free" + content

"""How a multimodal language model is asked: which frames, in which words, and what its first token says.

The video comes first and the question last, so that all questions of a video share the costly beginning. Probabilities
are those of the first token of the answer, summed over the ways to write the word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import exp
from operator import itemgetter
from typing import Any

import numpy as np

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.hashing import content_key
from gigavideo_data.judges.protocol import ROUNDING, Answer
from gigavideo_data.reasons import Reason

QUESTION = "{question}\nAnswer with one word, yes or no."
TIMED_QUESTION = (
    "{question}\nThe pictures are frames of one video of {seconds:.2f} s, at {times} s.\n"
    "Answer with one word, yes or no."
)
TEMPLATE = content_key([QUESTION])[:8]
# Of a judge behind an endpoint, by how it takes frames; they also say where a request has the times of its frames.
HTTP_TEMPLATES = {
    "video": f"{TEMPLATE}, times in media_io_kwargs",
    "images": f"{content_key([TIMED_QUESTION])[:8]}, times in text",
}
WORDS = ("yes", "no")
# As tokenizers cut them at the start of an answer: with and without a space or its sign in byte-level vocabularies.
SPELLINGS = {word: (word, word.capitalize(), word.upper(), f" {word}", f" {word.capitalize()}") for word in WORDS}

_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def text_of(question: str) -> str:
    """What is said after the video."""
    return QUESTION.format(question=question)


def timed_text_of(question: str, num_frames: int, fps: float, wanted: int) -> str:
    """The same after pictures: with the times of the `wanted` frames that are shown of a clip."""
    times = ", ".join(f"{frame / fps:.2f}" for frame in chosen(num_frames, wanted))
    return TIMED_QUESTION.format(question=question, seconds=num_frames / fps, times=times)


def spread(num_frames: int, wanted: int) -> list[int]:
    """Which frames are looked at: all of them if they are few, else evenly from the first to the last."""
    return [round(position) for position in np.linspace(0, num_frames - 1, min(num_frames, wanted))]


def chosen(num_frames: int, wanted: int) -> list[int]:
    """The same in an even number: models with a temporal patch of two pair frames, so the last may be shown twice."""
    frames = spread(num_frames, wanted)
    return frames + frames[-1:] * (len(frames) % 2)


def fitted(height: int, width: int, max_side_px: int) -> tuple[int, int]:
    """Height and width that a frame is shown at: its own, or smaller, with a longer side of `max_side_px`."""
    scale = min(1.0, max_side_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shown(frames_THWC: np.ndarray, wanted: int, max_side_px: int) -> np.ndarray:
    """The frames that a judge is shown (uint8 RGB), none with a longer side than `max_side_px`."""
    frames_THWC = frames_THWC[chosen(len(frames_THWC), wanted)]
    _, whole_height, whole_width, _ = frames_THWC.shape
    height, width = fitted(whole_height, whole_width, max_side_px)
    if (height, width) == (whole_height, whole_width):
        return frames_THWC
    import cv2  # not on every machine that judges: frames that fit need none

    return np.stack([cv2.resize(frame_HWC, (width, height), interpolation=cv2.INTER_AREA) for frame_HWC in frames_THWC])


def spellings(tokenizer: Any) -> dict[int, str]:
    """Token -> word, for every spelling of yes and no that is one token of a vocabulary.

    Raises:
        RunError: a word has none.
    """
    found: dict[int, str] = {}
    for word, ways in SPELLINGS.items():
        for way in ways:
            tokens = tokenizer.encode(way, add_special_tokens=False)
            if len(tokens) == 1:
                found[tokens[0]] = word
    if set(found.values()) != set(WORDS):
        raise RunError("judge: yes and no are not single tokens of this model's vocabulary")
    return found


def read(first_token: Iterable[tuple[str, float]]) -> Answer:
    """P(yes) and P(no) from the candidates for the first token, each with its natural logarithm of probability.

    What is not among them counts as nothing: its probability is below the least of those that are.

    Raises:
        RowError: a number is not the logarithm of a probability (bad_answer).
    """
    sums, likeliest = dict.fromkeys(WORDS, 0.0), ("", float("-inf"))
    for text, logprob in first_token:
        if not isinstance(logprob, int | float) or not logprob <= ROUNDING:  # NaN is not either
            raise RowError(Reason.BAD_ANSWER, f"the log-probability of {text!r} is {logprob!r}, expected at most 0")
        word = text.strip(" \n\t▁Ġ").casefold()
        if word in sums:
            sums[word] += exp(logprob)
        likeliest = max(likeliest, (text, logprob), key=itemgetter(1))
    return Answer(p_yes=sums["yes"], p_no=sums["no"], said=likeliest[0])


def written(text: str) -> Answer:
    """All mass on the word that an answer begins with, after a model's thoughts; none where it is another one."""
    words = _THOUGHTS.sub("", text).strip().casefold().split()
    first = words[0].strip(".,:;!\"'*") if words else ""
    return Answer(p_yes=float(first == "yes"), p_no=float(first == "no"), said=text.strip()[:40])

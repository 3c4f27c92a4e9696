"""How a multimodal language model is asked: which frames, in which words, and how its first token is read.

The video comes first and the question last, so that all questions of a video share the costly beginning. P(yes) and
P(no) are probabilities of the first token of the answer, summed over the spellings of the word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import exp
from operator import itemgetter
from typing import Any

import numpy as np

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.io.hashing import content_key
from gigavideo_data.models.judges.base import ROUNDING, Answer
from gigavideo_data.models.spec import EngineSpec, loaded_from
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.recipe import Judge

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
# As tokenizers cut them at the start of an answer, with and without a space.
SPELLINGS = {word: (word, word.capitalize(), word.upper(), f" {word}", f" {word.capitalize()}") for word in WORDS}

_REASONING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def served(judge: Judge) -> EngineSpec:
    """The spec of a judge behind an endpoint. Its revision is the recipe's: the endpoint does not report one."""
    identity = judge.model_dump(mode="json", exclude={"endpoint", "min_mass", "vllm"})
    location = {"endpoint": judge.endpoint, "min_mass": judge.min_mass}
    return EngineSpec(identity | {"template": HTTP_TEMPLATES[judge.media]}, location)


def loaded(judge: Judge) -> EngineSpec:
    """The spec of a judge that transformers or vLLM runs in the workers."""
    identity = judge.model_dump(mode="json", exclude={"endpoint", "min_mass", "media", "readout", "vllm"})
    spec = loaded_from(judge.model, identity | {"template": TEMPLATE})
    vllm = {"vllm": judge.vllm.model_dump()} if judge.backend == "vllm" else {}
    return EngineSpec(spec.identity, spec.location | {"min_mass": judge.min_mass} | vllm)


def text_of(question: str) -> str:
    """The text that follows the video."""
    return QUESTION.format(question=question)


def timed_text_of(question: str, num_frames: int, fps: float, max_frames: int) -> str:
    """The text that follows pictures: with the times of the frames that are shown of a clip."""
    times = ", ".join(f"{frame / fps:.2f}" for frame in even_indices(num_frames, max_frames))
    return TIMED_QUESTION.format(question=question, seconds=num_frames / fps, times=times)


def frame_indices(num_frames: int, max_frames: int) -> list[int]:
    """All frames if they are few, else `max_frames` of them evenly from the first to the last."""
    return [round(position) for position in np.linspace(0, num_frames - 1, min(num_frames, max_frames))]


def even_indices(num_frames: int, max_frames: int) -> list[int]:
    """The same in an even number: models with a temporal patch of two pair frames, so the last may be shown twice."""
    frames = frame_indices(num_frames, max_frames)
    return frames + frames[-1:] * (len(frames) % 2)


def fit_within(height: int, width: int, max_side_px: int) -> tuple[int, int]:
    """Height and width in px of a frame that is shrunk until its longer side is at most `max_side_px`."""
    scale = min(1.0, max_side_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def select_frames(frames_THWC: np.ndarray, max_frames: int, max_side_px: int) -> np.ndarray:
    """The frames that a judge is shown, uint8 RGB, none with a longer side than `max_side_px`."""
    frames_THWC = frames_THWC[even_indices(len(frames_THWC), max_frames)]
    _, full_height, full_width, _ = frames_THWC.shape
    height, width = fit_within(full_height, full_width, max_side_px)
    if (height, width) == (full_height, full_width):
        return frames_THWC
    import cv2  # not installed on every machine that judges: frames that fit do not need it

    return np.stack([cv2.resize(frame_HWC, (width, height), interpolation=cv2.INTER_AREA) for frame_HWC in frames_THWC])


def spellings(tokenizer: Any) -> dict[int, str]:
    """Token id -> word, for every spelling of yes and no that is one token of a vocabulary.

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
        raise RunError("judge: yes and no are not single tokens of this model's vocabulary; name another model")
    return found


def read_logprobs(first_token: Iterable[tuple[str, float]]) -> Answer:
    """P(yes) and P(no) from the candidates for the first token: each a text and its natural log-probability.

    A spelling that is not among the candidates counts as 0: it is less likely than each of them.

    Raises:
        RowError: a number is not a log-probability (bad_answer).
    """
    sums, likeliest = dict.fromkeys(WORDS, 0.0), ("", float("-inf"))
    for text, logprob in first_token:
        if not isinstance(logprob, int | float) or not logprob <= ROUNDING:  # also refuses NaN
            raise RowError(Reason.BAD_ANSWER, f"the log-probability of {text!r} is {logprob!r}, expected at most 0")
        word = text.strip(" \n\t▁Ġ").casefold()
        if word in sums:
            sums[word] += exp(logprob)
        likeliest = max(likeliest, (text, logprob), key=itemgetter(1))
    return Answer(p_yes=sums["yes"], p_no=sums["no"], text=likeliest[0])


def read_text(text: str) -> Answer:
    """Probability 1 for the word that an answer begins with, after any reasoning; 0 for both if it is another word."""
    words = _REASONING.sub("", text).strip().casefold().split()
    first = words[0].strip(".,:;!\"'*") if words else ""
    return Answer(p_yes=float(first == "yes"), p_no=float(first == "no"), text=text.strip()[:40])

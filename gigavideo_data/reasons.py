"""Why rows are rejected: one enum, which also says of each reason whether such a row failed or was not wanted.

Only failures count for `limits.max_rejected`, and so decide exit code 3. A reason cannot be added without saying which
of the two it is. The reason of an unexpected exception is the name of its class, and such a row failed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

PixelFlaw = Literal["black", "frozen"]  # of a generated video; named in a recipe's `reject_videos`

FAILED, NOT_WANTED = True, False


class Reason(StrEnum):
    """The word that stands in a dataset's rejects."""

    is_failure: bool

    def __new__(cls, word: str, is_failure: bool | None = None) -> Self:
        if is_failure is None:
            raise TypeError(f"{word}: say whether it is FAILED or NOT_WANTED")
        member = str.__new__(cls, word)
        member._value_ = word
        member.is_failure = is_failure
        return member

    # prompts
    DUPLICATE = "duplicate", NOT_WANTED  # the same text, video or row is there already
    NEAR_DUPLICATE = "near_duplicate", NOT_WANTED
    SHOWS_NO_TARGET = "shows_no_target", NOT_WANTED  # its questions are about no dimension of the recipe
    IMPOSSIBLE = "impossible", NOT_WANTED
    BAD_TEXT = "bad_text", NOT_WANTED
    TOO_MANY_WORDS = "too_many_words", NOT_WANTED
    SEVERAL_LINES = "several_lines", NOT_WANTED
    OBJECTS_NOT_NAMED = "objects_not_named", NOT_WANTED
    LOST_FACTS = "lost_facts", NOT_WANTED
    BLOCKED = "blocked", NOT_WANTED
    BLOCKED_WORDS = "blocked_words", NOT_WANTED
    BLOCKED_NEAR = "blocked_near", NOT_WANTED
    # tables of clips, and the clips
    NO_CAPTION = "no_caption", NOT_WANTED
    BAD_NAME = "bad_name", NOT_WANTED
    BAD_TIMES = "bad_times", NOT_WANTED
    TOO_LONG = "too_long", NOT_WANTED  # a clip of more seconds than the recipe allows
    TOO_SHORT = "too_short", NOT_WANTED
    HDR = "hdr", NOT_WANTED
    SIZE_CHANGES = "size_changes", NOT_WANTED
    LOW_SUITABILITY = "low_suitability", NOT_WANTED
    NO_CLIP = "no_clip", NOT_WANTED
    OTHER_DIMENSION = "other_dimension", NOT_WANTED
    # generated videos that a recipe rejects
    BLACK = "black", NOT_WANTED
    FROZEN = "frozen", NOT_WANTED
    # rows of other datasets
    MADE_ELSEWHERE = "made_elsewhere", NOT_WANTED
    HELD_OUT = "held_out", NOT_WANTED
    # workers and files
    WORKER_DIED = "worker_died", FAILED
    OUT_OF_MEMORY = "out_of_memory", FAILED  # of a GPU
    BROKEN_CLIP = "broken_clip", FAILED
    BAD_VIDEO = "bad_video", FAILED
    BAD_LATENTS = "bad_latents", FAILED
    # language models and judges
    REFUSED = "refused", FAILED
    NO_ANSWER = "no_answer", FAILED
    BAD_ANSWER = "bad_answer", FAILED
    BAD_FORM = "bad_form", FAILED
    BAD_QUESTIONS = "bad_questions", FAILED


def is_failure(reason: str) -> bool:
    """Whether a row with this reason failed. A word that is no `Reason` is the name of an exception: a failure."""
    return reason not in _WORDS or Reason(reason).is_failure


def blames_worker(reason: str) -> bool:
    """Whether a worker may be at fault: its GPU had too little memory, or an exception was not expected.

    All other reasons are found in a row's text, clip or answer, and say nothing about a worker.
    """
    return reason == Reason.OUT_OF_MEMORY or (reason not in _WORDS and reason not in _OTHER_EXCEPTIONS)


# Exceptions that blame no worker: a service did not answer, or a file is broken.
_OTHER_EXCEPTIONS = frozenset(
    {
        "TimeoutError",
        "ConnectionError",
        "BrokenPipeError",
        "ConnectionAbortedError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "DatasetError",
    }
)
_WORDS = frozenset(member.value for member in Reason)

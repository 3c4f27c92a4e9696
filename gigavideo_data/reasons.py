"""Why rows are rejected: the words that stand in rejects, and whether such a row failed or was not wanted.

Only failures count for `limits.max_rejected`, and so for exit code 3. Code that rejects a row names one of these words,
which mypy checks. Any other reason is the name of an unexpected exception, and a failure.
"""

from __future__ import annotations

from typing import Literal, get_args

Double = Literal["duplicate", "near_duplicate"]
PixelFlaw = Literal["black", "frozen"]
NotWanted = (
    Double
    | PixelFlaw
    | Literal[
        # prompts
        "shows_no_target",
        "impossible",
        "bad_text",
        "several_lines",
        "objects_not_named",
        "lost_facts",
        "blocked",
        "blocked_words",
        "blocked_near",
        # tables and their clips
        "no_caption",
        "bad_name",
        "bad_times",
        "too_long",
        "too_short",
        "hdr",
        "size_changes",
        "low_suitability",
        "no_clip",
        "other_dimension",
        # rows of other datasets
        "made_elsewhere",
        "held_out",
    ]
)
Failed = Literal[
    "worker_died",
    "broken_clip",
    "bad_video",
    "bad_latents",
    # language models and judges
    "refused",
    "no_answer",
    "bad_answer",
    "bad_form",
    "bad_questions",
]
Reason = NotWanted | Failed


def _words(kind: object) -> frozenset[str]:
    """The words of a Literal, or of several joined by |."""
    return frozenset().union(*({one} if isinstance(one, str) else _words(one) for one in get_args(kind)))


NOT_WANTED, FAILED = _words(NotWanted), _words(Failed)


def is_failure(reason: str) -> bool:
    """Whether a row with this reason failed, rather than was not wanted."""
    return reason not in NOT_WANTED

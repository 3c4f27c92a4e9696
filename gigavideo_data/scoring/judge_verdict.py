"""The judge sanity check of one dimension: its numbers and the verdict that follows from them. Pure.

The numbers come from `judge_check`, which asks a judge the questions of other prompts and negated questions.
"""

from __future__ import annotations

from math import sqrt

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

CHANCE_ERRORS = 2.0  # standard errors above 0.5 that an AUC must reach
REAL_AUC = 0.75  # least AUC on real clips, which show what their captions say
CONTROL_SCORE = 0.5  # a judge that scores real clips lower is wrong about them
LEAST_VIDEOS = 12  # for "failed": with fewer, a judge with an AUC of REAL_AUC can fail by chance


class JudgeCheck(TypedDict):
    """The numbers of one dimension; None where there was nothing to compare.

    AUC: probability that a video scores higher on its own questions than on those of another prompt. `yes_bias`: mean
    P(yes) over questions and their negations, minus 0.5. `inconsistency`: mean |P(yes) + P(yes to the negation) - 1|.
    `real_score`: mean score of real clips on their own questions.
    """

    dimension: str
    videos: int
    auc_foreign: float | None
    yes_bias: float | None
    inconsistency: float | None
    real_videos: int
    auc_real: float | None
    real_score: float | None


def verdict(check: JudgeCheck) -> tuple[str, str]:
    """Return "passed", "failed" or "too few videos", and the reason.

    Real clips decide if there are enough. On generated videos a weak generator lowers the AUC too, because its videos
    fail their own questions, so there the AUC only has to exceed chance. A pass needs no least number of videos;
    "failed" needs `LEAST_VIDEOS`.
    """
    too_few = []
    for kind, least, auc, num in (
        ("real", REAL_AUC, check["auc_real"], check["real_videos"]),
        ("generated", 0.0, check["auc_foreign"], check["videos"]),
    ):
        if auc is None:
            continue
        needed = max(least, _chance(num))
        why = f"{auc:.2f} on {num} {kind} clips, {f'{needed:.2f} needed' if needed <= 1 else 'too few for any result'}"
        wrong = kind == "real" and check["real_score"] is not None and check["real_score"] < CONTROL_SCORE
        if auc >= needed and not wrong:
            return "passed", why
        if wrong and auc >= needed:
            why = f"{num} real clips score only {check['real_score']:.2f}"
        if num >= LEAST_VIDEOS:
            return "failed", why
        too_few.append(f"{why}; {LEAST_VIDEOS} clips or more are needed to reject a judge")
    return "too few videos", "; ".join(too_few) or "nothing to compare"


def _chance(num: int) -> float:
    """The AUC that a judge without any skill rarely exceeds with `num` own and `num` foreign scores."""
    return 0.5 + CHANCE_ERRORS * sqrt((2 * num + 1) / (12 * num**2)) if num else 1.0

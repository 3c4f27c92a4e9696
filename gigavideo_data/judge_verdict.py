"""What the judge check of a dataset means: is the judge better than chance, worse, or are there too few videos?"""

from __future__ import annotations

from math import sqrt
from typing import Any

CHANCE_ERRORS = 2.0  # standard errors above 0.5 that an AUC must reach before we say that the judge can tell
REAL_AUC = 0.75  # and at least this on real clips, which show what their captions say
CONTROL_SCORE = 0.5  # a judge that scores real clips lower is wrong about them
LEAST_VIDEOS = 12  # for "cannot tell": with fewer, chance alone may keep a judge of REAL_AUC from passing


def verdict(check: dict[str, Any]) -> tuple[str, str]:
    """Say what one line of `summary` means, and why: "can tell", "cannot tell" or "too few videos".

    Real clips decide where there are enough. On generated ones the AUC falls with a weak generator too, whose videos
    fail their own questions, so there it only has to beat chance. A judge that passes on few videos passes; that it
    cannot tell is said of `LEAST_VIDEOS` or more.
    """
    too_few = []
    for kind, least, auc_found, num in (
        ("real", REAL_AUC, check["auc_real"], check["real_videos"]),
        ("generated", 0.0, check["auc_foreign"], check["videos"]),
    ):
        if auc_found is None:
            continue
        needed = max(least, _chance(num))
        why = f"{auc_found:.2f} on {num} {kind} clips, {needed:.2f} needed"
        wrong = kind == "real" and check["real_score"] is not None and check["real_score"] < CONTROL_SCORE
        if auc_found >= needed and not wrong:
            return "can tell", why
        if wrong and auc_found >= needed:
            why = f"{num} real clips score only {check['real_score']:.2f}"
        if num >= LEAST_VIDEOS:
            return "cannot tell", why
        too_few.append(f"{why}; {LEAST_VIDEOS} clips or more show that a judge cannot tell")
    return "too few videos", "; ".join(too_few) or "nothing to compare"


def _chance(num: int) -> float:
    """The AUC that a judge without any skill hardly reaches with `num` own and `num` foreign scores."""
    return 0.5 + CHANCE_ERRORS * sqrt((2 * num + 1) / (12 * num**2)) if num else 1.0

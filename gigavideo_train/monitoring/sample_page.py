"""samples.html: for each held-out prompt the clip of the base and the newest one, side by side, with their rewards.

The page is static and links to the clips beside it. Prompts are untrusted text: the template escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from gigavideo_train.judging.verdicts import Verdict, mean_reward

TEMPLATE = Path(__file__).with_name("sample_page.html.j2")


@dataclass(frozen=True)
class Clip:
    """A clip, by its path relative to the page, and its verdict; None if it was not judged."""

    source: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class ClipPair:
    """One prompt, the dimension that it was written for, and its clips."""

    prompt: str
    dimension: str
    base: Clip
    tuned: Clip


def page(pairs: list[ClipPair], step: int, judges: list[str]) -> str:
    """The HTML of the page after a step.

    Args:
        pairs: in the order of the page.
        step: number of optimizer steps.
        judges: names of the judges that gave the rewards; empty if clips are not judged.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    means = [("base", _mean(pair.base for pair in pairs)), (f"step {step}", _mean(pair.tuned for pair in pairs))]
    return template.render(pairs=pairs, step=step, judges=judges, means=means)


def _mean(clips: Any) -> dict[str, float | int | None]:
    return mean_reward(clip.verdict for clip in clips if clip.verdict)

"""samples.html: each held-out prompt with the clip of the base and the newest one, side by side, and their rewards.

The page is static and refers to the clips beside it. Prompts are text of others, and never markup.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from gigavideo_train.judging.verdicts import Verdict, means

STYLE = """
:root{color-scheme:light dark;--line:light-dark(#d0d7de,#3d444d);--quiet:light-dark(#59636e,#9198a1);
--box:light-dark(#f6f8fa,#151b23);--bar:light-dark(#1f6feb,#4493f8)}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;margin:0}
p{margin:.25rem 0}
code{white-space:nowrap}
.quiet{color:var(--quiet)}
section{border:1px solid var(--line);border-radius:.5rem;margin-top:1.5rem;overflow:hidden}
h2{font-size:1rem;font-weight:600;margin:0;padding:.75rem 1rem;background:var(--box);
border-bottom:1px solid var(--line)}
h2 span{display:block;font-size:.8rem;font-weight:400}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem;padding:1rem}
figure{margin:0;min-width:0}
video{display:block;width:100%;max-height:20rem;object-fit:contain;border-radius:.25rem;background:var(--box)}
figcaption{display:flex;justify-content:space-between;gap:1rem;margin-top:.5rem}
figcaption b{font-variant-numeric:tabular-nums}
meter{display:block;width:100%;height:.4rem;margin-top:.25rem;border:0;border-radius:.2rem;background:var(--line)}
meter::-webkit-meter-bar{background:var(--line);border:0;border-radius:.2rem;height:.4rem}
meter::-webkit-meter-optimum-value{background:var(--bar);border-radius:.2rem}
meter::-moz-meter-bar{background:var(--bar)}
@media(max-width:30rem){.pair{gap:.5rem;padding:.5rem}figcaption{flex-direction:column;gap:0}}
"""


@dataclass(frozen=True)
class Shown:
    """A clip, relative to the page, and what was made of it; None if nobody was asked."""

    source: Path
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Pair:
    """One prompt, the dimension that it was written for, and its clips."""

    prompt: str
    dimension: str
    base: Shown
    tuned: Shown


def page(pairs: list[Pair], step: int, judges: list[str]) -> str:
    """The page after a step; `judges` are the names of those who gave the rewards, if any were asked."""
    name = f"step {step}"
    parts = [
        "<h1>Samples</h1>",
        '<p class="quiet">Clips of held-out prompts, both of a pair from the same noise: on the left by the base, on '
        f"the right by the model after {name}.</p>",
    ]
    if judges:
        parts.append(_summary(pairs, name, judges))
    for pair in pairs:
        told = f'{html.escape(pair.prompt)} <span class="quiet">{html.escape(pair.dimension.replace("_", " "))}</span>'
        figures = _figure(pair.base, "base") + _figure(pair.tuned, name)
        parts.append(f'<section><h2>{told}</h2><div class="pair">{figures}</div></section>')
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    head += f"<title>Samples, {name}</title><style>{STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _summary(pairs: list[Pair], name: str, judges: list[str]) -> str:
    parts = []
    for side, shown in (("base", [pair.base for pair in pairs]), (name, [pair.tuned for pair in pairs])):
        found = means(each.verdict for each in shown if each.verdict)
        reward = "–" if found["sample_reward"] is None else f"{found['sample_reward']:.2f}"
        parts.append(f"{side} <b>{reward}</b> ({found['samples_scored']} of {len(pairs)} clips scored)")
    by = html.escape(", ".join(judges))
    return (
        f"<p>Mean reward: {', '.join(parts)}.</p>"
        f'<p class="quiet">Rewards are from 0 to 1, by the judge {by} from the questions of each prompt. So few clips '
        "show little; <code>gv-data eval</code> compares on more.</p>"
    )


def _figure(shown: Shown, name: str) -> str:
    clip = f'<video src="{shown.source.as_posix()}" controls loop muted autoplay playsinline></video>'
    verdict, said = shown.verdict, ""
    if verdict and verdict.reward is not None:
        said = f"<b>{verdict.reward:.2f}</b>"
        clip += f'<meter min="0" max="1" value="{verdict.reward:.3f}"></meter>'
    elif verdict:
        said = f'<span class="quiet">not scored: {html.escape(verdict.reason or "")}</span>'
    return f"<figure>{clip}<figcaption><span>{name}</span>{said}</figcaption></figure>"

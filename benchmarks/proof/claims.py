"""The claims of the proof with verdicts by one rule, and the answer in a few sentences."""

from __future__ import annotations

from benchmarks.proof import final
from benchmarks.proof.final import CONTROL, NFT, REWEIGHT, ROUNDS, ROUNDS_CONTROL, ROUNDS_REWEIGHT
from benchmarks.proof.results import NOT_MEASURED, Contrast, Kind, Results, interval, with_interval
from benchmarks.proof.runs import DIMENSIONS, FOCUS
from gigavideo_data.io.terminal import words

VERDICTS = {"above": "**holds**", "below": "**fails**", "noise": "unclear"}
ALONE: dict[str, Kind] = {FOCUS: NFT} | {name: ("alone", words(name)) for name in DIMENSIONS[1:]}


def claims(found: Results) -> str:
    """One row per claim, with the contrast that tests it."""
    lines = [
        "| claim | difference | 95 % over prompts | by training seed | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for claim, contrast in contrasts(found):
        if contrast is None:
            lines.append(f"| {claim} | - | - | - | not measured |")
            continue
        over = contrast.prompts
        seeds = ", ".join(f"{value:+z.3f}" for value in contrast.by_seed)
        difference = "-" if over.difference is None else f"{over.difference:+z.3f}"
        lines.append(f"| {claim} | {difference} | {interval(over)} | {seeds} | {VERDICTS[contrast.verdict]} |")
    return "\n".join(lines)


def contrasts(found: Results) -> list[tuple[str, Contrast | None]]:
    """The claims, each with what tests it; None where it is not measured."""
    listed = [
        ("`nft` in rounds improves the focus", found.gain(ROUNDS)),
        ("`nft` in rounds gains more than with shuffled rewards", found.against(ROUNDS, ROUNDS_CONTROL, FOCUS)),
        ("`nft` in rounds gains more than one round of it", found.against(ROUNDS, NFT, FOCUS)),
        ("`nft` in rounds gains more than `reweight` in rounds", found.against(ROUNDS, ROUNDS_REWEIGHT, FOCUS)),
        ("One round of `nft` gains more than with shuffled rewards", found.against(NFT, CONTROL, FOCUS)),
        (
            "One round of `nft` gains more than continued base training",
            found.against(NFT, ("controls", "continued base training"), FOCUS),
        ),
    ]
    listed += [(f"Table 1: `nft` on {words(name)} alone improves it", found.gain(kind)) for name, kind in ALONE.items()]
    listed += [
        (f"Table 2: all three kinds of rows beat {name}", found.against(REWEIGHT, ("data", name), FOCUS))
        for name in final.DATA_ARMS
    ]
    for rival in (name for name in (*final.OFFLINE, *final.ONLINE) if name != "reweight"):
        same = found.against(REWEIGHT, ("strategies", rival), FOCUS)
        listed.append((f"Table 3: `reweight` beats `{rival}` at equal steps", same))
    epochs = f"{final.EPOCHS} epochs"
    for rival in (name for name in final.OFFLINE if name != "reweight"):
        same = found.against(("strategies", f"reweight, {epochs}"), ("strategies", f"{rival}, {epochs}"), FOCUS)
        listed.append((f"Table 3: `reweight` beats `{rival}` at {epochs}", same))
    for name in final.JOINT:
        single = ("jointly", f"reweight, {words(name)} alone")
        for how in ("reweight, two dimensions", "reweight, two dimensions, joint reward"):
            joint = found.against(("jointly", how), single, name)
            listed.append((f"Table 4: {how}: more on {words(name)} than alone", joint))
        joint = found.against(("jointly", "nft, two dimensions"), ALONE[name], name)
        listed.append((f"Table 4: nft, two dimensions: more on {words(name)} than alone", joint))
    return listed


def answer(found: Results) -> str:
    """The result in a few sentences, one per question."""
    return "\n".join([_rounds(found), _alone(found), _untrained(found)])


def _rounds(found: Results) -> str:
    gain, control = found.gain(ROUNDS), found.gain(ROUNDS_CONTROL)
    if gain is None or control is None:
        return f"- Rounds of `nft` on {words(FOCUS)}, against shuffled rewards: {NOT_MEASURED.lower()}"
    low, high = gain.prompts.low, control.prompts.high
    apart = "do not overlap" if low is not None and high is not None and low > high else "overlap"
    return (
        f"- Rounds of `nft` on {words(FOCUS)} gain {with_interval(gain.prompts)} on test prompts; "
        f"with shuffled rewards {with_interval(control.prompts)}. The two intervals {apart}."
    )


def _alone(found: Results) -> str:
    gains = {name: found.gain(kind) for name, kind in ALONE.items()}
    measured = [gain.prompts for gain in gains.values() if gain]
    if not measured:
        return f"- One round of `nft` on each dimension alone: {NOT_MEASURED.lower()}"
    above = sum(over.low is not None and over.low > 0 for over in measured)
    below = sum(over.high is not None and over.high < 0 for over in measured)
    return (
        f"- One round of `nft` on each dimension alone: of {len(measured)} dimensions, {above} have an interval above "
        f"zero and {below} below it."
    )


def _untrained(found: Results) -> str:
    others = [each for each in found.others(ROUNDS) if each.dimension != "mean"]
    if not others:
        return f"- What rounds of `nft` do to the untrained dimensions: {NOT_MEASURED.lower()}"
    worse = [f"{words(each.dimension)} {with_interval(each)}" for each in others if each.verdict == "worse"]
    return (
        f"- Untrained dimensions that get worse by more than chance in rounds of `nft`: {', '.join(worse) or 'none'}."
    )

"""The clips of a loop's page: one prompt and seed, with the clip of the base and that of every round."""

from __future__ import annotations

import json
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from gigavideo_data.dataset.report import frame
from gigavideo_data.errors import DatasetError

PROMPTS = 4  # shown per dimension

Side = dict[str, Any]  # one clip of eval.json: reward, clip (file name), num_frames, height, width, fps
Shot = dict[str, Any]  # dimension, prompt, seed, fixed, sides: the base and each round, None where it has no clip


def choose(
    out: Path, rounds: list[dict[str, Any]], dimensions: list[str], max_bytes: int
) -> tuple[list[Shot], dict[str, str]]:
    """Choose prompts whose clips most rounds have, at least one per dimension, and read the clips.

    Args:
        out: the loop's folder.
        rounds: of loop.json.
        dimensions: names in the order of the page; they take turns, so a limit cuts all of them equally.
        max_bytes: limit on the clips in base64 and their texts.

    Returns:
        The chosen prompts by dimension, and the clips in base64 by name.

    Raises:
        DatasetError: an eval.json is missing or not readable.
    """
    shots, files = _shots(out, rounds)
    queues = []
    for dimension in dimensions:
        mine = [shot for shot in shots if shot["dimension"] == dimension]
        mine = sorted(mine, key=lambda shot: (-_num_clips(shot), not shot["fixed"]))[:PROMPTS]
        queues.append(mine[:1] + [shot for shot in mine[1:] if 2 * _num_clips(shot) > len(shot["sides"])])
    chosen: list[Shot] = []
    clips: dict[str, str] = {}
    for shot in chain.from_iterable(zip_longest(*queues)):
        if shot is None:
            continue
        names = {side["clip"] for side in shot["sides"] if side} - clips.keys()
        size = len(frame.json_for_html(shot)) + sum(frame.base64_bytes(files[name].stat().st_size) for name in names)
        if size <= max_bytes:
            max_bytes -= size
            chosen.append(shot)
            clips |= {name: frame.base64_text(files[name].read_bytes()) for name in names}
    return sorted(chosen, key=lambda shot: dimensions.index(shot["dimension"])), dict(sorted(clips.items()))


def _num_clips(shot: Shot) -> int:
    return sum(side is not None for side in shot["sides"])


def _shots(out: Path, rounds: list[dict[str, Any]]) -> tuple[list[Shot], dict[str, Path]]:
    """Every prompt and seed that some round shows, those of `fixed_clips` first; and the files of the clips by name."""
    shots: dict[tuple[str, str, int], Shot] = {}
    files: dict[str, Path] = {}
    for at, each in enumerate(rounds, 1):
        folder = out / each["eval"]
        facts = _read(folder / "eval.json")
        for kind in ("fixed_clips", "clips"):
            for pair in facts.get(kind, []):
                key = (pair["dimension"], pair["prompt"], pair["seed"])
                head = {"dimension": key[0], "prompt": key[1], "seed": key[2], "fixed": kind == "fixed_clips"}
                shot = shots.setdefault(key, head | {"sides": [None] * (len(rounds) + 1)})
                for position, side in ((0, pair["base"]), (at, pair["tuned"])):
                    file = folder / "clips" / Path(side["clip"]).name
                    if file.is_file():
                        shot["sides"][position] = side
                        files[side["clip"]] = file
    found = [shot for shot in shots.values() if _num_clips(shot)]
    return sorted(found, key=lambda shot: not shot["fixed"]), files


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: not readable ({error}). Evaluate this round again: `gv-data eval`.") from error

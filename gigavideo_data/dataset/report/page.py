"""The report of a dataset: one static HTML page with rows per stage, rewards, judge check and videos.

The page is a single file without server or network access; it works from file://. Videos are embedded as data URIs up
to a size limit: all of them if they fit, else the best, the worst and random ones per dimension. The largest gains and
losses of an evaluation take at most half of the limit. Text from datasets is untrusted: the template escapes it, the
cards are JSON that a script turns into text nodes, and a content security policy allows only the page's own style and
script, by their hashes (`frame`).

    write_report(Path("runs/quickstart"))  ->  runs/quickstart/report.html

Equal datasets have equal pages, except for what cost.json says: it differs between runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset import reader, summary
from gigavideo_data.dataset.report import frame
from gigavideo_data.dataset.report.frame import FOLDER
from gigavideo_data.dataset.writer import PAGE
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.spool import Spool
from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring import bootstrap as paired
from gigavideo_data.scoring import measures_text
from gigavideo_data.scoring.groups import Outcome
from gigavideo_data.scoring.judge_verdict import LEAST_VIDEOS

CARD_FIELDS: Final = ("id", "split", "dimension", "status", "reward", "prompt")
CLIP_FIELDS: Final = ("id", "source", "width", "height", "num_frames", "fps")
GENERATOR_FIELDS: Final = ("model", "adapter", "profile", "steps", "guidance", "seed")
ANSWER_FIELDS: Final = ("dimension", "question", "expected", "gate", "p_yes", "p_no", "readout")
CLIP_COLUMNS = ["id", "video.bytes"]
SIDES = ("base", "tuned")

Pair = dict[str, Any]  # of eval.json: one prompt and seed, with the videos of both models


def write_report(folder: Path, to: Path | None = None, evaluation: Path | None = None) -> Path:
    """Write the report of a dataset.

    Args:
        folder: a finished dataset.
        to: the file to write; by default report.html in the folder.
        evaluation: folder that `gv-data eval` wrote; the page then begins with its comparison.

    Returns:
        The file written.

    Raises:
        DatasetError: the folder is no finished dataset of a format that this code reads, or a file of the evaluation is
            missing.
    """
    compared, compared_bytes, clips = None, 0, {}
    if evaluation:
        compared = _read_evaluation(evaluation)
        pairs = choose_pairs(compared["clips"], _sizes_of_pairs(evaluation, compared["clips"]), frame.EMBED_BYTES // 2)
        names = sorted({pair[side]["clip"] for pair in pairs for side in SIDES})
        clips = {name: frame.base64_text(_clip_of(evaluation, name).read_bytes()) for name in names}
        compared_bytes = sum(map(len, clips.values())) + sum(map(_text_bytes, pairs))
        compared |= {"clips": pairs, "num_pairs": len(compared["clips"])}
    facts, rows, sizes = summary.summarize(folder), Spool(reader.stream_rows(folder)), _sizes(folder)
    for row in rows:
        sizes[row["id"]] += _text_bytes(card([row]))
    groups = choose(rows, sizes, list(facts["rewards"]), frame.EMBED_BYTES - compared_bytes)
    clips |= _clips(folder, {row["id"] for group in groups for row in group})
    page = render(facts, [card(group) for group in groups], clips, compared)
    to = to or folder / PAGE
    part = to.with_name(to.name + ".part")  # readers never see an incomplete page
    part.write_text(page, "utf-8")
    return part.replace(to)


# --- which clips -----------------------------------------------------------------------------------------------------


def choose(
    rows: Sequence[DatasetRow], sizes: dict[str, int], dimensions: list[str], max_bytes: int
) -> list[list[DatasetRow]]:
    """Choose the rows to show: each a generated video, followed by its real clip if it is a twin.

    Best, worst and random rows of each dimension take turns, so a limit cuts all of them equally. The random order is
    that of the ids, which are hashes.

    Args:
        rows: all rows, without their videos, perhaps in a `Spool`: only those that are chosen are kept in memory.
        sizes: bytes that each row adds to the page, by id.
        dimensions: names, in the order of the page.
        max_bytes: limit on the bytes of all chosen rows; rows that no longer fit are skipped.

    Returns:
        Chosen groups of one or two rows, in the order of choice.
    """
    real = {row["pair_id"]: (row["id"], at) for at, row in enumerate(rows) if row["source"] == "real"}
    twins = {row["id"]: row["pair_id"] for row in rows if row["source"] == "twin"}
    paired = set(twins.values())
    heads: list[tuple[str, int]] = []  # id, and number in `rows`
    values: dict[str, list[tuple[str, int, float | None]]] = {name: [] for name in dimensions}
    for number, row in enumerate(rows):
        if row["source"] == "real" and row["pair_id"] in paired:
            continue
        heads.append((row["id"], number))
        for name in dimensions:
            if entry := summary.reward_on(row, name):
                values[name].append((row["id"], number, entry["value"]))
    chosen: dict[str, list[DatasetRow]] = {}
    embedded: set[str] = set()
    for row_id, number in _turns(sorted(heads), [sorted(mine) for mine in values.values()]):
        group = [(row_id, number), *([real[twins[row_id]]] if twins.get(row_id) in real else [])]
        new = {one: sizes[one] for one, _ in group if one not in embedded}
        if row_id not in chosen and sum(new.values()) <= max_bytes:
            chosen[row_id] = [rows[at] for _, at in group]
            embedded |= new.keys()
            max_bytes -= sum(new.values())
    return list(chosen.values())


def _turns(
    rows: list[tuple[str, int]], dimensions: list[list[tuple[str, int, float | None]]]
) -> Iterator[tuple[str, int]]:
    """All rows, some of them repeatedly: one from each queue in turn, until all queues are empty.

    Args:
        rows: id and number of each.
        dimensions: of each dimension, its rows, with their values.
    """
    queues = []
    for entries in dimensions:
        worst = [entry[:2] for entry in sorted((e for e in entries if e[2] is not None), key=itemgetter(2))]
        queues += [worst[::-1], worst, [entry[:2] for entry in entries]]
    queues.append(rows)
    return (row for row in chain.from_iterable(zip_longest(*queues)) if row is not None)


def choose_pairs(pairs: list[Pair], sizes: dict[str, int], max_bytes: int) -> list[Pair]:
    """Choose the compared videos to show: the largest gains and losses of each dimension take turns.

    Args:
        pairs: as `gv-data eval` writes them, each with a video of the base and one of the tuned model.
        sizes: bytes of each video in base64, by its name.
        max_bytes: limit on all chosen pairs; pairs that no longer fit are skipped.

    Returns:
        Chosen pairs in their given order.
    """
    queues = []
    for name in dict.fromkeys(pair["dimension"] for pair in pairs):
        mine = [(_gain(pair), at) for at, pair in enumerate(pairs) if pair["dimension"] == name]
        losses = [at for _, at in sorted(mine)]
        queues += [losses[::-1], losses]
    chosen: set[int] = set()
    embedded: set[str] = set()
    for at in chain.from_iterable(zip_longest(*queues)):
        if at is None or at in chosen:
            continue
        new = {pairs[at][side]["clip"] for side in SIDES} - embedded
        size = _text_bytes(pairs[at]) + sum(sizes[name] for name in new)
        if size <= max_bytes:
            chosen.add(at)
            embedded |= new
            max_bytes -= size
    return [pairs[at] for at in sorted(chosen)]


def _gain(pair: Pair) -> float:
    return pair["tuned"]["reward"] - pair["base"]["reward"]


def card(group: list[DatasetRow]) -> dict[str, Any]:
    """The content of one card of the page; the first row is the one that was judged."""
    row = group[0]
    used = row["generator"]
    generator = {key: used[key] for key in GENERATOR_FIELDS if used[key] not in (None, "")} if used else {}
    return {
        **{key: row[key] for key in CARD_FIELDS},
        "clips": [{key: clip[key] for key in CLIP_FIELDS} for clip in group],
        "rewards": row["rewards"] or [],
        "answers": [{key: answer[key] for key in ANSWER_FIELDS} for answer in row["answers"] or []],
        "generator": generator,
    }


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every video in base64, by row id."""
    sizes: dict[str, int] = {}
    for batch in reader.read_data(folder, CLIP_COLUMNS):
        lengths = pc.binary_length(pc.struct_field(batch["video"], "bytes")).to_pylist()
        sizes |= {name: frame.base64_bytes(n or 0) for name, n in zip(batch["id"].to_pylist(), lengths, strict=True)}
    return sizes


def _clips(folder: Path, ids: set[str]) -> dict[str, str]:
    """The chosen videos in base64, by row id."""
    clips: dict[str, str] = {}
    for batch in reader.read_data(folder, CLIP_COLUMNS):
        for name, video in zip(batch["id"].to_pylist(), batch["video"], strict=True):
            data = video["bytes"].as_py() if name in ids and video.is_valid else None
            if data is not None:
                clips[name] = frame.base64_text(data)
    return dict(sorted(clips.items()))


def _read_evaluation(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "eval.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{folder}: no readable eval.json ({error}). `gv-data eval` writes one.") from error


def _clip_of(evaluation: Path, name: str) -> Path:
    return evaluation / "clips" / Path(name).name


def _sizes_of_pairs(evaluation: Path, pairs: list[Pair]) -> dict[str, int]:
    """Bytes of every compared video in base64, by its name."""
    files = {name: _clip_of(evaluation, name) for name in (pair[side]["clip"] for pair in pairs for side in SIDES)}
    for file in files.values():
        if not file.is_file():
            raise DatasetError(f"{file}: missing, though eval.json names it. Run `gv-data eval` again.")
    return {name: frame.base64_bytes(file.stat().st_size) for name, file in files.items()}


def _text_bytes(value: object) -> int:
    """Bytes of a card or a pair in the page, without its videos."""
    return len(frame.json_for_html(value))


# --- the page --------------------------------------------------------------------------------------------------------


def render(
    facts: dict[str, Any], cards: list[dict[str, Any]], clips: dict[str, str], compared: dict[str, Any] | None = None
) -> str:
    """Render the page."""
    return frame.render(
        FOLDER / "report.html.j2",
        styles=[FOLDER / "report.css"],
        scripts=[FOLDER / "player.js", FOLDER / "report.js"],
        data={"cards": cards, "clips": clips, "pairs": compared["clips"] if compared else []},
        facts=facts,
        seconds=costs.number,
        recipe=json.dumps(facts["recipe"], indent=1, sort_keys=True, ensure_ascii=False),
        stages=[(stage, list(lines)) for stage, lines in groupby(facts["ledger"], key=itemgetter("stage"))],
        num_embedded=len({clip["id"] for card in cards for clip in card["clips"]} & clips.keys()),
        compared=compared,
        headline=paired.headline(compared["comparisons"], compared.get("others", [])) if compared else {},
        means=paired.MEANS,
        correction=paired.correction_note(compared["comparisons"]) if compared else "",
        measured=measures_text.lines(compared) if compared else [],
        reach=_reach(compared["comparisons"]) if compared else 1.0,
        embed_mb=frame.EMBED_BYTES // 1_000_000,
        least_videos=LEAST_VIDEOS,
        outcomes=[one.value for one in Outcome],
        bars=bars,
        share=share,
    )


def _reach(comparisons: list[dict[str, Any]]) -> float:
    """The limit of the axis of differences: the largest end of an interval, at least 0.1."""
    ends = [abs(each[end]) for each in comparisons for end in ("low", "high", "difference") if each[end] is not None]
    return max([0.1, *ends])


def bars(counts: list[int], width: float, height: float) -> list[tuple[float, float, float, float]]:
    """Rectangles (x, y, width, height) of a histogram; a bin that is not empty stays visible."""
    step, most = width / len(counts), max([*counts, 1])
    heights = [max(height * count / most, 1.5) if count else 0.0 for count in counts]
    return [(round(i * step + 0.5, 2), round(height - h, 2), step - 1, round(h, 2)) for i, h in enumerate(heights)]


def share(part: float, whole: float) -> float:
    """Percent of a whole; 0 if the whole is 0."""
    return round(100 * part / whole, 2) if whole else 0.0

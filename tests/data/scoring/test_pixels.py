"""Generated videos with flaws: rejected by the stage, or measured and counted."""

import io
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from rich.console import Console

from gigavideo_data.dataset import summary
from gigavideo_data.io import video
from gigavideo_data.models.generators.base import Generated, Shape
from gigavideo_data.pipeline.execution.row_adapter import run_row
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.steps import Context
from gigavideo_data.pipeline.steps import synthesize as synthesize_rows
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Recipe
from gigavideo_data.scoring import pixels
from tests.support.rows import DIMENSION, make_row, write_set

SHAPE = Shape(num_frames=5, height=48, width=48, fps=8.0)
FRAMES_THWC = np.random.default_rng(0).integers(0, 255, (5, 48, 48, 3)).astype(np.uint8)
GOOD = Generated(FRAMES_THWC, 8.0, torch.zeros(8, 2, 6, 6))
BLACK_THWC, GREY_THWC = np.zeros_like(FRAMES_THWC), np.full_like(FRAMES_THWC, 120)
NAN = torch.full((8, 2, 6, 6), torch.nan)


class FixedGenerator:
    """A generator that returns a fixed result."""

    def __init__(self, result: Generated) -> None:
        self.result = result

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Generated]:  # noqa: ARG002 - the protocol
        return [self.result]


def synthesize(result: Generated, folder) -> dict:
    inputs = {"prompt": "p", "seed": 0, "shape": asdict(SHAPE)}
    run_row("synthesize", "key", FixedGenerator(result), inputs, Store(folder), "run", 1)
    record = Store(folder).get("synthesize", "key")
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("result", "reason", "words"),
    [
        (replace(GOOD, frames_THWC=FRAMES_THWC[:, :24, :24]), "bad_video", ("(5, 24, 24, 3)", "(5, 48, 48, 3)")),
        (replace(GOOD, frames_THWC=FRAMES_THWC[:3]), "bad_video", ("(3, 48, 48, 3)", "(5, 48, 48, 3)")),
        (replace(GOOD, frames_THWC=FRAMES_THWC[:0]), "bad_video", ("returned frames uint8 (0, 48, 48, 3)",)),
        (replace(GOOD, frames_THWC=FRAMES_THWC.astype(float)), "bad_video", ("float64",)),
        (replace(GOOD, fps=24.0), "bad_video", ("24 Hz", "8 Hz")),
        (replace(GOOD, fps=float("nan")), "bad_video", ("returned nan Hz",)),
        (replace(GOOD, latents_CFHW=NAN), "bad_latents", ("576 of 576",)),
        (replace(GOOD, latents_CFHW=torch.zeros(0)), "bad_latents", ("(0,)",)),
    ],
)
def test_a_video_of_another_shape_is_a_reject_with_both_numbers(tmp_path, result, reason, words):
    record = synthesize(result, tmp_path)
    assert record["rejected"] == reason
    assert all(word in record["detail"] for word in words), record["detail"]


@pytest.mark.parametrize(
    ("frames_THWC", "flaw"),
    [(FRAMES_THWC, None), (BLACK_THWC, "black"), (GREY_THWC, "frozen"), (FRAMES_THWC[:1].repeat(5, 0), "frozen")],
)
def test_black_and_frozen_videos_are_measured_as_they_were_written(tmp_path, frames_THWC, flaw):
    record = synthesize(replace(GOOD, frames_THWC=frames_THWC), tmp_path)
    assert pixels.flaw(pixels.levels(record)) == flaw
    assert record["num_frames"] == 5


def test_a_small_thing_that_moves_is_not_frozen():
    frames_THWC = GREY_THWC.copy()
    for at in range(5):
        frames_THWC[at, 20:24, 20 + at : 24 + at] = 60
    clip = video.decode(video.encode(frames_THWC, 8.0))
    assert pixels.flaw(pixels.measure(clip.frames_THWC)) is None


class Records:
    """A runner whose every record is the same."""

    def __init__(self, record: dict) -> None:
        self.record = record

    def records(self, items: list, label: str | None = None) -> list[dict]:  # noqa: ARG002 - the protocol
        return [self.record for _ in items]


@pytest.mark.parametrize("reject_videos", [(), ("black",), ("frozen",)])
def test_a_recipe_may_reject_black_videos_and_else_they_are_kept_with_their_levels(reject_videos):
    record = {"video_sha256": "0" * 64, "pixels": pixels.measure(BLACK_THWC)}
    recipe = Recipe(name="r", dimensions=(DIMENSION,), reject_videos=reject_videos)
    context = Context(recipe, Records(record))  # type: ignore[arg-type]
    row = Row("synthetic", "a ball falls", DIMENSION, prompt="a ball falls", asks={DIMENSION: []})
    kept = synthesize_rows(context, [row])
    if reject_videos == ("black",):
        (reject,) = context.counts.rejects
        assert ([*kept], reject["reason"]) == ([], "black")
        assert "brightest level 0 of 255" in str(reject["detail"])
    else:
        assert context.counts.rejects == []
        levels = {one["name"]: one["values"] for one in kept[0].measurements}
        assert levels == {pixels.BRIGHTEST: [0.0], pixels.CHANGE: [0.0]}


def test_a_set_with_black_videos_says_how_many_of_each_dimension(tmp_path):
    black = make_row(1)
    black["measurements"] = pixels.measurements(pixels.measure(BLACK_THWC), [DIMENSION])
    black["judges"] = [*black["judges"], black["judges"][0] | {"id": pixels.JUDGE_ID}]
    facts = summary.summarize(write_set(tmp_path, [black, make_row(2)]))
    assert facts["pixels"] == {DIMENSION: {"videos": 1, "black": 1, "frozen": 0}}
    screen = io.StringIO()
    summary.show(facts, Console(file=screen, width=200))
    assert f"warning: {DIMENSION}: 1 of 1 videos are black" in screen.getvalue()

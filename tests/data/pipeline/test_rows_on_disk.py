"""Rows pass through the steps one by one: memory hardly grows with their number."""

import hashlib
import io
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from rich.console import Console

from gigavideo_data.io.progress import Progress
from gigavideo_data.io.spool import Spool
from gigavideo_data.pipeline import steps
from gigavideo_data.pipeline.judge_check import plan
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.stages import Item, Record
from gigavideo_data.recipe.loading import load
from tests.support.rows import make_row

DIMENSIONS = "dimensions=[composition, instance_preservation]"


class Answering:
    """A runner that finishes every item at once."""

    def __init__(self) -> None:
        self.progress = Progress(Console(file=io.StringIO()))

    def records(self, items: Iterable[Item], label: str | None = None) -> Sequence[Record]:  # noqa: ARG002 - the protocol
        return Spool(self._record(item.stage, item.inputs) for item in items)

    def _record(self, stage: str, inputs: dict[str, Any]) -> Record:
        match stage:
            case "prompt":
                texts = [f"a {inputs['split']} ball {at} of {inputs['dimension']}" for at in range(inputs["count"])]
                return {"prompts": [{"prompt": text, "objects": []} for text in texts], "dropped": []}
            case "extend":
                return {"prompt": inputs["prompt"] + ", in soft light" * 10}
            case "questions":
                asked = [("Is it a ball?", "yes"), ("Is it a cube?", "no")]
                return {"questions": [{"question": q, "expected": e, "gate": False, "negated": q} for q, e in asked]}
            case "synthesize":
                digest = hashlib.sha256(inputs["prompt"].encode()).hexdigest()
                shape = {"num_frames": 5, "height": 16, "width": 16, "fps": 8.0}
                return {"video_sha256": digest, **shape, "pixels": {}, "blobs": {"video.mp4": f"{digest}.mp4"}}
            case _:
                return {"answers": [{"p_yes": 0.75, "p_no": 0.25, "readings": {}} for _ in inputs["questions"]]}


def passed(number: int) -> tuple[Sequence[Row], steps.Context]:
    """Rows after all steps, about `number` of them."""
    counts = [
        f"prompts.per_dimension={number // 2}",
        "samples_per_prompt=1",
        "eval_prompts.per_dimension=1",
        "captions.count=0",
    ]
    recipe = load("quickstart-all", [DIMENSIONS, *counts])
    context = steps.Context(recipe, Answering())
    asked = steps.ask(context, steps.extend(context, steps.prompts(context)))
    made = steps.synthesize(context, Spool(row for row in asked if row.source == "synthetic"))
    return steps.reward(context, steps.judge(context, made)), context


def test_memory_hardly_grows_with_the_rows_of_a_build():
    def peak(number: int) -> int:
        tracemalloc.start()
        rows, context = passed(number)
        assert len(rows) == number
        assert context.counts.lines[-1]["out"] == number
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000)  # what is allocated once, such as Python's table of names
    few, many = peak(200), peak(1000)
    assert many - few < 800 * 1500  # a row with its questions and answers takes 6,000 bytes and more


def test_rows_keep_their_order_and_every_row_is_counted():
    rows, context = passed(20)
    texts = [row.base_prompt for row in rows]
    assert texts == [f"a train ball {at} of {name}" for name in context.recipe.dimensions for at in range(10)]
    assert all(line["in"] == line["out"] + sum(line["rejected"].values()) for line in context.counts.lines)
    assert {entry["status"] for row in rows for entry in row.rewards} == {"scored"}


@pytest.mark.parametrize("videos", [0, 3, 99])
def test_the_judge_check_takes_the_rows_with_the_smallest_ids(videos):
    asks: dict[str, Any] = {
        "composition": [{"question": "Is it?", "expected": "yes", "gate": False, "negated": "Not?"}]
    }
    columns = [make_row(seed) for seed in range(9)]
    rows = [Row("synthetic", "p", "composition", asks=asks, known_id=row["id"]) for row in columns]
    trials = plan(Spool(rows), [], ["composition", "mechanics"], videos)
    assert [trial.row.id for trial in trials] == sorted(row.id for row in rows)[:videos]

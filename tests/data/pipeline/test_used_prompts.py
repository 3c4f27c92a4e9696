"""Prompts of earlier datasets: which they are, what they change in the store, and that they come last."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from gigavideo_data.errors import RecipeError
from gigavideo_data.io.progress import Progress
from gigavideo_data.miniature.writer import GrammarWriter
from gigavideo_data.pipeline.sources import used_prompts
from gigavideo_data.pipeline.sources.intake import intake
from gigavideo_data.pipeline.stages import STAGES, Batch, Item, Record
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Recipe
from tests.support.rows import make_row, make_rows, write_set

SMALL = ["dimensions=[mechanics]", "others={dimensions: [composition], prompts: 2}", "captions.count=0"]


class Notes(Progress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class InProcess:
    """Runs the stages here, and keeps the keys of its items by dimension and split."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.progress: Progress = self.notes
        self.keys: dict[tuple[str, str], str] = {}

    def records(self, items: Iterable[Item], label: str | None = None) -> list[Record]:  # noqa: ARG002
        items = list(items)
        self.keys |= {(item.inputs["dimension"], item.inputs["split"]): item.key for item in items}
        runs = [STAGES[item.stage].run for item in items]
        return [
            run(GrammarWriter({}), item.inputs, Store(Path("none")))[0]
            for run, item in zip(runs, items, strict=True)
            if not isinstance(run, Batch)
        ]


def taken(recipe: Recipe, runner: InProcess) -> list[str]:
    """The training prompts about mechanics that a recipe begins with."""
    rows = [row for row, reject in intake(recipe, runner) if reject is None]
    return [row.base_prompt for row in rows if (row.source, row.dimension) == ("synthetic", "mechanics")]


def set_of(folder: Path, texts: Sequence[str]) -> Path:
    """A dataset whose rows have these prompts."""
    return write_set(folder, [make_row(i) | {"base_prompt": text} for i, text in enumerate(texts)])


def test_synthetic_rows_of_both_splits_have_the_used_prompts(tmp_path: Path) -> None:
    rows = make_rows()
    folders = [str(write_set(tmp_path / "a", rows)), str(write_set(tmp_path / "b", [make_row(900)]))]
    expected = {row["base_prompt"] for row in rows if row["source"] == "synthetic"} | {make_row(900)["base_prompt"]}
    assert used_prompts.read(folders) == {"mechanics": sorted(expected)}
    assert used_prompts.read(()) == {}


def test_a_damaged_dataset_is_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "a")
    shard = next((folder / "data").glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    for bad in (folder, tmp_path / "none"):
        with pytest.raises(RecipeError, match=f"prompts.used: {bad}"):
            used_prompts.read([str(bad)])


def test_fresh_prompts_come_first_and_used_ones_fill_up(tmp_path: Path) -> None:
    first = taken(load("quickstart-all", [*SMALL, "prompts.per_dimension=6"]), InProcess())
    used = f"prompts.used=[{set_of(tmp_path / 'first', first)}]"
    runner = InProcess()
    second = taken(load("quickstart-all", [*SMALL, "prompts.per_dimension=6", used]), runner)
    assert (len(second), set(second) & set(first)) == (6, set())
    assert runner.notes.lines == ["prompt: mechanics: 6 of 6 training prompts are fresh"]
    runner = InProcess()
    everything = taken(load("quickstart-all", [*SMALL, "prompts.per_dimension=35", used]), runner)
    assert (everything[:6], sorted(everything[-6:])) == (second, sorted(first))
    assert runner.notes.lines == ["prompt: mechanics: 29 of 35 training prompts are fresh"]


def test_only_the_texts_of_used_prompts_decide_what_is_written(tmp_path: Path) -> None:
    texts = [f"a red ball number {number} falls" for number in range(4)]
    same = [set_of(tmp_path / "a", texts), set_of(tmp_path / "b", texts[::-1])]
    one, two, other = (
        f"prompts.used=[{', '.join(map(str, folders))}]"
        for folders in (same[:1], same[::-1], [set_of(tmp_path / "c", texts[1:])])
    )

    def keys(*changes: str) -> dict[tuple[str, str], str]:
        runner = InProcess()
        taken(load("quickstart-all", [*SMALL, *changes]), runner)
        return runner.keys

    without, changed = keys(), keys(one)
    assert changed == keys(two)
    assert {key for key in without if without[key] != changed[key]} == {("mechanics", "train")}
    assert keys(other)["mechanics", "train"] not in (without["mechanics", "train"], changed["mechanics", "train"])


def test_the_keys_of_stored_prompts_stay_without_used_ones() -> None:
    """Where this fails, all prompts are written again; only a new `REVISION` of the grammar may change the keys."""
    runner = InProcess()
    taken(load("quickstart-all", ["dimensions=[mechanics]", "captions.count=0"]), runner)
    assert runner.keys == {
        ("mechanics", "dev"): "5cb7c2218696104472678563d02737e5",
        ("mechanics", "test"): "364741add89bc2605a60360a471a8b0a",
        ("mechanics", "train"): "5a2b0c3da1bb8f9292cbd6ae5719d1da",
    }

"""Tables of clips: the warnings before a build, and the reason of each rejected row."""

import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from gigavideo_data.commands.build import build
from gigavideo_data.commands.plan import DryRunRunner, plan
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.io.progress import Progress
from gigavideo_data.miniature.grammar import describe, sample_scene
from gigavideo_data.pipeline.sources.intake import intake
from gigavideo_data.pipeline.stages import Item, Record
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Recipe, Writer


def importing(folder: Path, text: str) -> Recipe:
    """A recipe that imports a table with a folder of the files a.mp4 and b.mp4, and generates nothing."""
    (folder / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / "clips" / name).touch()
    (folder / "elsewhere.csv").write_text(text)
    imports = f"imports=[{{model: other-1, table: {folder}/elsewhere.csv, clips: {folder}/clips}}]"
    nothing = ["synthetic=false", "captions.count=0", "eval_prompts.per_dimension=0"]
    return load("quickstart-all", ["dimensions=[mechanics]", *nothing, imports])


class Recorder(DryRunRunner):
    """Notes the keys of the items of each stage."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.keys: dict[str, list[str]] = {}

    def records(self, items: Iterable[Item], label: str | None = None) -> list[Record]:
        items = list(items)
        self.keys |= {item.stage: [each.key for each in items] for item in items[:1]}
        return super().records(items, label)


@pytest.mark.parametrize(
    ("engine", "changed", "same"), [("writer", "prompt", "caption"), ("clips", "caption", "prompt")]
)
def test_a_new_revision_of_the_miniature_changes_the_keys_in_the_store(tmp_path, monkeypatch, engine, changed, same):
    def keys() -> dict[str, list[str]]:
        recorder = Recorder(Store(tmp_path))
        intake(load("quickstart-all"), recorder)
        return recorder.keys

    before = keys()
    monkeypatch.setattr(f"gigavideo_data.miniature.{engine}.REVISION", "another")
    after = keys()
    assert before[changed]
    assert not set(before[changed]) & set(after[changed])
    assert before[same] == after[same]


def test_a_plan_names_missing_clips_and_counts_unusable_rows(tmp_path):
    rows = ["a ball falls,a,mechanics", "two fall,c.mp4,mechanics", ",b,mechanics", "it falls,../b,mechanics"]
    rows += ["it turns,b,Mechanics", "it stays,d,mechanics"]
    recipe = importing(tmp_path, "\n".join(["prompt,file,dimension", *rows]))
    facts = plan(recipe, Store(tmp_path / "store"))
    assert {line["stage"]: line["rows"] for line in facts["stages"]}["import"] == 1
    assert facts["warnings"] == [
        "imports.0: elsewhere.csv: 2 rows cannot be used: 1 no_caption, 1 bad_name",
        f"imports.0: elsewhere.csv: 2 of 4 clips are not in {tmp_path}/clips: c.mp4, d",
        "imports.0: elsewhere.csv: 1 of 4 rows have dimensions that are not in the recipe: Mechanics",
    ]


def test_a_rejected_row_names_its_clip_and_the_files_that_were_tried(tmp_path):
    rows = ["two fall,c_1,mechanics", "it turns,b,composition", "a ball falls,a,mechanics"]
    recipe = importing(tmp_path, "\n".join(["prompt,file,dimension", *rows]))
    rejects = [record for _, record in intake(recipe, DryRunRunner(Store(tmp_path / "store"))) if record]
    assert [(record["rejected"], record.get("detail")) for record in rejects] == [
        ("no_clip", "no file c_1, as written or with .mp4, .webm, .mkv, .mov"),
        ("other_dimension", "b: composition is no dimension of the recipe"),
        ("new", "a: "),
    ]


@pytest.mark.parametrize("work", [plan, lambda recipe, store: intake(recipe, DryRunRunner(store))])
def test_a_missing_column_or_folder_is_an_error_before_any_work(tmp_path, work):
    recipe = importing(tmp_path, "prompt,file\na ball falls,a\n")
    with pytest.raises(RecipeError, match=r"elsewhere\.csv: no column dimension; it has prompt, file"):
        work(recipe, Store(tmp_path / "store"))
    (tmp_path / "elsewhere.csv").write_text("prompt,file,dimension\na ball falls,a,mechanics\n")
    (tmp_path / "clips").rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match=r"imports\.0\.clips: .*/clips: no such folder"):
        work(recipe, Store(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("work", [plan, lambda recipe, store: intake(recipe, DryRunRunner(store))])
@pytest.mark.parametrize("source", ["imports.0", "captions"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_table_with_prompts_of_an_evaluation_split_is_refused_before_any_work(tmp_path, work, source, split):
    rng = np.random.default_rng(0)
    tuned, held_out = (describe(sample_scene("mechanics", rng, name), full=True) for name in ("tune", split))
    recipe = importing(tmp_path, f'prompt,file,dimension\n"{tuned}",a,mechanics\n')
    if source == "captions":
        table = {"source": "table", "table": f"{tmp_path}/elsewhere.csv", "clips": f"{tmp_path}/clips", "count": 9}
        recipe = load("quickstart", [f"captions={json.dumps(table)}"])
    work(recipe, Store(tmp_path / "store"))
    with (tmp_path / "elsewhere.csv").open("a") as file:
        file.write(f'"{held_out}",c,mechanics\n')
    words = rf"{source}\.table: .*/elsewhere\.csv: 1 of 2 rows .* 'c': '{held_out}' is in the {split} split .* Remove"
    with pytest.raises(RecipeError, match=words) as error:
        work(recipe, Store(tmp_path / "store"))
    assert error.value.exit_code == 2
    assert not (tmp_path / "store").exists()


def test_prompts_of_the_miniature_are_no_evaluation_prompts_of_other_writers(tmp_path):
    held_out = describe(sample_scene("mechanics", np.random.default_rng(0), "test"), full=True)
    recipe = importing(tmp_path, f'prompt,file,dimension\n"{held_out}",a,mechanics\n')
    other = Writer(backend="http", endpoint="http://h/v1")
    plan(recipe.model_copy(update={"writer": other}), Store(tmp_path / "store"))


def test_a_build_without_any_clip_names_the_missing_files_on_the_terminal_and_in_the_rejects(tmp_path):
    recipe = importing(tmp_path, "prompt,file,dimension\na ball falls,c_1,mechanics\nit turns,DJI_7,mechanics\n")
    terminal = io.StringIO()
    with pytest.raises(DatasetError) as error, Progress(Console(file=terminal, width=200)) as progress:
        build(recipe, tmp_path / "out", tmp_path / "store", progress)
    assert "2 no_clip (prompt), such as: no file c_1, as written or with .mp4" in str(error.value)
    rejects = pq.read_table(tmp_path / "out" / "rejects" / "rejects.parquet").to_pylist()
    assert sorted(reject["detail"].split(",")[0] for reject in rejects) == ["no file DJI_7", "no file c_1"]
    assert "2 of 2 clips are not in" in terminal.getvalue()
    assert not (tmp_path / "out" / "manifest.json").exists()

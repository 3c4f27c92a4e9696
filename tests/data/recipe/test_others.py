"""Recipes with dimensions that must not get worse, and with datasets whose prompts are used last."""

import json
from pathlib import Path

import pytest

from gigavideo_data.commands.plan import plan
from gigavideo_data.errors import RecipeError
from gigavideo_data.models.registry import check_subjects
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Recipe, hash_of
from tests.support.rows import write_set

OTHERS = ["dimensions=[mechanics]", "others={dimensions: [composition, camera_motion], prompts: 2}"]


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ("[composition, mechanics]", "others.dimensions: 'mechanics' is in dimensions too; remove it from one of them"),
        ("[composition, composition]", "others.dimensions: 'composition' is listed twice; keep one"),
        ("[compositon]", "others.dimensions.0: unknown dimension 'compositon'; did you mean 'composition'?"),
    ],
)
def test_others_that_make_no_sense_are_refused(tmp_path: Path, others: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"name: mine\ndimensions: [mechanics]\nothers: {{dimensions: {others}}}\n")
    with pytest.raises(RecipeError) as caught:
        load(str(tmp_path / "mine.yaml"))
    assert words in str(caught.value)
    assert "mine.yaml:" in str(caught.value)


def test_others_are_part_of_the_recipe_and_of_its_hash() -> None:
    recipe, alone = load("quickstart-all", OTHERS), load("quickstart-all", OTHERS[:1])
    assert recipe.resolved()["others"] == {"dimensions": ["composition", "camera_motion"], "prompts": 2}
    assert "others" not in alone.resolved()
    hashes = {alone.hash, recipe.hash, load("quickstart-all", [*OTHERS, "others.prompts=3"]).hash}
    assert len(hashes) == 3
    assert Recipe.model_validate(recipe.resolved()) == recipe
    assert hash_of(recipe.resolved()) == recipe.hash


def test_a_writer_that_cannot_write_about_an_other_is_refused() -> None:
    with pytest.raises(RecipeError, match="cannot write about 'material'"):
        check_subjects(load("quickstart-all", ["others.dimensions=[material]"]))


def test_a_plan_counts_the_prompts_of_others_and_names_them(tmp_path: Path) -> None:
    sizes = ["prompts.per_dimension=9", "samples_per_prompt=3", "captions.count=0", "eval_prompts.per_dimension=5"]
    facts = plan(load("quickstart-all", [*OTHERS, *sizes, "check.videos=10"]), Store(tmp_path))
    rows = {line["stage"]: line["rows"] for line in facts["stages"]}
    assert rows["prompt"] == 3 * 3
    assert rows["extend"] == 9 + 2 * 2 + 3 * 2 * 5
    assert rows["synthesize"] == (9 + 2 * 2) * 3
    assert rows["judge check"] == 10 + 6 + 6
    assert (facts["targets"], facts["others"]) == (["mechanics"], ["composition", "camera_motion"])


def test_a_published_recipe_names_used_datasets_by_name_and_content(tmp_path: Path) -> None:
    first = write_set(tmp_path / "secret" / "a")
    recipe = load("quickstart-all", [f"prompts.used=[{first}]"])
    (named,) = recipe.resolved()["prompts"]["used"]
    assert named.startswith("tiny@")
    assert "secret" not in json.dumps(recipe.resolved())
    assert recipe.hash != load("quickstart-all").hash
    moved = (tmp_path / "secret" / "a").rename(tmp_path / "b")
    assert load("quickstart-all", [f"prompts.used=[{moved}]"]).hash == recipe.hash
    manifest = json.loads((moved / "manifest.json").read_text())
    (moved / "manifest.json").write_text(json.dumps(manifest | {"license": "mit"}))
    assert load("quickstart-all", [f"prompts.used=[{moved}]"]).hash != recipe.hash


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_used_dataset_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "manifest.json").write_text(content)
    recipe = load("quickstart-all", [f"prompts.used=[{tmp_path}]"])
    with pytest.raises(RecipeError, match=f"prompts.used: {tmp_path}: no finished dataset") as caught:
        _ = recipe.hash
    assert caught.value.exit_code == 2

"""The catalogue of dimensions: every file is complete, and an unknown name is refused."""

import re
from collections.abc import Iterator

import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_data.recipe.dimensions.catalogue import load_dimension, names
from gigavideo_data.recipe.loading import load


def test_the_catalogue_holds_the_dimensions_that_the_paper_trains_on() -> None:
    """Those of VBench-2.0 without Diversity, which is not a property of one video."""
    assert names() == [
        "camera_motion",
        "complex_landscape",
        "complex_plot",
        "composition",
        "dynamic_attribute",
        "dynamic_spatial_relationship",
        "human_anatomy",
        "human_clothes",
        "human_identity",
        "human_interaction",
        "instance_preservation",
        "material",
        "mechanics",
        "motion_order_understanding",
        "motion_rationality",
        "multi_view_consistency",
        "thermotics",
    ]


@pytest.mark.parametrize("name", names())
def test_every_dimension_is_complete(name: str) -> None:
    dimension = load_dimension(name)
    assert dimension.name == name
    assert len(dimension.definition.split()) >= 15
    assert all(3 <= len(seed.split()) <= 15 for seed in dimension.seeds)
    assert (
        "expecting no" in dimension.question_guidance
        or dimension.combine == "gate"
        or "opposite" in dimension.question_guidance
    )


@pytest.mark.parametrize("name", names())
def test_shows_lists_other_dimensions(name: str) -> None:
    shows = load_dimension(name).shows
    assert shows is not None
    assert list(shows) == sorted(set(shows) & set(names()) - {name})


def test_no_two_dimensions_have_the_same_seed() -> None:
    words = [frozenset(re.findall(r"\w+", seed.lower())) for name in names() for seed in load_dimension(name).seeds]
    assert len(words) == len(set(words))


def test_an_unknown_dimension_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'camera_motion'"):
        load_dimension("camera_motions")
    with pytest.raises(RecipeError, match="one of: camera_motion, "):
        load_dimension("../recipes/quickstart")


OWN = """
name: cutlery
group: existence
definition: Knives, forks and spoons keep their kind and their number of prongs while they are used and laid down.
seeds: [a fork is lifted from a plate, two spoons stir one pot, a knife slices bread]
question_guidance: Ask for the kind of each piece, and, expecting no, whether it turns into another one.
combine: all
scorer: qa
"""


@pytest.fixture(autouse=True)
def no_own_dimensions() -> Iterator[None]:
    yield
    load("quickstart")  # its folder has no dimensions


def test_an_own_dimension_is_a_file_in_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dimensions").mkdir()
    (tmp_path / "dimensions" / "cutlery.yaml").write_text(OWN)
    assert "cutlery" in names()
    assert load_dimension("cutlery").combine == "all"
    load_dimension.cache_clear()
    (tmp_path / "dimensions" / "mechanics.yaml").write_text(OWN)
    with pytest.raises(RecipeError, match="give yours another name"):
        load_dimension("mechanics")
    (tmp_path / "dimensions" / "knives.yaml").write_text(OWN)
    with pytest.raises(RecipeError, match="must be the file name, 'knives'"):
        load_dimension("knives")
    load_dimension.cache_clear()


def test_an_own_dimension_is_a_file_beside_the_recipe(tmp_path, monkeypatch) -> None:
    for name in ("work", "elsewhere"):
        (tmp_path / name / "dimensions").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    own, recipe = tmp_path / "work" / "dimensions" / "cutlery.yaml", tmp_path / "work" / "mine.yaml"
    own.write_text(OWN)
    recipe.write_text("name: mine\ndimensions: [cutlery]\n")
    assert load(str(recipe)).dimensions == ("cutlery",)
    assert load_dimension("cutlery").combine == "all"
    own.write_text(OWN.replace("combine: all", "combine: mean"))
    load(str(recipe))
    assert load_dimension("cutlery").combine == "mean"
    monkeypatch.chdir(tmp_path / "work")  # the same file by two paths
    load(str(recipe))
    assert load_dimension("cutlery").combine == "mean"
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "dimensions" / "cutlery.yaml").write_text(OWN)
    load(str(recipe))
    with pytest.raises(RecipeError, match="is a different dimension of the same name"):
        load_dimension("cutlery")
    load("quickstart")  # the folder of an earlier recipe is no longer searched
    assert load_dimension("cutlery").combine == "all"

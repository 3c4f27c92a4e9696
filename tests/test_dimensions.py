"""The catalogue: every file is whole, and a name that is not there is refused."""

import re

import pytest

from gigavideo_data.dimensions.catalogue import load_dimension, names
from gigavideo_data.errors import RecipeError


def test_the_dimensions_of_the_miniature_are_there() -> None:
    assert set(names()) >= {
        "camera_motion",
        "composition",
        "dynamic_attribute",
        "dynamic_spatial_relationship",
        "instance_preservation",
        "mechanics",
        "motion_order_understanding",
    }


@pytest.mark.parametrize("name", names())
def test_every_dimension_loads_and_can_be_written_from(name: str) -> None:
    dimension = load_dimension(name)
    assert dimension.name == name
    assert len(dimension.definition.split()) >= 15
    assert all(3 <= len(seed.split()) <= 15 for seed in dimension.seeds)
    assert (
        "expecting no" in dimension.question_guidance
        or dimension.combine == "gate"
        or "opposite" in dimension.question_guidance
    )


def test_no_seed_serves_two_dimensions() -> None:
    words = [frozenset(re.findall(r"\w+", seed.lower())) for name in names() for seed in load_dimension(name).seeds]
    assert len(words) == len(set(words))


def test_an_unknown_dimension_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'camera_motion'"):
        load_dimension("camera_motions")
    with pytest.raises(RecipeError, match="one of: camera_motion, "):
        load_dimension("../recipes/quickstart")

"""The next version, by what changed."""

import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_data.hub.versions import Changes, changes, newest, next_version, validate_tag

OLD = {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("new", "tag", "text"),
    [
        ({"a": "1", "b": "2"}, "v1.2.4", "no row changed"),
        ({"a": "1", "b": "2", "c": "3"}, "v1.3.0", "1 rows added"),
        ({"a": "1", "b": "9", "c": "3"}, "v2.0.0", "1 rows added, 1 rows changed"),
        ({"a": "1"}, "v2.0.0", "1 rows removed"),
        ({}, "v2.0.0", "2 rows removed"),
    ],
)
def test_the_next_version_follows_from_what_changed(new, tag, text):
    found = changes(OLD, new)
    assert (next_version(["v1.2.3", "v0.9.0", "main-backup"], found), str(found)) == (tag, text)


def test_the_first_version_is_1_0_0_and_versions_are_numbers_not_text():
    assert next_version(["latest"], Changes(4, 0, 0)) == "v1.0.0"
    assert newest(["v1.9.0", "v1.10.0", "v01.99.0", "v2.0"]) == "v1.10.0"
    assert newest([]) is None


@pytest.mark.parametrize("tag", ["1.0.0", "v1.0", "v1.0.0-rc1", "v01.0.0", "main", ""])
def test_a_tag_that_is_no_version_is_refused(tag):
    with pytest.raises(RecipeError, match=r"v1\.0\.0"):
        validate_tag(tag)

"""Keys of endpoints: one for each part of a recipe, or one for both with a warning where it goes to two hosts."""

import pytest

from gigavideo_data.models.llm.api_keys import SHARED, VARIABLES, shared_key_warning
from gigavideo_data.models.llm.openai_client import Endpoint
from tests.support.openai_server import serving

WRITER, JUDGE = "http://writer.example/v1", "https://judge.example:8001/v1"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in (SHARED, *VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)


def test_each_part_sends_its_own_key_and_else_the_shared_one(monkeypatch):
    monkeypatch.setenv(SHARED, "shared")
    monkeypatch.setenv(VARIABLES["judge"], "of the judge")
    with serving(lambda _: "{}") as server:
        Endpoint(server.endpoint, "m", "judge").chat([])
        Endpoint(server.endpoint, "m", "writer").chat([])
    assert [request["key"] for request in server.requests] == ["Bearer of the judge", "Bearer shared"]


def test_a_shared_key_that_goes_to_two_hosts_is_warned_of(monkeypatch):
    assert shared_key_warning({"writer": WRITER, "judge": JUDGE}) is None
    monkeypatch.setenv(SHARED, "shared")
    warning = str(shared_key_warning({"writer": WRITER, "judge": JUDGE}))
    assert all(word in warning for word in ("writer.example", "judge.example:8001", *VARIABLES.values()))
    assert shared_key_warning({"writer": WRITER, "judge": WRITER}) is None
    assert shared_key_warning({"writer": WRITER, "judge": None}) is None
    monkeypatch.setenv(VARIABLES["judge"], "its own")
    assert shared_key_warning({"writer": WRITER, "judge": JUDGE}) is None

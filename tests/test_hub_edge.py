"""Calls to the Hub: what is tried again, what is told at once, and that silence is no answer."""

import errno

import pytest
from huggingface_hub.errors import FileMetadataError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from gigavideo_data import hub_repo
from gigavideo_data.errors import HubError
from gigavideo_data.hub_edge import http_client, patiently
from gigavideo_data.hub_repo import Place


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("gigavideo_data.hub_edge.time.sleep", lambda _: None)


class Calls:
    """Fails with each of `errors` in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.number = list(errors), 0

    def __call__(self) -> str:
        self.number += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.mark.parametrize(
    "error",
    [
        http_client().ConnectError("refused"),
        http_client().ReadTimeout("slow"),
        LocalEntryNotFoundError("nobody"),
        OSError("reset"),
    ],
)
def test_silence_is_tried_again(error):
    calls = Calls(error, error)
    assert patiently("it", calls) == "answer"
    assert calls.number == 3


@pytest.mark.parametrize(
    "error",
    [
        HFValidationError("Repo id must be alphanumeric"),
        ValueError("not a Parquet file"),
        TypeError("our own mistake"),
        FileNotFoundError("no such shard"),
    ],
)
def test_what_no_waiting_mends_is_told_at_once_in_its_own_words(error):
    calls = Calls(error)
    with pytest.raises(HubError, match=f"it: {type(error).__name__}: {error}") as caught:
        patiently("it", calls)
    assert calls.number == 1
    assert caught.value.__cause__ is error


def test_a_file_that_nobody_could_be_asked_for_is_not_taken_for_one_that_is_not_there(monkeypatch):
    """Else a card of somebody else would be overwritten while the network is down."""

    def silent(*_, **__):
        raise LocalEntryNotFoundError("nobody answers")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", silent)
    monkeypatch.setattr("gigavideo_data.hub_edge.WAITS_S", (1000.0,))
    with pytest.raises(HubError, match="did not answer"):
        hub_repo.file_at(Place("org/ds", "dataset", False, "1" * 40, {}), "1" * 40, "README.md")


def test_an_error_of_the_connection_that_the_client_wraps_is_tried_again():
    wrapped = RuntimeError("Error while uploading")
    wrapped.__cause__ = http_client().WriteError("reset")
    assert patiently("it", Calls(wrapped)) == "answer"


def test_a_full_disk_is_told_at_once_and_as_what_it_is():
    calls = Calls(OSError(errno.ENOSPC, "No space left on device", "cache/blob"))
    with pytest.raises(OSError, match="No space left"):
        patiently("it", calls)
    assert calls.number == 1


def test_what_is_not_the_hub_is_told_at_once():
    nowhere = LocalEntryNotFoundError("not in the cache")
    nowhere.__cause__ = FileMetadataError("does not seem to be served by a Hub; check HF_ENDPOINT")
    calls = Calls(nowhere)
    with pytest.raises(HubError):
        patiently("it", calls)
    assert calls.number == 1


def test_offline_is_told_at_once():
    calls = Calls(OfflineModeIsEnabled("HF_HUB_OFFLINE is set"))
    with pytest.raises(HubError, match="it: offline"):
        patiently("it", calls)
    assert calls.number == 1

"""Calls to the Hub: which errors are retried, and which fail at once."""

import errno

import pytest
from huggingface_hub.errors import FileMetadataError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from gigavideo_data.errors import HubError
from gigavideo_data.hub import repo
from gigavideo_data.hub.repo import Repository
from gigavideo_data.hub.retry import http_client, with_retries


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("gigavideo_data.hub.retry.time.sleep", lambda _: None)


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
def test_transient_errors_are_retried(error):
    calls = Calls(error, error)
    assert with_retries("it", calls) == "answer"
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
def test_what_is_not_transient_fails_at_once_with_its_own_message(error):
    calls = Calls(error)
    with pytest.raises(HubError, match=f"it: {type(error).__name__}: {error}") as caught:
        with_retries("it", calls)
    assert calls.number == 1
    assert caught.value.__cause__ is error


def test_an_unreachable_hub_is_not_taken_for_a_missing_file(monkeypatch):
    """Else a card of somebody else would be overwritten while the network is down."""

    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("nobody answers")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    monkeypatch.setattr("gigavideo_data.hub.retry.WAITS_S", (1000.0,))
    with pytest.raises(HubError, match="did not answer"):
        repo.file_at(Repository("org/ds", "dataset", False, "1" * 40, {}), "1" * 40, "README.md")


def test_an_error_of_the_connection_that_the_client_wraps_is_tried_again():
    wrapped = RuntimeError("Error while uploading")
    wrapped.__cause__ = http_client().WriteError("reset")
    assert with_retries("it", Calls(wrapped)) == "answer"


def test_a_full_disk_fails_at_once_as_an_OSError():
    calls = Calls(OSError(errno.ENOSPC, "No space left on device", "cache/blob"))
    with pytest.raises(OSError, match="No space left"):
        with_retries("it", calls)
    assert calls.number == 1


def test_another_server_than_the_hub_fails_at_once():
    nowhere = LocalEntryNotFoundError("not in the cache")
    nowhere.__cause__ = FileMetadataError("does not seem to be served by a Hub; check HF_ENDPOINT")
    calls = Calls(nowhere)
    with pytest.raises(HubError):
        with_retries("it", calls)
    assert calls.number == 1


def test_offline_fails_at_once():
    calls = Calls(OfflineModeIsEnabled("HF_HUB_OFFLINE is set"))
    with pytest.raises(HubError, match="it: offline"):
        with_retries("it", calls)
    assert calls.number == 1

"""Calls to the Hub: what may pass is tried again with a deadline, and what it refuses is told in words.

The client itself retries uploads and downloads, but neither commits, tags nor the making of a repository.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

from gigavideo_data.errors import GigaVideoError, HubError

ASK_S, DEADLINE_S = 20.0, 300.0  # for which a question, and a call that changes something, is tried again
RETRIED = (408, 429, 500, 502, 503, 504)
WAITS_S = (1, 2, 4, 8, 16, 30)

Result = TypeVar("Result")


def patiently(
    what: str, call: Callable[..., Result], *args: Any, deadline_s: float = DEADLINE_S, **kwargs: Any
) -> Result:
    """Call the Hub; what may pass is tried again until the deadline.

    Raises:
        HubError: it refused, or could not be reached in time; the client's own error is its cause.
    """
    from huggingface_hub.errors import LocalTokenNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # one of ours for all files, instead of the client's for each
    began = time.monotonic()
    for wait_s in _waits():
        try:
            return call(*args, **kwargs)
        except (GigaVideoError, LocalTokenNotFoundError):
            raise
        except Exception as error:  # the network edge
            if not _may_pass(error):
                raise HubError(f"{what}: {_told(error)}") from error
            if time.monotonic() - began + wait_s > deadline_s:
                raise HubError(
                    f"{what}: the Hub did not answer for {deadline_s:.0f} s ({type(error).__name__}). Run the same "
                    "command again: what is done is kept."
                ) from error
            time.sleep(_asked_to_wait(error) or wait_s)
    raise AssertionError("waits without end")


def http_client() -> ModuleType:
    """The HTTP library that huggingface_hub uses, and whose errors it lets pass: another one since its version 2."""
    from huggingface_hub import __version__

    return importlib.import_module("httpx" if __version__.startswith("1.") else "httpx2")


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later: nobody answered, or said that they are busy or broken."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status in RETRIED
    if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
        return False
    if isinstance(error, FileNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return False
    return isinstance(error, (http_client().TransportError, OSError))


def _status(error: Exception) -> int | None:
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _waits() -> Iterator[float]:
    yield from WAITS_S
    while True:
        yield WAITS_S[-1]


def _asked_to_wait(error: Exception) -> float:
    headers = getattr(getattr(error, "response", None), "headers", {})
    after = headers.get("Retry-After", "")
    return min(float(after), 60.0) if after.isdecimal() else 0.0


def _told(error: Exception) -> str:
    """What a refusal means, in words."""
    status = _status(error)
    said = " ".join(str(getattr(error, "server_message", None) or error).split())[:200]
    known = {
        401: "the Hub does not accept the token; `hf auth login`, or set HF_TOKEN",
        403: "the token may not do this; use one that may write there",
        412: "somebody else committed meanwhile; look at it, then run the same command again",
    }
    if status is None:
        return f"{type(error).__name__}: {said}"
    return f"{known.get(status, f'the Hub answered {status}')} ({said})"

"""Calls to the Hub with retries, a deadline and readable errors.

huggingface_hub retries uploads and downloads, but not commits, tags or the creation of a repository, and for most
requests it sets no timeout.
"""

from __future__ import annotations

import errno
import importlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from gigavideo_data.errors import GigaVideoError, HubError

# Retry deadlines in seconds: of a query, of reading a file, of a call that changes the repository.
ASK_S, READ_S, DEADLINE_S = 20.0, 60.0, 300.0
READ_TIMEOUT_S = {"GET": 20.0, "HEAD": 20.0}  # of one request, by its method
WRITE_TIMEOUT_S = 100.0  # of a request with any other method
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)
WAITS_S = (1, 2, 4, 8, 16, 30)
XET_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})")  # hf_xet gives a status only in its message
# Errors of this machine's disk: a retry does not help.
LOCAL_ERRNOS = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "ENOSPC", "EDQUOT", "EROFS", "EFBIG", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "EMFILE")
}

if TYPE_CHECKING:
    import httpx2

Result = TypeVar("Result")


def with_retries(
    what: str,
    call: Callable[..., Result],
    *args: Any,
    deadline_s: float = DEADLINE_S,
    writes: bool = False,
    **kwargs: Any,
) -> Result:
    """Call the Hub and retry transient errors until the deadline.

    Args:
        what: start of the error message.
        call: a function of huggingface_hub.
        args: positional arguments of `call`.
        deadline_s: no retry starts later than this many seconds after the first call.
        writes: whether the call changes a repository; an error then names write access as the missing permission.
        kwargs: keyword arguments of `call`.

    Raises:
        HubError: the Hub refused the call, or could not be reached in time; its cause is the client's error.
        OSError: an error of this machine's disk.
    """
    from huggingface_hub.errors import LocalTokenNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # we show one bar for all files, the client one for each
    began = time.monotonic()
    for wait_s in _waits():
        try:
            _set_timeouts()
            return call(*args, **kwargs)
        except (GigaVideoError, LocalTokenNotFoundError):
            raise
        except Exception as error:  # the network edge
            if isinstance(error, OSError) and error.errno in LOCAL_ERRNOS:
                raise
            if not is_transient(error):
                raise HubError(f"{what}: {refusal(error, writes=writes)}") from error
            if time.monotonic() - began + wait_s > deadline_s:
                raise HubError(
                    f"{what}: the Hub did not answer for {deadline_s:.0f} s ({type(error).__name__}{_host(error)}). "
                    "Run the same command again; finished work is kept."
                ) from error
            time.sleep(_retry_after(error) or wait_s)
    raise AssertionError("_waits() never ends")


def http_client() -> ModuleType:
    """The HTTP library whose exceptions huggingface_hub raises: httpx2 since version 2, httpx before."""
    from huggingface_hub import __version__

    return importlib.import_module("httpx" if __version__.startswith("1.") else "httpx2")


def refusal(error: Exception, *, writes: bool = False) -> str:
    """Describe an error of huggingface_hub and what to do about it.

    Args:
        error: the exception.
        writes: whether the failed call changes the repository.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if _is_offline(error):
        return "offline (HF_HUB_OFFLINE), and not in this machine's cache, or damaged there; unset it once"
    if is_transient(error):
        return "the Hub does not answer"
    status, answer = _response(error)
    detail = " ".join(str(getattr(answer, "server_message", None) or answer).split())[:200]
    if status is None:
        return f"{type(error).__name__}: {detail}"
    access = "write" if writes else "read"
    known = {
        401: "the Hub does not accept the token; run `hf auth login`, or set HF_TOKEN",
        403: f"the token may not {access} there; use one with {access} access to this repository",
        412: "another commit was made in the meantime; check that commit, then run the same command again",
    }
    meaning = known.get(status, f"the Hub answered {status}")
    if isinstance(answer, GatedRepoError):
        meaning = (
            "access is restricted; accept the terms on the repository's page, and use a token of that account with "
            "read access"
        )
    elif isinstance(answer, RepositoryNotFoundError):
        meaning = "there is no such repository, or it is private and the token may not see it; check name and token"
    elif isinstance(answer, RevisionNotFoundError):
        meaning = "there is no such version, branch or commit"
    return f"{meaning} ({detail})"


def is_unreachable(error: HubError) -> bool:
    """Whether `with_retries` failed because the Hub was offline or did not answer, not because it refused."""
    cause = error.__cause__
    return isinstance(cause, Exception) and (_is_offline(cause) or is_transient(cause))


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(isinstance(one, OfflineModeIsEnabled) for one in _chain(error))


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later: no answer, or an answer that the server is busy or failing."""
    from huggingface_hub.errors import FileMetadataError, LocalEntryNotFoundError

    status, _ = _response(error)
    if status is not None:
        return status in RETRIED_STATUS
    chain = list(_chain(error))
    if _is_offline(error) or any(isinstance(one, FileMetadataError | PermissionError) for one in chain):
        return False
    if isinstance(error, FileNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return False
    return any(isinstance(one, (http_client().TransportError, OSError)) for one in chain)


def _response(error: BaseException) -> tuple[int | None, BaseException]:
    """The HTTP status of the Hub's answer and the exception in the chain that carries it; None without an answer."""
    for one in _chain(error):
        status: int | None = getattr(getattr(one, "response", None), "status_code", None)
        if status is None and (match := XET_STATUS.search(str(one))):
            status = int(match[1])
        if status is not None:
            return status, one
    return None, error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _host(error: BaseException) -> str:
    """The host of the failed request, if the error names it: large files are on other hosts than the Hub itself."""
    for one in _chain(error):
        with suppress(AttributeError, RuntimeError):  # httpx raises RuntimeError if the request is unknown
            return f" of {one.request.url.netloc.decode()}"  # type: ignore[attr-defined]
    return ""


def _set_timeouts() -> None:
    """Set a timeout on every request of huggingface_hub that has none."""
    from huggingface_hub import get_session

    session = get_session()
    if _add_timeout not in session.event_hooks["request"]:
        session.event_hooks = session.event_hooks | {"request": [*session.event_hooks["request"], _add_timeout]}


def _add_timeout(request: httpx2.Request) -> None:
    timeout_s = READ_TIMEOUT_S.get(request.method, WRITE_TIMEOUT_S)
    given = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        name: timeout_s if given.get(name) is None else given[name] for name in ("connect", "read", "write", "pool")
    }


def _waits() -> Iterator[float]:
    yield from WAITS_S
    while True:
        yield WAITS_S[-1]


def _retry_after(error: Exception) -> float:
    """The wait in seconds that the Hub requests, at most 60; 0 if it requests none."""
    headers = getattr(getattr(_response(error)[1], "response", None), "headers", {})
    after = headers.get("Retry-After", "")
    return min(float(after), 60.0) if after.isdecimal() else 0.0

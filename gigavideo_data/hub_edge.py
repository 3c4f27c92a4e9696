"""Calls to the Hub: what may pass is tried again with a deadline, and what it refuses is told in words.

The client itself retries uploads and downloads, but neither commits, tags nor the making of a repository. It waits for
ever for most answers.
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

# For which a question, the reading of a file, and a call that changes something, is tried again.
ASK_S, READ_S, DEADLINE_S = 20.0, 60.0, 300.0
SILENCE_S = {"GET": 20.0, "HEAD": 20.0}  # after which a request that nobody answers is given up
LONG_SILENCE_S = 100.0  # the same of one that changes something
RETRIED = (408, 429, 500, 502, 503, 504)
WAITS_S = (1, 2, 4, 8, 16, 30)
XET_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})")  # hf_xet reports a status in its text alone
# Of a disk; waiting does not help.
OF_THIS_MACHINE = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "ENOSPC", "EDQUOT", "EROFS", "EFBIG", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "EMFILE")
}

if TYPE_CHECKING:
    import httpx2

Result = TypeVar("Result")


def patiently(
    what: str,
    call: Callable[..., Result],
    *args: Any,
    deadline_s: float = DEADLINE_S,
    writes: bool = False,
    **kwargs: Any,
) -> Result:
    """Call the Hub; what may pass is tried again until the deadline.

    Args:
        what: begins the message of an error.
        call: a function of the client.
        args: its arguments.
        deadline_s: seconds after which it is not tried again.
        writes: whether it changes a repository, so that a refusal names the right that is missing.
        kwargs: its arguments.

    Raises:
        HubError: it refused, or could not be reached in time; the client's own error is its cause.
        OSError: this machine's disk refused.
    """
    from huggingface_hub.errors import LocalTokenNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # one of ours for all files, instead of the client's for each
    began = time.monotonic()
    for wait_s in _waits():
        try:
            _bound_silence()
            return call(*args, **kwargs)
        except (GigaVideoError, LocalTokenNotFoundError):
            raise
        except Exception as error:  # the network edge
            if isinstance(error, OSError) and error.errno in OF_THIS_MACHINE:
                raise
            if not may_pass(error):
                raise HubError(f"{what}: {refusal(error, writes=writes)}") from error
            if time.monotonic() - began + wait_s > deadline_s:
                raise HubError(
                    f"{what}: the Hub did not answer for {deadline_s:.0f} s ({type(error).__name__}{_host(error)}). "
                    "Run the same command again: what is done is kept."
                ) from error
            time.sleep(_asked_to_wait(error) or wait_s)
    raise AssertionError("waits without end")


def http_client() -> ModuleType:
    """The HTTP library that huggingface_hub uses, and whose errors it lets pass: another one since its version 2."""
    from huggingface_hub import __version__

    return importlib.import_module("httpx" if __version__.startswith("1.") else "httpx2")


def refusal(error: Exception, *, writes: bool = False) -> str:
    """What an error of the client means, and what to do about it.

    Args:
        error: as it was raised.
        writes: whether the call was to change the repository.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if _is_offline(error):
        return "offline (HF_HUB_OFFLINE), and not in this machine's cache, or damaged there; unset it once"
    if may_pass(error):
        return "the Hub does not answer"
    status, answer = _answer(error)
    said = " ".join(str(getattr(answer, "server_message", None) or answer).split())[:200]
    if status is None:
        return f"{type(error).__name__}: {said}"
    right = "write" if writes else "read"
    known = {
        401: "the Hub does not accept the token; `hf auth login`, or set HF_TOKEN",
        403: f"the token may not {right} there; use one with {right} access to this repository",
        412: "somebody else committed meanwhile; look at it, then run the same command again",
    }
    meaning = known.get(status, f"the Hub answered {status}")
    if isinstance(answer, GatedRepoError):
        meaning = (
            "access is restricted; accept its terms on its page on the Hub, and use a token of that account with "
            "read access"
        )
    elif isinstance(answer, RepositoryNotFoundError):
        meaning = "there is no such repository, or it is private and the token may not see it; check name and token"
    elif isinstance(answer, RevisionNotFoundError):
        meaning = "there is no such version, branch or commit"
    return f"{meaning} ({said})"


def silent(error: HubError) -> bool:
    """Whether `patiently` gave up because nobody answered, or could be asked: not a refusal."""
    cause = error.__cause__
    return isinstance(cause, Exception) and (_is_offline(cause) or may_pass(cause))


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(isinstance(one, OfflineModeIsEnabled) for one in _chain(error))


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later: nobody answered, or said that they are busy or broken."""
    from huggingface_hub.errors import FileMetadataError, LocalEntryNotFoundError

    status, _ = _answer(error)
    if status is not None:
        return status in RETRIED
    chain = list(_chain(error))
    if _is_offline(error) or any(isinstance(one, FileMetadataError | PermissionError) for one in chain):
        return False
    if isinstance(error, FileNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return False
    return any(isinstance(one, (http_client().TransportError, OSError)) for one in chain)


def _answer(error: BaseException) -> tuple[int | None, BaseException]:
    """The status that the Hub answered with, and the error that carries it; the client wraps some of them."""
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
    """Who was asked, where the error says it: large files lie on other hosts than the Hub's own."""
    for one in _chain(error):
        with suppress(AttributeError, RuntimeError):  # httpx raises the latter where it is not known
            return f" of {one.request.url.netloc.decode()}"  # type: ignore[attr-defined]
    return ""


def _bound_silence() -> None:
    """Have the client give up requests that nobody answers, where it sets no limit itself."""
    from huggingface_hub import get_session

    session = get_session()
    if _limit not in session.event_hooks["request"]:
        session.event_hooks = session.event_hooks | {"request": [*session.event_hooks["request"], _limit]}


def _limit(request: httpx2.Request) -> None:
    limit_s = SILENCE_S.get(request.method, LONG_SILENCE_S)
    given = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        name: limit_s if given.get(name) is None else given[name] for name in ("connect", "read", "write", "pool")
    }


def _waits() -> Iterator[float]:
    yield from WAITS_S
    while True:
        yield WAITS_S[-1]


def _asked_to_wait(error: Exception) -> float:
    headers = getattr(getattr(_answer(error)[1], "response", None), "headers", {})
    after = headers.get("Retry-After", "")
    return min(float(after), 60.0) if after.isdecimal() else 0.0

"""The log file of a run: tracebacks of unexpected exceptions, and errors that libraries report.

    with run_log(Path("runs/quickstart/log.txt"), hosts=["judge.example.org"]) as path:
        ...

Everything that the loggers below `gigavideo_data` and `gigavideo_train` are given from level WARNING on goes into the
file, and nothing of it to the terminal. The file is created by its first line. Tokens, keys and hosts are replaced
before anything is written. One process writes one file: a run of several processes names one for each.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from gigavideo_data.errors import GigaVideoError, UnexpectedError

MAX_FILE_BYTES = 10_000_000
OLDER_FILES = 2  # kept beside the newest one, as log.txt.1 and log.txt.2; the oldest one is dropped
LOGGERS = ("gigavideo_data", "gigavideo_train")

_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
MIN_SECRET_LETTERS = 8  # a shorter value of such a variable is a setting: replacing it would garble the text
# Tokens by their form: of the Hub, of OpenAI-compatible services, and of an Authorization header.
_TOKEN = re.compile(r"\b(?:hf_|sk-)[\w-]{8,}|(?<=Bearer )[^\s'\"]+")
_HOST = re.compile(r"(?<=://)(?:[^\s/'\"<>@]*@)?[^\s/'\"<>?#]+")


def without_secrets(text: str, hosts: Iterable[str] = ()) -> str:
    """A text without tokens, keys and hosts.

    Args:
        text: of a log.
        hosts: of endpoints, which also stand outside of URLs, as whole words.
    """
    text = _HOST.sub("<host>", _TOKEN.sub("<token>", text))
    for host in filter(None, hosts):
        text = re.sub(rf"(?<!\w){re.escape(host)}(?!\w)", "<host>", text)
    secrets = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name)}
    for secret in sorted(secrets, key=len, reverse=True):  # a longer one may contain a shorter one
        if len(secret) >= MIN_SECRET_LETTERS:
            text = text.replace(secret, "<key>")
    return text


class _Formatter(logging.Formatter):
    def __init__(self, hosts: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._hosts = frozenset(hosts)

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record), self._hosts)


@contextmanager
def run_log(path: Path, hosts: Iterable[str] = ()) -> Iterator[Path]:
    """Write the log of a run to `path`, and the traceback of what ends the run.

    Args:
        path: of the file, in a folder that exists; a run that goes on appends to it.
        hosts: of endpoints, to be replaced also outside of URLs.

    Yields:
        `path`.

    Raises:
        UnexpectedError: in the place of an exception that is neither an error for the user nor one of the system; its
            message is the exception's last line, and the path.
    """
    handler = RotatingFileHandler(
        path, maxBytes=MAX_FILE_BYTES, backupCount=OLDER_FILES, encoding="utf-8", errors="backslashreplace", delay=True
    )
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_Formatter(hosts))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield path
    except GigaVideoError as error:
        if error.__cause__:  # the cause is logged for debugging
            loggers[0].error("the run ended", exc_info=error)
        raise
    except Exception as error:
        loggers[0].error("the run ended", exc_info=error)
        if isinstance(error, OSError):
            raise
        raise UnexpectedError(f"{last_line(error)}. The traceback is in {path}") from error
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def last_line(error: BaseException) -> str:
    """The exception's type and message, as the last line of its traceback shows them."""
    return " ".join(traceback.format_exception_only(error)[-1].split())

"""Errors that a user can act on: each message says what went wrong, where, and the next step.

Every class carries the exit code of the command line, so that no caller maps types to numbers. Faults of the program
stay plain exceptions; a run writes their tracebacks to its log (see `run_log`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from gigavideo_data.reasons import Reason


class GigaVideoError(Exception):
    """Base of all errors whose message is meant for the user."""

    exit_code = 1


class RecipeError(GigaVideoError):
    """A recipe, an override or an argument asks for something that does not exist or makes no sense."""

    exit_code = 2


class DatasetError(GigaVideoError):
    """A dataset, or a file in it, breaks the contract."""

    exit_code = 1


class RunError(GigaVideoError):
    """A run cannot go on, because of a folder, a lock, or a worker."""

    exit_code = 1


class RowError(Exception):
    """One row cannot be finished; it is rejected with the reason, and the run goes on."""

    def __init__(self, reason: str, detail: str) -> None:
        """Create the error.

        Args:
            reason: a `Reason`, or its word; counted in the rows per stage.
            detail: what was wrong with this row.

        Raises:
            ValueError: there is no such reason.
        """
        super().__init__(reason, detail)  # both, so that it can be pickled
        self.reason = Reason(reason)
        self.detail = detail


class RejectedError(GigaVideoError):
    """More rows failed than the recipe allows."""

    exit_code = 3


class UnexpectedError(GigaVideoError):
    """An exception that is a fault of the program; its traceback is in the log that the message names."""

    exit_code = 1


class HubError(GigaVideoError):
    """The Hub refused, or could not be reached."""

    exit_code = 4


def run_and_exit(app: Callable[[], object]) -> None:
    """Run a command line and exit with the exit code that it returns; an error is printed on stderr.

    With `--json`, stdout gets it too: {"error": {"type": "DatasetError", "message": "...", "exit_code": 1}}.

    Args:
        app: a typer application with `standalone_mode=False`, so that it raises usage errors.
    """
    import typer

    usage_error: Any = typer.BadParameter.__bases__[0]  # of the click that typer uses: its own copy or the package
    try:
        sys.exit(app())  # type: ignore[arg-type]  # an exit code, or None for 0
    except usage_error as error:
        error.show()
        _fail("UsageError", error.format_message(), error.exit_code)
    except GigaVideoError as error:
        print(f"error: {error}", file=sys.stderr)
        _fail(type(error).__name__, str(error), error.exit_code)
    except OSError as error:
        path = f" ({error.filename})" if error.filename else ""
        message = f"{error.strerror or error}{path}; fix it, then run the same command again"
        print(f"error: {message}", file=sys.stderr)
        _fail("OSError", message, 1)


def _fail(kind: str, message: str, exit_code: int) -> NoReturn:
    if "--json" in sys.argv:
        print(json.dumps({"error": {"type": kind, "message": message, "exit_code": exit_code}}, ensure_ascii=False))
    sys.exit(exit_code)

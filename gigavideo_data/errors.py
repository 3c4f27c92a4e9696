"""Errors a user can act on: each message says what went wrong, where, and the next step.

Every class carries the exit code the command lines end with, so that no caller maps types to numbers. Programmer
mistakes are not here: they stay plain exceptions with a traceback.
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
    """A build could not go on: a folder, a lock, a worker."""

    exit_code = 1


class RowError(Exception):
    """A row cannot be made, for a reason of its own; it becomes a reject with that reason, and the run goes on."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Name it.

        Args:
            reason: one word, counted in the ledger.
            detail: the case at hand.
        """
        super().__init__(reason, detail)  # both, so that it can be pickled
        self.reason: Reason = reason
        self.detail = detail


class RejectedError(GigaVideoError):
    """More rows were rejected than the recipe allows."""

    exit_code = 3


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

"""Errors a user can act on: each message says what went wrong, where, and the next step.

Every class carries the exit code the command lines end with, so that no caller maps types to numbers. Programmer
mistakes are not here: they stay plain exceptions with a traceback.
"""

import sys
from collections.abc import Callable

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
    """Run a command line; what goes wrong is said in one line on stderr and ends with its exit code."""
    try:
        app()
    except GigaVideoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        said = f"{error.strerror or error}{place}; once that is mended, the same command goes on"
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)

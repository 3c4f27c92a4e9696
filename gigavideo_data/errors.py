"""Errors that a user can act on: each message says what went wrong, where, and the next step.

Every class carries the exit code of the command line, by default 1, so that no caller maps types to numbers. Faults of
the program stay plain exceptions; a run writes their tracebacks to its log (see `run_log`).
"""

from __future__ import annotations

from gigavideo_data.reasons import Reason


class GigaVideoError(Exception):
    """Base of all errors whose message is meant for the user."""

    exit_code = 1


class RecipeError(GigaVideoError):
    """A recipe, an override or an argument asks for something that does not exist or makes no sense."""

    exit_code = 2


class DatasetError(GigaVideoError):
    """A dataset, or a file in it, breaks the contract."""


class RunError(GigaVideoError):
    """A run cannot go on, because of a folder, a lock, or a worker."""


class RowError(Exception):
    """One row cannot be finished; it is rejected with the reason, and the run goes on."""

    def __init__(self, reason: str, detail: str) -> None:
        """`reason` is a `Reason` or its word (else ValueError); `detail` says what was wrong with the row."""
        super().__init__(reason, detail)  # both, so that it can be pickled
        self.reason = Reason(reason)
        self.detail = detail


class DeadEngineError(Exception):
    """An engine can process no other row in this process; the worker ends, and its rows are done again elsewhere."""


class RejectedError(GigaVideoError):
    """More rows failed than the recipe allows."""

    exit_code = 3


class UnexpectedError(GigaVideoError):
    """An exception that is a fault of the program; its traceback is in the log that the message names."""


class HubError(GigaVideoError):
    """The Hub refused, or could not be reached."""

    exit_code = 4

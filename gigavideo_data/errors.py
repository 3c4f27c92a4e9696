"""Errors a user can act on: each message says what went wrong, where, and the next step.

Every class carries the exit code the command lines end with, so that no caller maps types to numbers. Programmer
mistakes are not here: they stay plain exceptions with a traceback.
"""


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


class RejectedError(GigaVideoError):
    """More rows were rejected than the recipe allows."""

    exit_code = 3


class HubError(GigaVideoError):
    """The Hub refused, or could not be reached."""

    exit_code = 4

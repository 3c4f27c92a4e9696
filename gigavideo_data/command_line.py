"""What the command lines gv-data, gv-train and gv-loop share: exit codes, errors, JSON output, and options."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gigavideo_data.errors import GigaVideoError

StoreFolder = Annotated[Path, typer.Option(help="Folder of finished rows of every stage, shared by all builds.")]
Private = Annotated[bool, typer.Option("--private", help="Create a missing repository as private.")]


def run_and_exit(app: Callable[[], object]) -> None:
    """Run a command line and exit with the exit code that it returns; an error is printed on stderr.

    With `--json`, stdout gets it too: {"error": {"type": "DatasetError", "message": "...", "exit_code": 1}}.

    Args:
        app: a typer application with `standalone_mode=False`, so that it raises usage errors.
    """
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


def version_option(program: str) -> Any:
    """The option `--version`, which prints the version and exits."""

    def print_version(requested: bool) -> None:
        if requested:
            print(f"{program} {version('gigavideo')}")
            raise typer.Exit

    return typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")


def print_json(facts: Any) -> None:
    """Print the result of a command as JSON on stdout."""
    print(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str))

"""Judges and generators of other packages, by entry points.

    [project.entry-points."gigavideo.judges"]
    brightness = "my_package.judges:brightness"

An entry point names a class or a function. A class is made once per worker with the recipe's `settings` as keyword
arguments. A function is the one method of the protocol, and takes the settings as further keyword arguments.

A plug-in is code that runs on this machine. A recipe or an option selects it by `backend: brightness`; the manifest of
a dataset never does (see `recipe.is_plugin`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any, Literal

from gigavideo_data.errors import RecipeError, RunError

Kind = Literal["judge", "soft judge", "generator"]

GROUPS: dict[Kind, str] = {
    "judge": "gigavideo.judges",
    "soft judge": "gigavideo.judges",
    "generator": "gigavideo.generators",
}
# The method that an engine of each kind must have: see judges.base, judges.soft and generators.base.
METHODS: dict[Kind, str] = {"judge": "answer", "soft judge": "probabilities", "generator": "generate"}


def installed(kind: Kind) -> dict[str, EntryPoint]:
    """The plug-ins of this environment by name; none of them is imported."""
    return {entry.name: entry for entry in entry_points(group=GROUPS[kind])}


def version_of(kind: Kind, name: str) -> str:
    """Name and version of the distribution that a plug-in comes with, such as `my-package==1.2.0`.

    Raises:
        RecipeError: there is no such plug-in.
    """
    distribution = _find(kind, name).dist
    assert distribution is not None  # an entry point that was found in an environment has one
    return f"{distribution.name}=={distribution.version}"


def load(kind: Kind, name: str, settings: Mapping[str, Any]) -> Any:
    """Import a plug-in, and give it its settings.

    Raises:
        RecipeError: there is no such plug-in.
        RunError: it lacks the method of its kind.
        Exception: whatever its import or its constructor raises.
    """
    target, method = _find(kind, name).load(), METHODS[kind]
    if inspect.isclass(target):
        engine = target(**settings)
        if not hasattr(engine, method):
            raise RunError(f"the plug-in {name} has no method {method!r}, which a {kind} needs")
        return engine
    if kind == "soft judge":
        raise RunError(f"the plug-in {name} is a function; only a class with a method {method!r} has gradients")
    return SimpleNamespace(**{method: partial(target, **settings)})


def _find(kind: Kind, name: str) -> EntryPoint:
    plugins = installed(kind)
    if name not in plugins:
        raise RecipeError(
            f"backend {name!r}: no installed package has it in the entry-point group {GROUPS[kind]}; install the "
            "package that does, or choose another backend (`gv-data doctor` lists what is installed)"
        )
    return plugins[name]

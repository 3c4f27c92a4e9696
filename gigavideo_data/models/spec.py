"""What is known of an engine before it is loaded: what decides its results, and where this machine finds it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from gigavideo_data.io.hashing import sha256_of
from gigavideo_data.recipe.recipe import published_name


class EngineSpec(NamedTuple):
    """A writer, generator or judge as a recipe names it. Both mappings hold JSON values.

    Attributes:
        identity: `backend` and everything else that decides a result. It is part of every key of the store, and enters
            the `generator` and `judges` columns of a dataset.
        location: paths, endpoints and memory limits of this machine. It decides nothing and is published nowhere.
    """

    identity: dict[str, Any]
    location: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """Both together: what the engine is loaded with."""
        return self.identity | self.location


def loaded_from(model: str, identity: dict[str, Any]) -> EngineSpec:
    """The spec of a model that is loaded here: a folder is identified by its content, a Hub id by its revision.

    Args:
        model: Hub id or folder.
        identity: with the recipe's `model` and `revision`, which a folder replaces by its name and content hash.
    """
    name = published_name(model)
    if name == model:
        return EngineSpec(identity, {"load": model, "load_revision": identity["revision"]})
    folder = Path(model).expanduser()
    return EngineSpec(
        identity | {"model": name, "revision": folder_revision(folder)}, {"load": str(folder), "load_revision": None}
    )


def folder_revision(folder: Path) -> str:
    """Content hash (hex, 16 digits) of a model's weights, configuration and chat template (.jinja)."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json", ".jinja")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()[:16]

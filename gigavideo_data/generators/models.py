"""What is known of text-to-video models without loading them: where they lie, what they make, how they sample."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError


@dataclass(frozen=True)
class Profile:
    """What a model makes by default: px, frames, Hz, and the longest prompt in tokens."""

    height: int
    width: int
    num_frames: int
    fps: float
    max_tokens: int


PROFILES = {
    "miniature": Profile(height=48, width=48, num_frames=17, fps=8.0, max_tokens=24),
}


def model_folder(model: str) -> Path:
    """Where a model lies on disk.

    Raises:
        RecipeError: it is neither a known name nor a diffusers pipeline folder.
    """
    if model == "miniature":
        return Path(str(importlib.resources.files("gigavideo_data.miniature"))) / "base"
    folder = Path(model).expanduser()
    if not (folder / "model_index.json").is_file():
        raise RecipeError(f"generators: model {model!r} is neither 'miniature' nor a folder with a model_index.json")
    return folder


def profile_of(model: str) -> Profile:
    """What a model makes: by its shipped name, or by its folder's name, which tuned copies keep as a beginning.

    Raises:
        RecipeError: nothing is known of it.
    """
    name = Path(model).name
    for known, profile in PROFILES.items():
        if name.startswith(known):
            return profile
    raise RecipeError(f"generators: nothing is known of model {name!r}; its name must start with {', '.join(PROFILES)}")


@cache
def model_revision(model: str) -> str:
    """Content hash (hex, 16 digits) of a local model's weights and configuration."""
    folder = model_folder(model)
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


@cache
def sampler_of(model: str) -> dict[str, Any]:
    """The scheduler that a pipeline folder names, and its shift."""
    config = json.loads((model_folder(model) / "scheduler" / "scheduler_config.json").read_text())
    return {"scheduler": config["_class_name"], "shift": config.get("shift", config.get("flow_shift"))}

"""What is known of text-to-video models without loading them: where they lie, what they make, how they sample."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.recipe import Generator, published_name


@dataclass(frozen=True)
class Profile:
    """What a model makes by default: px, frames, Hz, and the longest prompt in tokens.

    The number of frames is one more than a multiple of `stride`.
    """

    name: str
    height: int
    width: int
    num_frames: int
    fps: float
    max_tokens: int
    stride: int = 4


PROFILES = {
    "miniature": Profile("miniature", height=48, width=48, num_frames=17, fps=8.0, max_tokens=24),
}
# How prompts are to be worded (see `extension.STYLES`), by what a model's name holds.
FAMILIES = {"wan": "wan", "hunyuan": "hunyuan", "cogvideox": "cogvideox", "ltx": "ltx", "miniature": "wan"}
# Models whose terms forbid training another model on what they made, by what their names hold; others are not known to.
TERMS = {
    "hunyuanvideo": "the Tencent Hunyuan Community License forbids improving any other model with its outputs",
    "sora": "OpenAI's terms forbid developing models that compete with theirs with its outputs",
}
SIGN = "gigavideo.json"  # in a pipeline folder, names its profile: tuned copies keep it


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


def family_of(model: str) -> str:
    """The family of a model, by its name.

    Raises:
        RecipeError: no family is known whose name it holds.
    """
    name = Path(model).name.casefold()
    for part, family in FAMILIES.items():
        if part in name:
            return family
    raise RecipeError(f"target: the family of {name!r} is not known; its name must hold one of {', '.join(FAMILIES)}")


def warnings_for(models: Iterable[str], target: str) -> list[str]:
    """Where the terms of a model that makes videos forbid training the target on them, one sentence each."""
    names = dict.fromkeys(Path(model).name for model in models)
    return [
        f"{name}: {terms}; the videos may be scored and looked at, but {Path(target).name} must not be trained on them"
        for name in names
        for part, terms in TERMS.items()
        if part in name.casefold() and part not in Path(target).name.casefold()
    ]


def profile_of(model: str) -> Profile:
    """What a model makes: by its shipped name, or by the sign in its folder.

    Raises:
        RecipeError: nothing is known of it.
    """
    sign = model_folder(model) / SIGN
    name = json.loads(sign.read_text("utf-8"))["profile"] if sign.is_file() else model
    if name not in PROFILES:
        raise RecipeError(
            f"generators: nothing is known of model {Path(model).name!r}; "
            f'its folder needs a {SIGN} such as {{"profile": "{next(iter(PROFILES))}"}}'
        )
    return PROFILES[name]


@cache
def model_revision(model: str) -> str:
    """Content hash (hex, 16 digits) of a local model's weights and configuration."""
    return folder_revision(model_folder(model))


def trained_on(folder: Path) -> list[str]:
    """Dimensions that a tuned model or adapter was trained on, from its sign; none for any other model."""
    sign = folder / SIGN
    return json.loads(sign.read_text("utf-8")).get("dimensions", []) if sign.is_file() else []


def folder_revision(folder: Path) -> str:
    """The same of a folder, such as a pipeline's VAE alone."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def settings_of(generator: Generator, adapter: Path | None = None) -> dict[str, Any]:
    """The `generator` column of the contract, less the seed: all that decides a video, and no path of this machine."""
    return {
        "backend": generator.backend,
        "model": published_name(generator.model),
        "revision": model_revision(generator.model),
        "adapter": f"{adapter.name}@{folder_revision(adapter)}" if adapter else None,
        "profile": generator.profile,
        **sampler_of(generator.model),
        "steps": generator.steps,
        "guidance": generator.guidance,
        "negative_prompt": generator.negative_prompt,
    }


@cache
def sampler_of(model: str) -> dict[str, Any]:
    """The scheduler that a pipeline folder names, and its shift."""
    config = json.loads((model_folder(model) / "scheduler" / "scheduler_config.json").read_text())
    return {"scheduler": config["_class_name"], "shift": config.get("shift", config.get("flow_shift"))}

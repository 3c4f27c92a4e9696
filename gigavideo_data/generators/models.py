"""What is known of text-to-video models without loading them: where they lie, what they make, how they sample."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.generators.protocol import Shape
from gigavideo_data.hub_models import file_of, folder_of
from gigavideo_data.pinned import pinned_part
from gigavideo_data.recipe import Generator, on_the_hub, published_name


@dataclass(frozen=True)
class Profile:
    """What a model makes by default: px, frames, Hz, the longest prompt in tokens, sampling steps and guidance.

    The number of frames is one more than a multiple of `stride`. `shift` is that of a scheduler that works it out from
    the size; others name it in their configuration.
    """

    name: str
    height: int
    width: int
    num_frames: int
    fps: float
    max_tokens: int
    steps: int
    guidance: float
    stride: int = 4
    shift: float | None = None

    @property
    def made(self) -> Shape:
        """The shape of its videos."""
        return Shape(self.num_frames, self.height, self.width, self.fps)


# By shipped name or Hub id. Sizes, lengths, steps and guidance of the models' own model cards and pipelines.
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("miniature", 48, 48, 17, fps=8.0, max_tokens=24, steps=20, guidance=3.0),
        Profile("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", 480, 832, 81, fps=16.0, max_tokens=512, steps=50, guidance=5.0),
        Profile("Wan-AI/Wan2.1-T2V-14B-Diffusers", 480, 832, 81, fps=16.0, max_tokens=512, steps=50, guidance=5.0),
        Profile("Wan-AI/Wan2.2-TI2V-5B-Diffusers", 704, 1280, 121, fps=24.0, max_tokens=512, steps=50, guidance=5.0),
        Profile(
            "hunyuanvideo-community/HunyuanVideo", 720, 1280, 129, fps=24.0, max_tokens=256, steps=50, guidance=6.0
        ),
        Profile("zai-org/CogVideoX1.5-5B", 768, 1360, 81, fps=16.0, max_tokens=226, steps=50, guidance=6.0),
        Profile(  # the shift: exp(0.95 + 1.1 (7392 - 1024) / 3072), of a video's 7392 patches
            "Lightricks/LTX-Video",
            512,
            704,
            161,
            fps=25.0,
            max_tokens=128,
            steps=50,
            guidance=3.0,
            stride=8,
            shift=25.3,
        ),
    )
}
# How prompts are to be worded (see `extension.STYLES`), by what a model's name holds.
FAMILIES = {"wan": "wan", "hunyuan": "hunyuan", "cogvideox": "cogvideox", "ltx": "ltx", "miniature": "wan"}
# Models whose terms forbid training another model on what they made, by what their names hold; others are not known to.
TERMS = {
    "hunyuanvideo": "the Tencent Hunyuan Community License forbids improving any other model with its outputs",
    "sora": "OpenAI's terms forbid developing models that compete with theirs with its outputs",
}
SIGN = "gigavideo.json"  # in a pipeline folder, names its profile: tuned copies keep it
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Base:
    """The model that a run starts from: a shipped name, a folder, or a Hub id with its commit."""

    model: str
    commit: str | None = None


def named(text: str) -> str:
    """What a command line calls a model: a folder that is there, whatever it looks like; else a name or a Hub id."""
    folder = Path(text).expanduser()
    return str(folder.absolute()) if folder.is_dir() else text


def model_folder(model: str, revision: str | None = None) -> Path:
    """Where a model lies on disk; one of the Hub is fetched first, its weights as safetensors only.

    Raises:
        RecipeError: it is neither a known name nor a diffusers pipeline folder.
        HubError: the Hub does not give it.
    """
    if model == "miniature":
        return Path(str(importlib.resources.files("gigavideo_data.miniature"))) / "base"
    if on_the_hub(model):
        index = json.loads(file_of(model, revision, "model_index.json").read_text("utf-8"))
        return folder_of(model, revision, [name for name, kind in index.items() if isinstance(kind, list) and kind[0]])
    folder = Path(model).expanduser()
    if not (folder / "model_index.json").is_file():
        raise RecipeError(
            f"generators: model {model!r} is neither 'miniature', nor a Hub id, nor a folder with a model_index.json"
        )
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
    sign = None if on_the_hub(model) else model_folder(model) / SIGN
    name = json.loads(sign.read_text("utf-8"))["profile"] if sign and sign.is_file() else model
    if name not in PROFILES:
        raise RecipeError(
            f"generators: nothing is known of model {published_name(model)!r}. Known are {', '.join(PROFILES)}; "
            f'a folder with a copy of one of them says so in a {SIGN}: {{"profile": "{list(PROFILES)[1]}"}}'
        )
    return PROFILES[name]


@cache
def model_revision(model: str) -> str:
    """Content hash (hex, 16 digits) of a local model's weights and configuration."""
    return folder_revision(model_folder(model))


def base_of(model: str | None, manifest: Mapping[str, Any], option: str = "--model") -> Base:
    """Find out which model is meant, and which commit of one of the Hub.

    That is the one told after an @, as in `owner/name@revision`; else, of a model that made the dataset's videos, the
    one that did; else what its main branch is now.

    Args:
        model: as a command line names it; None is the dataset's target.
        manifest: the dataset's.
        option: the option that names the model, for messages.

    Raises:
        HubError: the Hub does not know it.
        RecipeError: the commit is left out after an @, or the videos are of several.
    """
    name, revision = named(model or manifest["target_model"]), None
    if on_the_hub(name):
        name, at, told = name.partition("@")
        if at and not told:
            raise RecipeError(f"{option} {model}: a commit is missing after the @")
        recipes = [manifest["recipe"], *(one["recipe"] for one in manifest.get("merged", ()))]
        made = [one for recipe in recipes for one in recipe.get("generators", ()) if one.get("model") == name]
        commits = sorted({str(one.get("revision")) for one in made if COMMIT.fullmatch(str(one.get("revision")))})
        if not told and len(commits) > 1:
            raise RecipeError(
                f"the videos are of several commits of {name}: say {option} {name}@{commits[0]}, or another"
            )
        revision = told or next(iter(commits), None)
    return Base(name, pinned_part(Generator(model=name, revision=revision)).revision)


def recorded_base(folder: Path) -> Base | None:
    """The model that a tuned model or adapter was tuned from, by its sign; None if it does not name one."""
    sign = folder / SIGN
    told = json.loads(sign.read_text("utf-8")) if sign.is_file() else {}
    return Base(told["base"], told.get("commit")) if isinstance(told.get("base"), str) else None


def has_public_name(model: str) -> bool:
    """Whether a model's name means the same model on every machine: a shipped name or a Hub id."""
    return model == "miniature" or on_the_hub(model)


def trained_on(folder: Path) -> list[str]:
    """Dimensions that a tuned model or adapter was trained on, from its sign; none for any other model."""
    sign = folder / SIGN
    return json.loads(sign.read_text("utf-8")).get("dimensions", []) if sign.is_file() else []


def folder_revision(folder: Path) -> str:
    """The same of a folder, such as a pipeline's VAE alone. A chat template (.jinja) is what a model is told."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json", ".jinja")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:  # weights may be larger than memory
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def settings_of(generator: Generator) -> dict[str, Any]:
    """The `generator` column of the contract, less the seed: all that decides a video, and no path of this machine."""
    model, profile = generator.model, profile_of(generator.model)
    adapter = Path(generator.adapter).expanduser() if generator.adapter else None
    return {
        "backend": generator.backend,
        "model": published_name(model),
        "revision": generator.revision if on_the_hub(model) else model_revision(model),
        "adapter": f"{adapter.name}@{folder_revision(adapter)}" if adapter else None,
        "profile": generator.profile,
        **sampler_of(model, generator.revision),
        "steps": generator.steps or profile.steps,
        "guidance": profile.guidance if generator.guidance is None else generator.guidance,
        "negative_prompt": generator.negative_prompt,
    }


def vae_of(generator: Generator) -> dict[str, str]:
    """Whose autoencoder a generator has, and which: the hash of its folder's content, as the trainer takes it.

    Of a model on the Hub only that folder is fetched.

    Raises:
        HubError: the Hub does not give it.
        RecipeError: it is not there, as in a part of a model that was fetched before, without a network.
    """
    model, revision = generator.model, generator.revision
    folder = (folder_of(model, revision, ["vae"]) if on_the_hub(model) else model_folder(model)) / "vae"
    if not any(folder.glob("*.safetensors")):
        raise RecipeError(
            f"--latents: {published_name(model)} has no autoencoder on this machine; fetch it, or go without"
        )
    return {"model": published_name(model), "revision": folder_revision(folder)}


def found_at(generator: Generator) -> dict[str, Any]:
    """Where this machine finds what the settings name."""
    return {"load": generator.model, "load_revision": generator.revision, "load_adapter": generator.adapter}


@cache
def sampler_of(model: str, revision: str | None = None) -> dict[str, Any]:
    """The scheduler that a pipeline names, and its shift.

    Raises:
        HubError: the Hub does not give it.
    """
    name = "scheduler/scheduler_config.json"
    config = json.loads(
        (file_of(model, revision, name) if on_the_hub(model) else model_folder(model) / name).read_text()
    )
    return {"scheduler": config["_class_name"], "shift": config.get("shift", config.get("flow_shift"))}

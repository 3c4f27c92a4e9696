"""Facts about text-to-video models that need no weights: folders, profiles, samplers, revisions, licence terms."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.hub.models import file_of, folder_of
from gigavideo_data.hub.pin import pinned_part
from gigavideo_data.models.generators.profile_table import HUNYUAN_TERMS, LTX_TERMS, PROFILES, Profile, Sampler
from gigavideo_data.models.spec import EngineSpec, folder_revision
from gigavideo_data.recipe.recipe import Generator, on_the_hub, published_name
from gigavideo_data.rows import VaeColumn

# The style of prompts (see `extension.STYLES`), by a part of the model's name.
NAME_PARTS = {"wan": "wan", "hunyuan": "hunyuan", "cogvideox": "cogvideox", "ltx": "ltx", "miniature": "wan"}
# Models whose terms speak of training other models on their outputs, by a part of the name, and what follows for the
# target. Others are not known to.
_FORBIDDEN = "the videos may be scored and viewed, but {target} must not be trained on them"
TERMS = {
    "hunyuanvideo": (HUNYUAN_TERMS, _FORBIDDEN),
    "sora": ("OpenAI's terms forbid developing models that compete with theirs with its outputs", _FORBIDDEN),
    "ltx": (LTX_TERMS, "a {target} that is trained on its videos must be published under it"),
}
# In the folder of a pipeline: its profile, and what it was tuned from and on. Tuned copies keep it.
MODEL_INFO_FILE = "gigavideo.json"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Base:
    """The model that a run starts from: a shipped name, a folder, or a Hub id with its commit."""

    model: str
    commit: str | None = None

    def __str__(self) -> str:
        return f"{self.model}@{self.commit}" if self.commit else self.model


def named(text: str) -> str:
    """A model as a command line names it: the absolute path of an existing folder, else a shipped name or a Hub id."""
    folder = Path(text).expanduser()
    return str(folder.absolute()) if folder.is_dir() else text


def model_folder(model: str, revision: str | None = None) -> Path:
    """The folder of a model; one of the Hub is downloaded first, its weights only as safetensors.

    Raises:
        RecipeError: it is neither a known name nor the folder of a diffusers pipeline.
        HubError: it cannot be downloaded.
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
    """The family of a model, by a part of its name.

    Raises:
        RecipeError: the name has no part of a known family.
    """
    name = Path(model).name.casefold()
    for part, family in NAME_PARTS.items():
        if part in name:
            return family
    raise RecipeError(f"target: the family of {name!r} is not known; the name must contain {' or '.join(NAME_PARTS)}")


def warnings_for(models: Iterable[str], target: str) -> list[str]:
    """One sentence for each model whose terms restrict training the target on its videos."""
    names = dict.fromkeys(Path(model).name for model in models)
    return [
        f"{name}: {terms}; {consequence.format(target=Path(target).name)}"
        for name in names
        for part, (terms, consequence) in TERMS.items()
        if part in name.casefold() and part not in Path(target).name.casefold()
    ]


def profile_of(model: str) -> Profile:
    """The defaults of a model, by its name or by the info file in its folder.

    Raises:
        RecipeError: the model is not known.
    """
    name = model if on_the_hub(model) else _info(model_folder(model)).get("profile", model)
    if name not in PROFILES:
        raise RecipeError(
            f"generators: model {published_name(model)!r} is not known. Known are {', '.join(PROFILES)}; "
            f"a folder with a copy of one of them names it in a file {MODEL_INFO_FILE}: "
            f'{{"profile": "{list(PROFILES)[1]}"}}'
        )
    return PROFILES[name]


def batch_size_of(settings: Mapping[str, Any]) -> int:
    """How many videos one call of a generator makes; 1 of a plug-in.

    Also 1 with the first-block cache: it compares whole batches, so the other rows of a batch would change a video.

    Args:
        settings: of the generator's `EngineSpec`.

    Raises:
        RecipeError: the model is not known.
    """
    if "load" not in settings or settings["profile"] == "first_block_cache":
        return 1
    return profile_of(settings["load"]).batch_size


@cache
def model_revision(model: str) -> str:
    """The content hash of a local model (see `folder_revision`)."""
    return folder_revision(model_folder(model))


def base_of(model: str | None, manifest: Mapping[str, Any], option: str = "--model") -> Base:
    """The model that a command line or a dataset names, with its commit if it is one of the Hub.

    The commit is that of the revision after an @, as in `owner/name@revision`; else the one that made the dataset's
    videos; else that of the main branch.

    Args:
        model: as a command line names it; None is the dataset's target.
        manifest: the dataset's.
        option: the option that names the model, for messages.

    Raises:
        HubError: the Hub does not have it, or cannot be reached.
        RecipeError: the revision is missing after an @, or several commits made the dataset's videos.
    """
    name, revision = named(model or manifest["target_model"]), None
    if on_the_hub(name):
        name, at, requested = name.partition("@")
        if at and not requested:
            raise RecipeError(f"{option} {model}: a revision is missing after the @")
        recipes = [manifest["recipe"], *(one["recipe"] for one in manifest.get("merged", ()))]
        generators = [one for recipe in recipes for one in recipe.get("generators", ()) if one.get("model") == name]
        revisions = {str(one.get("revision")) for one in generators}
        commits = sorted(filter(COMMIT.fullmatch, revisions))
        if not requested and len(commits) > 1:
            raise RecipeError(
                f"several commits of {name} made the videos; choose one, such as {option} {name}@{commits[0]}"
            )
        revision = requested or next(iter(commits), None)
    return Base(name, pinned_part(Generator(model=name, revision=revision)).revision)


def recorded_base(folder: Path) -> Base | None:
    """The model that a tuned model or adapter was tuned from, by its info file; None where it names none."""
    info = _info(folder)
    return Base(info["base"], info.get("commit")) if isinstance(info.get("base"), str) else None


def lineage_of(folder: Path) -> list[str]:
    """The models that a tuned model or adapter descends from by training, the nearest first, by its info file.

    Each is a name or name@commit; there are several after rounds of training. Nothing of any other model.
    """
    nearest = recorded_base(folder)
    return [str(nearest), *_info(folder).get("ancestors", [])] if nearest else []


def has_public_name(model: str) -> bool:
    """Whether a model's name means the same model on every machine: a shipped name or a Hub id."""
    return model == "miniature" or on_the_hub(model)


def trained_on(folder: Path) -> list[str]:
    """The dimensions that a tuned model or adapter was trained on, by its info file; none of any other model."""
    dimensions: list[str] = _info(folder).get("dimensions", [])
    return dimensions


def _info(folder: Path) -> dict[str, Any]:
    path = folder / MODEL_INFO_FILE
    info: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return info


def spec(generator: Generator) -> EngineSpec:
    """The spec of a generator that diffusers runs; it holds the model's defaults where the recipe has none.

    Raises:
        HubError: the scheduler's configuration cannot be downloaded.
        RecipeError: the model is not known.
    """
    model, profile = generator.model, profile_of(generator.model)
    adapter = Path(generator.adapter).expanduser() if generator.adapter else None
    identity = {
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
    sampler = sampler_named(generator.profile, profile)
    if sampler:
        identity["shift"] = sampler.shift
        identity["guidance"] = sampler.guidance if generator.guidance is None else generator.guidance
        identity["negative_prompt"] = generator.negative_prompt or sampler.negative_prompt
    location = {"load": model, "load_revision": generator.revision, "load_adapter": generator.adapter}
    return EngineSpec(identity, location)


def sampler_named(name: str, profile: Profile) -> Sampler | None:
    """The sampler settings that the recipe value `profile: paper` names; None of the other values.

    Raises:
        RecipeError: none are known of the model, or the library cannot skip its blocks (`profile: first_block_cache`).
    """
    if name == "first_block_cache" and not profile.caches:
        known = ", ".join(model for model, one in PROFILES.items() if one.caches)
        raise RecipeError(
            f"generators: profile first_block_cache: diffusers cannot skip blocks of {profile.name}; leave it out, or "
            f"choose one of {known}"
        )
    if name != "paper":
        return None
    if profile.paper is None:
        known = ", ".join(model for model, one in PROFILES.items() if one.paper)
        raise RecipeError(f"generators: profile paper: {profile.name} has none; leave it out, or choose one of {known}")
    return profile.paper


def low_noise_guidance(settings: Mapping[str, Any]) -> float | None:
    """The guidance of the expert for low noise, of a model with two; None of other models.

    It is the model's own where the guidance is, and else the same as the guidance.

    Args:
        settings: of the generator's `EngineSpec`.

    Raises:
        RecipeError: the model is not known.
    """
    profile = profile_of(settings["load"])
    own = sampler_named(settings["profile"], profile) or profile
    if profile.low_noise_guidance is None:
        return None
    return own.low_noise_guidance if settings["guidance"] == own.guidance else settings["guidance"]


def vae_of(generator: Generator) -> VaeColumn:
    """The model whose autoencoder a generator has, and the content hash of the autoencoder's folder.

    Of a model of the Hub only that folder is downloaded.

    Raises:
        HubError: it cannot be downloaded.
        RecipeError: it is not on this machine, as without a network where only a part of the model was downloaded.
    """
    model = generator.model
    folder = vae_folder(model, generator.revision)
    if not any(folder.glob("*.safetensors")):
        raise RecipeError(
            f"latents: {published_name(model)} has no autoencoder on this machine; download the model, or build with "
            "--no-latents"
        )
    return {"model": published_name(model), "revision": folder_revision(folder)}


def vae_folder(model: str, revision: str | None = None) -> Path:
    """The folder of a model's autoencoder; of a model of the Hub only that is downloaded.

    Raises:
        HubError: it cannot be downloaded.
        RecipeError: the model is not known.
    """
    return (folder_of(model, revision, ["vae"]) if on_the_hub(model) else model_folder(model)) / "vae"


@cache
def sampler_of(model: str, revision: str | None = None) -> dict[str, Any]:
    """The class name of a pipeline's scheduler, and its shift.

    Raises:
        HubError: its configuration cannot be downloaded.
    """
    name = "scheduler/scheduler_config.json"
    config = json.loads(
        (file_of(model, revision, name) if on_the_hub(model) else model_folder(model) / name).read_text()
    )
    return {"scheduler": config["_class_name"], "shift": config.get("shift", config.get("flow_shift"))}

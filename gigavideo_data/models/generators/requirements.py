"""What the models of a recipe need, checked before any is loaded: known families, folders of their class, GPUs, memory.

Memory is estimated from the number of parameters (see `Profile`): on a GPU the largest part in bfloat16 and what it
needs to work, since parts that do not fit together are on the GPU one after the other; without a GPU all parts in
float32.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.models.generators.profile_table import PROFILES, Profile
from gigavideo_data.models.generators.profiles import family_of, model_folder, profile_of, sampler_named
from gigavideo_data.recipe.recipe import Generator, Placement, Recipe, on_the_hub, published_name

CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")  # of a container
SAME_SIZE = 0.02  # by which the number of a transformer's parameters may differ from its profile's


@dataclass(frozen=True)
class Machine:
    """What this machine has.

    Attributes:
        gpus: number.
        gpu_bytes: memory of the smallest.
        ram_bytes: memory of the machine, or of its container.
        cores: number.
    """

    gpus: int
    gpu_bytes: int
    ram_bytes: int
    cores: int


def this_machine() -> Machine:
    """The machine that runs this."""
    import torch

    sizes = [torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count())]
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_MEMORY.read_text().strip() if CGROUP_MEMORY.is_file() else "max"
    ram = min(ram, int(limit)) if limit.isdecimal() else ram
    return Machine(len(sizes), min(sizes, default=0), ram, len(os.sched_getaffinity(0)))


def check_models(recipe: Recipe) -> None:
    """Refuse generators that no machine can run as the recipe says. Reads folders, but no network and no weights.

    Raises:
        RecipeError: the target's family or a model is not known, a model has no sampler settings of that name, a
            folder holds a pipeline, a part or weights of another class, or several GPUs would compute what one can.
    """
    family_of(recipe.target)
    for generator in _diffusers(recipe):
        profile = profile_of(generator.model)
        sampler_named(generator.profile, profile)
        if not on_the_hub(generator.model):
            check_class(model_folder(generator.model), profile)
        _check_split(profile, recipe.scale.generator.gpus or 0)


def _check_split(profile: Profile, gpus: float) -> None:
    if gpus <= 1 or gpus in profile.split_over:
        return
    numbers = ", ".join(map(str, profile.split_over))
    why = f"can be split over {numbers} GPUs" if numbers else "makes a video on one GPU, and the others would be idle"
    raise RecipeError(
        f"scale.generator.gpus: {gpus:g}: {profile.name} {why}. Set gpus: 1, and the workers make as many videos at a "
        "time as there are GPUs"
    )


def check_class(folder: Path, profile: Profile) -> None:
    """Check that a folder holds the pipeline, the classes and the size of transformer that its profile is of.

    Raises:
        RecipeError: it does not.
    """
    where = f"generators: {folder.name}"
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    if index["_class_name"] != profile.pipeline:
        raise RecipeError(
            f"{where}: its model_index.json names a {index['_class_name']}, but its profile {profile.name} is that of "
            f"a {profile.pipeline}. Name another folder or another profile"
        )
    for part, kind in index.items():
        config = folder / part / "config.json"
        if isinstance(kind, list) and kind[0] == "diffusers" and config.is_file():
            found = json.loads(config.read_text("utf-8")).get("_class_name", kind[1])
            if found != kind[1]:
                raise RecipeError(
                    f"{where}: its {part} is a {found}, but its model_index.json names a {kind[1]}. "
                    "Copy the whole model again"
                )
    expected = profile.parameters.get("transformer")
    counted = _num_weights(folder / "transformer") / 1e9
    if expected and abs(counted - expected) > SAME_SIZE * expected:
        raise RecipeError(
            f"{where}: its transformer has {counted:.3g} billion weights, that of its profile {profile.name} has "
            f"{expected:.3g}. Name another folder or another profile"
        )


def _num_weights(folder: Path) -> int:
    """The number of weights in the safetensors of a folder, by their headers."""
    counted = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(size))
        counted += sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
    return counted


def refusal(recipe: Recipe, machine: Machine) -> str | None:
    """Why a machine cannot make a recipe's videos, and what it can; None if it can.

    Raises:
        RecipeError: a model is not known.
    """
    for name in ("writer", "generator", "judge"):
        if problem := _missing_gpus(name, getattr(recipe.scale, name), machine):
            return problem
    for generator in _diffusers(recipe):
        if problem := _too_large(profile_of(generator.model), recipe, machine):
            return problem
    return None


def depends_on_machine(recipe: Recipe) -> bool:
    """Whether a recipe asks anything of the machine: it names GPUs, or a model that does not fit every machine."""
    scale = recipe.scale
    asked = any(place.gpus for place in (scale.writer, scale.generator, scale.judge))
    return asked or any(profile_of(generator.model).parameters for generator in _diffusers(recipe))


def descriptions(recipe: Recipe) -> list[dict[str, Any]]:
    """What each model of a recipe makes, in how many steps, and its licence; JSON-able. Plug-ins say nothing of theirs.

    Raises:
        RecipeError: a model is not known.
    """
    return [
        {
            "model": published_name(generator.model),
            "videos": f"{profile.width}x{profile.height}, {profile.num_frames} frames at {profile.fps:g} Hz",
            "steps": generator.steps or profile.steps,
            "licence": profile.licence,
        }
        for generator in _diffusers(recipe)
        for profile in [profile_of(generator.model)]
    ]


def _diffusers(recipe: Recipe) -> Iterator[Generator]:
    return (generator for generator in recipe.generators if not Generator.is_plugin(dict(generator)))


def _missing_gpus(name: str, place: Placement, machine: Machine) -> str | None:
    gpus = (place.gpus or 0) * (place.replicas or 1)
    if gpus <= machine.gpus:
        return None
    workers = f" in {place.replicas} workers" if place.replicas else ""
    fits = f"request at most {machine.gpus}" if machine.gpus else "leave `gpus` out: the models then run on the CPU"
    return f"scale.{name}.gpus: {gpus:g} requested{workers}, {machine.gpus} on this machine; {fits}, or set RAY_ADDRESS"


def _too_large(profile: Profile, recipe: Recipe, machine: Machine) -> str | None:
    place = recipe.scale.generator
    on_gpu = machine.gpus > 0
    gpus = place.gpus or 1
    workers = (place.replicas or int(machine.gpus / gpus)) * max(1, int(gpus)) if on_gpu else place.replicas
    workers = workers or machine.cores
    workers = workers if on_gpu else min(workers, recipe.limits.replicas or workers)
    share = min(place.gpus or 1.0, 1.0)
    fitting = [one.name for one in PROFILES.values() if _fits(one, machine, share, 1)]
    what = f"Fitting models: {', '.join(fitting)}"
    if on_gpu and gpu_gb(profile) * 1e9 > machine.gpu_bytes * share:
        part = f"{share:g} of a GPU" if share < 1 else "a GPU"
        return (
            f"generators: {profile.name} needs about {gpu_gb(profile):.0f} GB of GPU memory, {part} of this machine "
            f"has {machine.gpu_bytes * share / 1e9:.0f} GB. {what}"
        )
    need = ram_gb(profile, on_gpu=on_gpu)
    if _fits(profile, machine, share, workers):
        return None
    possible = int(machine.ram_bytes / (need * 1e9) / max(1, int(gpus)))
    advice = f"Set scale.generator.replicas: {possible}" if possible else what
    return (
        f"generators: {profile.name} needs about {need:.0f} GB of memory in each of {workers} processes, this machine "
        f"has {machine.ram_bytes / 1e9:.0f} GB. {advice}"
    )


def _fits(profile: Profile, machine: Machine, share: float, workers: int) -> bool:
    on_gpu = machine.gpus > 0
    if on_gpu and gpu_gb(profile) * 1e9 > machine.gpu_bytes * share:
        return False
    return ram_gb(profile, on_gpu=on_gpu) * 1e9 * workers <= machine.ram_bytes


def gpu_gb(profile: Profile) -> float:
    """Estimated GPU memory of a worker, in 1e9 bytes."""
    return 2 * max(profile.parameters.values(), default=0.0) + profile.working_gb


def ram_gb(profile: Profile, *, on_gpu: bool) -> float:
    """Estimated memory of a worker beside the GPU's, in 1e9 bytes: all parts, which a GPU gets one after the other."""
    total = sum(profile.parameters.values())
    return 2 * total if on_gpu else 4 * total + profile.working_gb

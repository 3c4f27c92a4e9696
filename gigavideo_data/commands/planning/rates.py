"""How long a row of a stage takes on a device, and how that is known; a stage of which nothing is known has no rate.

The figures of the GPUs are in the JSON files beside this module, as `python -m benchmarks.gpu.report` writes them from
measurements of Wan 2.1 1.3B at 832x480, 81 frames, and of a judge of the shape of Qwen2.5-VL-7B.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from gigavideo_data.errors import RecipeError
from gigavideo_data.models.generators.profiles import profile_of
from gigavideo_data.models.registry import is_remote
from gigavideo_data.recipe.recipe import Generator, Judge, Recipe, Writer

# From the best known to the least: measured on this GPU; calculated from measured parts; published by others; estimated
# from measurements of another GPU or setting.
Kind = Literal["measured", "calculated", "published", "estimated"]
KINDS: Final[tuple[Kind, ...]] = ("measured", "calculated", "published", "estimated")

WAN: Final = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
QWEN: Final = "Qwen/Qwen2.5-VL-7B-Instruct"
QWEN_FRAMES: Final = 16  # that the judge saw when it was measured
# What --gpu takes, and the words that the name of such a GPU has.
GPUS: Final = {"h100": ("h100",), "h200": ("h200",), "rtx4090": ("rtx", "4090")}
SAME_CHIP: Final = {"h100": "h200", "h200": "h100"}  # they differ in memory
WAN_ON_4090: Final = 240.0  # seconds of a clip of 50 steps with guidance; README of Wan 2.1

_QUICKSTART = "recipe quickstart-all on two cores of an AMD EPYC"


@dataclass(frozen=True)
class Rate:
    """Seconds of one device for one row, how they are known, and from where."""

    seconds: float
    device: Literal["gpu", "cpu"]
    kind: Kind
    source: str


@dataclass(frozen=True)
class Gpu:
    """A GPU whose rates are known, by its key in `GPUS`, and how many of them there are."""

    name: str
    number: int = 1


# Twice the wall seconds of cost.json over its rows: two workers were busy, Ray's start included.
_GRAMMAR: Final = {
    stage: Rate(seconds, "cpu", "measured", _QUICKSTART)
    for stage, seconds in (("prompt", 0.55), ("extend", 0.006), ("questions", 0.003))
}
_MINIATURE: Final = {
    stage: Rate(seconds, "cpu", "measured", _QUICKSTART) for stage, seconds in (("synthesize", 0.34), ("judge", 0.05))
}


def gpu_named(name: str) -> Gpu:
    """The GPU of a command line.

    Raises:
        RecipeError: its rates are not known.
    """
    if name.casefold() not in GPUS:
        raise RecipeError(f"--gpu {name}: its rates are not known. Known are {', '.join(GPUS)}")
    return Gpu(name.casefold())


def gpu_among(names: Sequence[str]) -> Gpu | None:
    """The GPU that devices of these names are, such as "NVIDIA H100 80GB HBM3"; None if their rates are not known."""
    found = {_key_of(name) for name in names}
    key = found.pop() if len(found) == 1 else None  # a mixture has no one rate
    return Gpu(key, len(names)) if key else None


def _key_of(name: str) -> str | None:
    words = re.findall(r"[a-z0-9]+", name.casefold())
    return next((key for key, parts in GPUS.items() if set(parts) <= set(words)), None)


def writer_rate(stage: str, writer: Writer) -> Rate | None:
    """The rate of the stages `prompt`, `extend` and `questions`."""
    return _GRAMMAR[stage] if writer.backend == "grammar" else None


def generator_rate(generator: Generator, gpu: Gpu | None, *, compiled: bool) -> Rate | None:
    """The rate of the stage `synthesize`: a clip is its steps, the decoder, and the rest.

    Args:
        generator: of the recipe.
        gpu: that it runs on.
        compiled: whether its blocks are compiled.
    """
    if Generator.is_plugin(dict(generator)):
        return None
    profile = profile_of(generator.model)
    if profile.name == "miniature":
        return _MINIATURE["synthesize"]
    if profile.name != WAN or generator.profile == "first_block_cache" or gpu is None:
        return None
    steps = generator.steps or profile.steps
    guidance = profile.guidance if generator.guidance is None else generator.guidance
    passes = 2 if guidance > 1 else 1  # of the transformer in a step
    if gpu.name not in SAME_CHIP:
        whole = (steps, passes) == (profile.steps, 2)
        share = steps * passes / (2 * profile.steps)
        return Rate(WAN_ON_4090 * share, "gpu", "published" if whole else "estimated", "README of Wan 2.1, RTX 4090")
    mode = "compiled" if compiled else "eager"
    parts, machine, is_own = _figures(gpu.name, [f"{mode}_{part}_s" for part in ("step", "decode", "rest")])
    step_s, decode_s, rest_s = parts
    seconds = steps * step_s * passes / 2 + decode_s + rest_s
    source = f"{steps} steps of {passes} forward passes, {mode}, from parts measured on one {machine}"
    return Rate(seconds, "gpu", "calculated" if is_own else "estimated", source)


def judge_rate(judge: Judge, gpu: Gpu | None) -> Rate | None:
    """The rate of the stages `judge` and `judge check`: a clip with eight questions.

    With vLLM, which was not measured, the questions share the video as they do in its prefix cache.
    """
    if judge.backend == "miniature":
        return _MINIATURE["judge"]
    if judge.model != QWEN or judge.backend not in ("transformers", "vllm") or gpu is None or gpu.name not in SAME_CHIP:
        return None
    shared = judge.backend == "vllm"
    (clip_s,), machine, is_own = _figures(gpu.name, ["judge_clip_shared_s" if shared else "judge_clip_s"])
    same = is_own and not shared and judge.frames == QWEN_FRAMES
    video = ", the video shared" if shared else ""
    source = f"{QWEN_FRAMES} frames and 8 questions{video}, measured with transformers on one {machine}"
    source += f", times {judge.frames / QWEN_FRAMES:g} for {judge.frames} frames" if judge.frames != QWEN_FRAMES else ""
    return Rate(clip_s * judge.frames / QWEN_FRAMES, "gpu", "measured" if same else "estimated", source)


def kind_of(stage: str) -> str:
    """The stage that runs under a name such as `judge check` or `synthesize more`."""
    return stage.split()[0]


def stage_rates(stage: str, recipe: Recipe, gpu: Gpu | None) -> list[tuple[float, str, Rate | None]]:
    """The models that process a stage's rows: share of the rows, name, and rate on the GPU; None if it is not known."""
    stage = kind_of(stage)
    if stage == "synthesize":
        total = sum(generator.share for generator in recipe.generators)
        return [
            (each.share / total, each.model, generator_rate(each, gpu, compiled=recipe.scale.compile is not False))
            for each in recipe.generators
        ]
    if stage == "judge":
        return [(1.0, recipe.judge.model, judge_rate(recipe.judge, gpu))]
    if stage in _GRAMMAR:
        name = recipe.writer.model if recipe.writer.backend != "grammar" else "grammar"
        return [(1.0, name, writer_rate(stage, recipe.writer))]
    return [(1.0, stage, None)]


def is_elsewhere(stage: str, recipe: Recipe) -> bool:
    """Whether a service behind an endpoint does a stage's work, on devices that are not known."""
    stage = kind_of(stage)
    if stage == "judge":
        return is_remote("judge", recipe.judge.backend)
    return stage in _GRAMMAR and is_remote("writer", recipe.writer.backend)


def needs_gpu(recipe: Recipe) -> bool:
    """Whether some stage of a recipe runs a model that is made for GPUs."""
    loaded = (recipe.writer.backend, recipe.judge.backend)
    return any(each.model != "miniature" for each in recipe.generators) or bool({"transformers", "vllm"} & set(loaded))


def _figures(gpu: str, keys: list[str]) -> tuple[list[float], str, bool]:
    """Figures of a GPU, or else of the one with the same chip: values, the measured machine, whether it is the GPU."""
    for name in (gpu, SAME_CHIP[gpu]):
        found = _file(name)
        if all(key in found["rates"] for key in keys):
            return [found["rates"][key]["value"] for key in keys], found["machine"]["gpu"], name == gpu
    raise AssertionError(f"no GPU was measured for {keys}")


@cache
def _file(gpu: str) -> dict:
    return json.loads(Path(__file__).with_name(f"{gpu}.json").read_text("utf-8"))

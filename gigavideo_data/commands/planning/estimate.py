"""What a build would take, from rows per stage and rates: device hours, disk, and the cost per useful sample.

All of it is an estimate. A stage without a rate is left out of the sums and named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from gigavideo_data.commands.planning.rates import KINDS, Gpu, is_elsewhere, kind_of, needs_gpu, stage_rates
from gigavideo_data.dataset.cost import number
from gigavideo_data.models.generators.profiles import profile_of
from gigavideo_data.recipe.recipe import Generator, Recipe, published_name

Line = dict[str, Any]

SYNTHESIZE: Final = "synthesize"
COPIES: Final = 2  # of a video and its latents: in the store, and in the dataset
BFLOAT16_BYTES: Final = 2
# Channels of the latents, and pixels per latent along height and width, by profile.
LATENTS: Final = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": (16, 8),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": (16, 8),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": (48, 16),
    "hunyuanvideo-community/HunyuanVideo": (16, 8),
    "Lightricks/LTX-Video": (128, 32),
}


@dataclass
class Sizes:
    """Bytes of each video and each video's latents that the store has."""

    videos: list[int] = field(default_factory=list)
    latents: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Judged:
    """What the clips that are judged already are worth.

    Attributes:
        clips: that are judged.
        kept: of them, those that gv-train keeps by default.
        effective: their effective sample size.
    """

    clips: int
    kept: int
    effective: float


def stage_line(stage: str, rows: int, in_store: int, recipe: Recipe, gpu: Gpu | None) -> Line:
    """One stage of a plan.

    Returns:
        JSON-able: `rows`, those `in_store`, `seconds` of one `device` for the missing rows and `row_seconds` for one,
        the `kind` of rate (see `rates.KINDS`), and the `rate` in words; None where they are not known. Then `unknown`
        says why.
    """
    missing = rows - in_store
    line: Line = {"stage": stage, "rows": rows, "in_store": in_store}
    parts = stage_rates(stage, recipe, gpu)
    rates = [rate for _, _, rate in parts if rate]
    devices = {rate.device for rate in rates}
    if len(rates) < len(parts) or len(devices) != 1:
        nothing = dict.fromkeys(("row_seconds", "device", "kind", "rate"))
        return {**line, "seconds": None if missing else 0.0, **nothing, "unknown": _why(stage, recipe, gpu)}
    row_seconds = sum(share * rate.seconds for share, _, rate in parts if rate)
    texts = [
        f"{published_name(name)}: {rate.seconds:.3g} s on one {'GPU' if rate.device == 'gpu' else 'CPU core'}, "
        f"{rate.kind} ({rate.source})"
        for _, name, rate in parts
        if rate
    ]
    return {
        **line,
        "seconds": missing * row_seconds,
        "row_seconds": row_seconds,
        "device": devices.pop(),
        "kind": max((rate.kind for rate in rates), key=KINDS.index),
        "rate": "; ".join(texts) if missing else None,
        "unknown": None,
    }


def _why(stage: str, recipe: Recipe, gpu: Gpu | None) -> str:
    if is_elsewhere(stage, recipe):
        return "behind an endpoint"
    if kind_of(stage) in (SYNTHESIZE, "judge") and gpu is None and needs_gpu(recipe):
        return "no GPU is named"
    return "not measured"


def totals(lines: Iterable[Line], gpu: Gpu | None) -> dict[str, Any]:
    """The device hours of all missing rows.

    Returns:
        JSON-able: `gpu_hours` with the name and number of the GPUs, the `days` that these take, and `cpu_hours` of one
        core, None where no stage has such a rate; `kinds` of rates that were used; `not_counted`, the stages with
        missing rows that have no rate, each with the reason.
    """
    missing = [line for line in lines if line["rows"] > line["in_store"]]
    hours = {
        device: sum(line["seconds"] for line in missing if line["device"] == device) / 3600
        for device in {line["device"] for line in missing if line["device"]}
    }
    gpu_hours = hours.get("gpu")
    return {
        "gpu": gpu.name if gpu and gpu_hours is not None else None,
        "num_gpus": gpu.number if gpu and gpu_hours is not None else None,
        "gpu_hours": gpu_hours,
        "days": gpu_hours / 24 / gpu.number if gpu and gpu_hours is not None else None,
        "cpu_hours": hours.get("cpu"),
        "kinds": [kind for kind in KINDS if kind in {line["kind"] for line in missing}],
        "not_counted": {line["stage"]: line["unknown"] for line in missing if line["seconds"] is None},
    }


def disk(lines: Iterable[Line], recipe: Recipe, sizes: Sizes) -> dict[str, Any]:
    """The disk that the missing videos and their latents take, in the store and in the dataset.

    Returns:
        JSON-able: number of missing `videos`; `video_bytes`, from the mean of those in the store, and `latent_bytes`,
        likewise or from the shape of the model's latents, of one copy; `bytes` of both, in all copies. None where they
        are not known.
    """
    num = sum(line["rows"] - line["in_store"] for line in lines if kind_of(line["stage"]) == SYNTHESIZE)
    video = sum(sizes.videos) / len(sizes.videos) if sizes.videos else None
    latent = sum(sizes.latents) / len(sizes.latents) if sizes.latents else _latent_bytes(recipe)
    both = None if video is None or latent is None else video + latent
    return {
        "videos": num,
        "video_bytes": None if video is None else round(num * video),
        "latent_bytes": None if latent is None else round(num * latent),
        "bytes": None if both is None else round(COPIES * num * both),
    }


def _latent_bytes(recipe: Recipe) -> float | None:
    """Bytes of a video's latents, by the shares of the generators; None if one of them is not known."""
    total, mean = sum(each.share for each in recipe.generators), 0.0
    for each in recipe.generators:
        profile = None if Generator.is_plugin(dict(each)) else profile_of(each.model)
        if profile is None or profile.name not in LATENTS:
            return None
        channels, stride_px = LATENTS[profile.name]
        frames = (profile.num_frames - 1) // profile.stride + 1
        size = channels * frames * (profile.height // stride_px) * (profile.width // stride_px)
        mean += each.share / total * size * BFLOAT16_BYTES
    return mean


def cost_per_sample(lines: Iterable[Line], judged: Judged) -> dict[str, Any] | None:
    """The seconds per generated clip of the whole build, and per kept clip and effective sample.

    Args:
        lines: of all stages; rows that are in the store already count, at their rate.
        judged: clips of the store; the others are assumed to be as useful.

    Returns:
        JSON-able: `device` ("GPU" or "CPU"), seconds `per_clip`, `per_kept` and `per_effective` (None before any clip
        is judged and kept), the number of clips `judged`, and the stages that are `not_counted`. None if the time of a
        clip is not known.
    """
    lines = list(lines)
    made = [line for line in lines if kind_of(line["stage"]) == SYNTHESIZE and line["row_seconds"] is not None]
    if not made:
        return None
    same = [line for line in lines if line["device"] == made[0]["device"]]
    per_clip = sum(line["rows"] * line["row_seconds"] for line in same) / sum(line["rows"] for line in made)
    return {
        "device": made[0]["device"].upper(),
        "per_clip": per_clip,
        "per_kept": per_clip * judged.clips / judged.kept if judged.kept else None,
        "per_effective": per_clip * judged.clips / judged.effective if judged.effective else None,
        "judged": judged.clips,
        "not_counted": [line["stage"] for line in lines if line["row_seconds"] is None],
    }


def sentence(cost: dict[str, Any]) -> str:
    """The cost per useful sample in words."""
    unit = f"{cost['device']}-seconds"
    without = f"; not counted: {', '.join(cost['not_counted'])}" if cost["not_counted"] else ""
    if cost["per_kept"] is None:
        known = "per kept clip it is not known before some are judged"
        return (
            f"cost per useful sample, estimated: {number(cost['per_clip'])} {unit} per generated clip; {known}{without}"
        )
    return (
        f"cost per useful sample, estimated: {number(cost['per_kept'])} {unit} per kept clip, "
        f"{number(cost['per_effective'])} per effective sample, if all clips are as useful as the {cost['judged']} "
        f"that are judged already{without}"
    )


def in_words(total: dict[str, Any], space: dict[str, Any]) -> list[str]:
    """The totals as lines: GPU-hours and days, hours of CPU cores, what is not counted, disk."""
    lines = []
    kinds = f"; rates are {', '.join(total['kinds'])}"
    if total["gpu_hours"] is not None:
        gpus = f"{total['num_gpus']} {total['gpu']}"
        lines.append(f"total: about {total['gpu_hours']:.1f} GPU-hours, {total['days']:.1f} days on {gpus}{kinds}")
    if total["cpu_hours"] is not None:
        lines.append(f"total: about {total['cpu_hours']:.2f} hours of one CPU core{kinds}")
    if total["not_counted"]:
        why = ", ".join(f"{stage} ({reason})" for stage, reason in total["not_counted"].items())
        lines.append(f"not counted: {why}")
    if "no GPU is named" in total["not_counted"].values():
        lines.append("--gpu NAME counts the GPU-hours")
    if space["videos"]:
        lines.append(_disk_in_words(space))
    return lines


def _disk_in_words(space: dict[str, Any]) -> str:
    head = f"disk for {space['videos']} missing videos"
    if space["bytes"] is not None:
        parts = f"videos {_size(space['video_bytes'])} and latents {_size(space['latent_bytes'])}"
        return f"{head}: about {_size(space['bytes'])}, estimated: {parts}, each in store and dataset"
    if space["video_bytes"] is not None:
        return f"{head}: about {_size(COPIES * space['video_bytes'])}, estimated, without latents"
    if space["latent_bytes"] is not None:
        latents = f"{_size(COPIES * space['latent_bytes'])} of latents in store and dataset"
        return f"{head}: {latents}, and the videos, whose size is not known before the first one"
    return f"{head}: not known before the first one"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"

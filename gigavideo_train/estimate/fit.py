"""Whether a planned run fits a GPU by its estimate, and what would fit where it does not."""

from __future__ import annotations

from gigavideo_data.errors import RecipeError
from gigavideo_data.rows import DatasetRow
from gigavideo_train.config import TrainConfig
from gigavideo_train.estimate.estimate import ClipShape, Estimate, Unit, estimate, training_bytes
from gigavideo_train.plan import Facts, Plan
from gigavideo_train.presets import FULL, LORA, LORA_OFFLOADED, SELECTIVE

USABLE = 0.9  # of a GPU, by training; the rest is for the CUDA context, NCCL and fragmentation
CONTEXT = 10**9  # bytes; what a CUDA context takes beside an encoder, whose few tensors leave no fragments
WAYS = (SELECTIVE, FULL, {**FULL, "offload": True}, LORA, LORA_OFFLOADED)  # those of the same weights first


def estimate_plan(plan: Plan) -> Estimate:
    """Estimate the run of a plan, with its largest pass."""
    encodes = plan.num_latents["encoded"] > 0
    return estimate(plan.model_folder, plan.config, unit_of(plan, plan.config), plan.processes, encodes=encodes)


def unit_of(plan: Plan, config: TrainConfig) -> Unit:
    """The largest pass of a process, with some settings."""
    share = -(-min(config.batch_size, len(plan.samples)) // plan.processes)

    def clips(*rows: DatasetRow | None) -> list[ClipShape]:
        return [(row["num_frames"], row["height"], row["width"]) for row in rows if row is not None]

    def size(shape: ClipShape) -> int:
        frames, height, width = shape
        return frames * height * width

    def work(shapes: list[ClipShape]) -> tuple[int, int]:
        sizes = [size(shape) for shape in shapes]
        return (sum(sizes), 0) if config.strategy == "dpo" else (max(sizes), sum(sizes))

    largest = max(plan.samples, key=lambda sample: work(clips(sample.row, sample.real, sample.loser)))
    number = min(config.micro_batch or share, share)
    return Unit(
        clips(largest.row)[0],
        number,
        plan.profile.max_tokens,
        next(iter(clips(largest.real)), None),
        next(iter(clips(largest.loser)), None),
        passes=-(-share // number),
    )


def usable(stage: str, gpu_bytes: int) -> int:
    """Bytes of a GPU that a stage of a run can use."""
    return gpu_bytes - CONTEXT if stage in ("prompts", "clips") else round(USABLE * gpu_bytes)


def check(plan: Plan, estimated: Estimate, gpu_bytes: int) -> None:
    """Refuse a run that does not fit.

    Args:
        plan: of the run.
        estimated: of the plan.
        gpu_bytes: memory of each GPU.

    Raises:
        RecipeError: a stage needs more than it can use; says which settings fit.
    """
    for stage in estimated.stages:
        needed, free = estimated.peak(stage), usable(stage, gpu_bytes)
        if needed > free:
            raise RecipeError(
                f"{stage}: {_gb(needed)} of GPU memory are needed (estimated), and a GPU of {_gb(gpu_bytes)} has "
                f"{_gb(free)} for it. {_advice(stage, plan, free)}"
            )


def facts(estimated: Estimate) -> Facts:
    """An estimate as JSON, bytes."""
    return {
        "parameters": estimated.num_parameters,
        "trained": estimated.num_trained,
        "stages": {name: {**parts, "total": estimated.peak(name)} for name, parts in estimated.stages.items()},
        "flops": max(estimated.flops.values()),
    }


def _advice(stage: str, plan: Plan, free: int) -> str:
    """What would fit."""
    config = plan.config
    if stage == "prompts":
        return "The text encoder has this size with any setting; use a larger GPU."
    if stage == "clips":
        return "Use a larger GPU, or latents of the dataset (latents=own)."
    if stage == "sample clips":
        return "Set sample_every=null."
    if config.strategy == "backprop-online":
        return "backprop-online keeps the activations of the whole decoder; use reweight-online, or smaller clips."
    for way in WAYS:
        settings = {"offload": False, **way}
        settings = {key: value for key, value in settings.items() if getattr(config, key) != value}
        settings.pop("prompt_dropout", None)  # of no effect on memory
        tried = config.model_copy(update=settings)
        if not settings or (plan.adapter and tried.tune != config.tune):
            continue
        parts = training_bytes(plan.model_folder, tried, unit_of(plan, tried), plan.processes)
        if sum(parts.values()) <= free:
            options = " ".join(f"--set {key}={str(value).lower()}" for key, value in settings.items())
            return f"This fits: {options} ({_gb(sum(parts.values()))})."
    return "No setting fits: use a larger GPU, more of them (--processes), or smaller clips."


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"

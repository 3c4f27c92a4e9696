"""Tables of settings that take the place of the defaults of `config.TrainConfig`: edit a number here, and in the docs.

Order, each on top of the one before: defaults of the class, `TUNE_DEFAULTS`, `MODEL_PRESETS`, `STRATEGY_DEFAULTS`,
`MEMORY_PRESETS`, a YAML file (`--config`), and `--set key=value`.
"""

from __future__ import annotations

from typing import Any

from gigavideo_data.errors import RecipeError

Settings = dict[str, Any]
ANY_MODEL = "any"

# An adapter starts at no change, and its few weights need larger steps than those of a trained model.
TUNE_DEFAULTS: dict[str, Settings] = {"lora": {"lr": 1e-4}}
MODEL_PRESETS: dict[str, Settings] = {
    # A thousandth of the size of the paper's model: it needs, and tolerates, larger steps.
    "miniature": {
        "lr": 1e-4,
        "warmup_steps": 5,
        "decay": "linear",
        "batch_size": 16,
        "epochs": 6,
        "logit_std": 1.5,
        "decode_batch": 16,
    },
}
# The budget of `benchmarks/proof/dev.md`; as many epochs as `max_steps` needs.
MEASURED: Settings = {"lr": 3e-4, "batch_size": 32, "max_steps": 160, "epochs": 1000, "ema": 0.95}
# What a strategy needs, by model: first the rows of `ANY_MODEL`, then those of the model. A strategy that is not here
# has the settings of the model.
STRATEGY_DEFAULTS: dict[str, dict[str, Settings]] = {
    ANY_MODEL: {
        "nft": {"ema": 0.95},  # its average is what the next round of training starts from
    },
    "miniature": {
        "sft-filtered": MEASURED,
        "reweight": MEASURED,
        "nft": {
            **MEASURED,
            "nft_beta": 0.3,
            "group_by": "prompt_id",
            "prompt_dropout": 0.0,
        },
    },
}
# Ways to train, in the order of preference. LoRA has no optimizer state of the model's own weights.
SELECTIVE: Settings = {"tune": "full", "checkpointing": "selective", "micro_batch": 1}
FULL: Settings = {"tune": "full", "checkpointing": "full", "micro_batch": 1}
LORA: Settings = {"tune": "lora", "checkpointing": "full", "micro_batch": 1, "prompt_dropout": 0.1}
LORA_OFFLOADED: Settings = {**LORA, "offload": True}
GPU_SIZES = (24, 48, 80, 141)  # GB, as GPUs are named
GPUS = {"rtx4090": 24, "l4": 24, "a10": 24, "a6000": 48, "l40s": 48, "a100": 80, "h100": 80, "h200": 141}  # GB
# By model, and by the least size of a GPU (of `GPU_SIZES`) and the least number of processes, both rising: the last row
# that applies is used. It is the first of the ways above that fits by the estimate, with paired samples of the size in
# the model's profile; `docs/training.md` has the figures.
MEMORY_PRESETS: dict[str, dict[tuple[int, int], Settings]] = {
    ANY_MODEL: {(24, 1): LORA, (48, 1): SELECTIVE},  # Wan 2.1 1.3B and LTX-Video
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": {
        (48, 1): LORA_OFFLOADED,
        (80, 8): FULL,
        (141, 1): LORA,
        (141, 8): SELECTIVE,
    },
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": {
        (24, 1): LORA_OFFLOADED,
        (48, 1): LORA,
        (48, 8): SELECTIVE,
        (141, 1): SELECTIVE,
    },
}


def preset(profile: str, strategy: str, memory: int | None, processes: int = 1, tune: str | None = None) -> Settings:
    """The settings that replace defaults.

    Args:
        profile: of the model, a key of `MODEL_PRESETS` or not.
        strategy: of training, a key of a table in `STRATEGY_DEFAULTS` or not.
        memory: one of `GPU_SIZES`, GB; None for none.
        processes: that share the model, each with its GPU.
        tune: what the run trains, a key of `TUNE_DEFAULTS` or not; None where the tables decide.
    """
    by_strategy = [STRATEGY_DEFAULTS.get(model, {}).get(strategy, {}) for model in (ANY_MODEL, profile)]
    tables = [MODEL_PRESETS.get(profile, {}), *by_strategy, memory_settings(profile, memory, processes)]
    combined = {key: value for table in tables for key, value in table.items()}
    return TUNE_DEFAULTS.get(tune or combined.get("tune", ""), {}) | combined


def memory_settings(profile: str, memory: int | None, processes: int) -> Settings:
    """The row of `MEMORY_PRESETS` for GPUs; empty if none applies."""
    rows = MEMORY_PRESETS.get(profile, MEMORY_PRESETS[ANY_MODEL])
    applying = [row for (size, least), row in rows.items() if memory and size <= memory and least <= processes]
    return applying[-1] if applying else {}


def gpu_bytes(gpu: str) -> int:
    """Memory of a GPU by its name in `GPUS` or its size in GB, as its name states it.

    Raises:
        RecipeError: it is neither.
    """
    size = GPUS.get(gpu.casefold()) or (int(gpu) if gpu.isdecimal() else 0)
    if not size:
        raise RecipeError(f"--gpu {gpu}: name one of {', '.join(GPUS)}, or a size in GB such as 80")
    return size * 10**9


def memory_preset(num_bytes: int) -> int:
    """The largest of `GPU_SIZES` that a GPU with this much memory has, or the smallest.

    A card of "48 GB" reports up to a tenth less: error correction takes some.
    """
    return max((size for size in GPU_SIZES if 0.9 * size * 10**9 <= num_bytes), default=min(GPU_SIZES))

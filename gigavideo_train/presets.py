"""Tables of settings that take the place of the defaults of `config.TrainConfig`: edit a number here, and in the docs.

Order, each on top of the one before: defaults of the class, `TUNE_DEFAULTS`, `MODEL_PRESETS`, `STRATEGY_DEFAULTS`,
`MEMORY_PRESETS`, a YAML file (`--config`), and `--set key=value`.
"""

from __future__ import annotations

from typing import Any

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
# By the memory of one GPU in GB (10^9 bytes), for a model of the size of Wan 2.1 1.3B at 832x480x81. Calculated:
# float32 weights, gradients and AdamW's state take 23 GB. Per clip, `full` checkpointing keeps 3 GB of block inputs,
# and `selective` 6 GB more of attention outputs. Measured on an H100 (`benchmarks/gpu.md`): a sample takes 12 GB with
# preset 24, and 29 GB with preset 80; a paired sample 39 GB with preset 80.
MEMORY_PRESETS: dict[int, Settings] = {
    24: {"tune": "lora", "checkpointing": "full", "micro_batch": 1, "prompt_dropout": 0.1},
    48: {"tune": "full", "checkpointing": "full", "micro_batch": 1, "offload": True},
    80: {"tune": "full", "checkpointing": "selective", "micro_batch": 1},
    141: {"tune": "full", "checkpointing": "selective", "micro_batch": 2},
}


def preset(profile: str, strategy: str, memory: int | None, tune: str | None = None) -> Settings:
    """The settings that replace defaults.

    Args:
        profile: of the model, a key of `MODEL_PRESETS` or not.
        strategy: of training, a key of a table in `STRATEGY_DEFAULTS` or not.
        memory: a key of `MEMORY_PRESETS`, GB; None for none.
        tune: what the run trains, a key of `TUNE_DEFAULTS` or not; None where the tables decide.
    """
    by_strategy = [STRATEGY_DEFAULTS.get(model, {}).get(strategy, {}) for model in (ANY_MODEL, profile)]
    tables = [MODEL_PRESETS.get(profile, {}), *by_strategy, MEMORY_PRESETS[memory] if memory else {}]
    combined = {key: value for table in tables for key, value in table.items()}
    return TUNE_DEFAULTS.get(tune or combined.get("tune", ""), {}) | combined


def memory_preset(num_bytes: int) -> int:
    """The largest key of `MEMORY_PRESETS` that fits into a GPU with this much memory, or the smallest key.

    A card of "48 GB" reports up to a tenth less: error correction takes some.
    """
    return max((size for size in MEMORY_PRESETS if 0.9 * size * 10**9 <= num_bytes), default=min(MEMORY_PRESETS))

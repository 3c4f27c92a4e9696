"""What fits into a GPU's memory: settings for a model of the size of Wan 2.1 1.3B at 832x480x81, by GB.

Reckoned, not measured: float32 weights, gradients and AdamW's state are 23 GB there; of activations a clip keeps 3 GB
of blocks' inputs with `full` checkpointing, and 6 GB more of both attentions' outputs with `selective`.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[int, dict[str, Any]] = {  # of one GPU, 10^9 bytes
    24: {"tune": "lora", "checkpointing": "full", "micro_batch": 1},
    48: {"tune": "full", "checkpointing": "full", "micro_batch": 1, "offload": True},
    80: {"tune": "full", "checkpointing": "selective", "micro_batch": 1},
    141: {"tune": "full", "checkpointing": "selective", "micro_batch": 2},
}


def fitting(num_bytes: int) -> int:
    """The largest preset that a GPU of so many bytes can hold; the smallest, if none.

    A card of "48 GB" has up to a tenth less: error correction takes some.
    """
    return max((size for size in PRESETS if 0.9 * size * 10**9 <= num_bytes), default=min(PRESETS))

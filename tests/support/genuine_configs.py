"""Pipeline folders of the genuine sizes without weights: the configuration files that the models have on the Hub.

`SMALL` is small, for fast tests. What is left out is the default of diffusers, which is that of Wan 2.1 14B, of its
autoencoder, and of LTX-Video.
"""

import json
from pathlib import Path
from typing import Any

WAN_1_3B, WAN_14B, WAN_5B, LTX = (
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    "Lightricks/LTX-Video",
)
UMT5_XXL = {
    "model_type": "umt5",
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 256384,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
T5_XXL = UMT5_XXL | {"model_type": "t5", "vocab_size": 32128}
VAE_5B = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}

SMALL = "small"


def _wan(
    transformer: dict[str, Any], vae: dict[str, Any], text: dict[str, Any] | None = None, *, per_token: bool = False
) -> dict[str, dict[str, Any]]:
    index = {
        "_class_name": "WanPipeline",
        "expand_timesteps": per_token,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    return {"model_index.json": index, "transformer": transformer, "vae": vae, "text_encoder": text or UMT5_XXL}


CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    SMALL: _wan(
        {
            "num_attention_heads": 2,
            "attention_head_dim": 32,
            "ffn_dim": 256,
            "num_layers": 5,
            "text_dim": 32,
            "rope_max_seq_len": 32,
        },
        {"base_dim": 8, "num_res_blocks": 1},
        UMT5_XXL | {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 2, "vocab_size": 100},
    ),
    WAN_1_3B: _wan({"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, {}),
    WAN_14B: _wan({}, {}),
    WAN_5B: _wan(
        {"num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336, "num_layers": 30},
        VAE_5B,
        per_token=True,
    ),
    LTX: {
        "model_index.json": {
            "_class_name": "LTXPipeline",
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "LTXVideoTransformer3DModel"],
            "vae": ["diffusers", "AutoencoderKLLTXVideo"],
        },
        "transformer": {},
        "vae": {},
        "text_encoder": T5_XXL,
    },
}


def write(name: str, folder: Path) -> Path:
    """Write the folder of a model in `CONFIGS`."""
    for part, config in {**CONFIGS[name], "scheduler": {}}.items():
        path = folder / {"model_index.json": part, "scheduler": "scheduler/scheduler_config.json"}.get(
            part, f"{part}/config.json"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    return folder

"""Models of the genuine sizes with random weights, built on the device, and inputs for them.

Built inside `torch.device(...)`, so that no weight passes through the host's memory, and buffers that a constructor
computes are right; then all weights are drawn anew, scaled by their fan-in, so that activations stay finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from gigavideo_data.models.generators.profiles import MODEL_INFO_FILE, model_folder
from gigavideo_train.data.samples import Sample
from gigavideo_train.losses.flow import interpolate
from gigavideo_train.losses.inputs import Inputs, Noised
from gigavideo_train.models.base import Condition

WAN_1_3B: dict[str, Any] = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
WAN_TINY: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 2}
CLIP_CFHW = (16, 21, 60, 104)  # latents of 832x480, 81 frames
TINY_CFHW = (16, 3, 8, 8)
NUM_TEXT_TOKENS = 512
TEXT_WIDTH = 4096
SETTINGS = SimpleNamespace(config=SimpleNamespace(expand_timesteps=False))  # what a Wan 2.1 pipeline says of itself


def build(make: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """A model with random weights on a device."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = make()
    finally:
        torch.set_default_dtype(before)
    randomize(model)
    return model.to(device).eval()


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Draw all weights: matrices with a standard deviation of 1 / sqrt(fan-in), scales near 1, offsets near 0."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            is_table = "embed_tokens" in name or "shared" in name
            parameter.normal_(std=1.0 if is_table else 1 / math.sqrt(parameter[0].numel()))
        elif name.endswith("bias"):
            parameter.normal_(std=0.02)
        else:
            parameter.normal_(mean=1.0, std=0.02)


def wan_transformer(device: torch.device, *, tiny: bool) -> Any:
    """The transformer of Wan 2.1 1.3B, float32, ready to be trained."""
    from diffusers import WanTransformer3DModel

    return build(lambda: WanTransformer3DModel(**(WAN_TINY if tiny else WAN_1_3B)), device).train()


def save_wan_pipeline(folder: Path, transformer: Any, vae: Any, profile: str) -> Path:
    """Write a Wan 2.1 pipeline: the transformer in bfloat16, and a text encoder of the genuine width with one layer."""
    from diffusers import UniPCMultistepScheduler, WanPipeline
    from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(model_folder("miniature") / "tokenizer")
    text = UMT5Config(vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    encoder = build(lambda: UMT5EncoderModel(text), torch.device("cpu"))
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    parts = (tokenizer, encoder, vae.cpu(), scheduler, transformer.to("cpu", torch.bfloat16))
    WanPipeline(*parts).save_pretrained(folder)
    (folder / MODEL_INFO_FILE).write_text(json.dumps({"profile": profile}))
    return folder


def shape_CFHW(*, tiny: bool) -> tuple[int, ...]:
    return TINY_CFHW if tiny else CLIP_CFHW


def inputs(device: torch.device, *, tiny: bool, pair: bool) -> Inputs:
    """One sample with random latents and text: a synthetic one, or a twin with its real clip."""
    generator = torch.Generator(device).manual_seed(1)

    def noised() -> Noised:
        clean, noise = (torch.randn((1, *shape_CFHW(tiny=tiny)), generator=generator, device=device) for _ in range(2))
        sigma = torch.rand(1, generator=generator, device=device) * 0.8 + 0.1
        text = torch.randn((1, NUM_TEXT_TOKENS, TEXT_WIDTH), generator=generator, device=device)
        mask = torch.ones((1, NUM_TEXT_TOKENS), dtype=torch.bool, device=device)
        condition = Condition(text, mask, torch.full((1,), 16.0, device=device))
        return Noised(clean, noise, interpolate(clean, noise, sigma), sigma, condition)

    row: Any = {"id": "bench", "source": "twin" if pair else "synthetic", "dimension": None}
    one = torch.ones(1, device=device)
    source = torch.full((1,), int(pair), device=device)
    return Inputs(
        [Sample(row, row if pair else None)],
        True,
        noised(),
        noised() if pair else None,
        None,
        one,
        one,
        source,
        torch.zeros_like(one),
    )

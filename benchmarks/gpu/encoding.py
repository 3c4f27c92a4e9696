"""What the trainer encodes before its first step: one clip by the autoencoder, one prompt by the text encoder."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.gpu import models
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import timed
from gigavideo_train.models import wan

NUM_LAYERS, MEASURED_LAYERS = 24, 2  # of UMT5-XXL
TOKENS = 512


def run(job: Job) -> None:
    _autoencoder(job)
    job.free_memory()
    _text(job)


def _autoencoder(job: Job) -> None:
    from diffusers import AutoencoderKLWan

    size = {"base_dim": 4, "num_res_blocks": 1} if job.tiny else {}
    vae = models.build(lambda: AutoencoderKLWan(**size), job.device)
    pipeline = SimpleNamespace(
        vae=vae,
        vae_scale_factor_spatial=8,
        vae_scale_factor_temporal=4,
        transformer=SimpleNamespace(config=SimpleNamespace(patch_size=(1, 2, 2))),
    )
    frames, height, width = (9, 32, 48) if job.tiny else (81, 480, 832)
    frames_THWC = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)
    latents_CFHW = wan.encode_video(pipeline, frames_THWC)
    job.record.note("autoencoder, latents are finite", str(bool(latents_CFHW.isfinite().all())))
    job.free_memory()
    encode = timed(lambda: wan.encode_video(pipeline, frames_THWC), job.device, 3, 6.0)
    job.record.figure("autoencoder, encode one clip, float32", encode.steady_s, "s", first_s=encode.first_s)
    if (memory := job.peak_gb()) is not None:
        job.record.figure("autoencoder, encode, peak memory", memory, "GB")
    job.free_memory()
    latents_1CFHW = latents_CFHW[None].to(job.device)
    with torch.no_grad():
        decode = timed(lambda: wan.decode(pipeline, latents_1CFHW), job.device, 3, 6.0)
    job.record.figure("autoencoder, decode one clip, float32", decode.steady_s, "s", first_s=decode.first_s)
    if (memory := job.peak_gb()) is not None:
        job.record.figure("autoencoder, decode, peak memory", memory, "GB")


def _text(job: Job) -> None:
    """The genuine width with two of the layers; time and weights of all are calculated from them."""
    from transformers import UMT5Config, UMT5EncoderModel

    genuine = {"vocab_size": 256_384, "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_heads": 64}
    tiny = {"vocab_size": 384, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4}
    config = UMT5Config(**(tiny if job.tiny else genuine), num_layers=MEASURED_LAYERS, feed_forward_proj="gated-gelu")
    encoder = models.build(lambda: UMT5EncoderModel(config), job.device)
    tokens_1L = torch.randint(0, config.vocab_size, (1, TOKENS), device=job.device)
    mask_1L = torch.ones_like(tokens_1L)
    scale = NUM_LAYERS / MEASURED_LAYERS

    def encode() -> torch.Tensor:
        output: torch.Tensor = encoder(tokens_1L, mask_1L).last_hidden_state
        return output

    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        encoder.to(dtype)
        with torch.inference_mode():
            output = encode()
            seconds = timed(encode, job.device, 10, 3.0).steady_s
        label = f"text encoder, {name}"
        job.record.figure(f"{label}, {MEASURED_LAYERS} layers", seconds, "s", finite=bool(output.isfinite().all()))
        whole = seconds.scaled(lambda value: scale * value)
        job.record.figure(f"{label}, one prompt of {TOKENS} tokens", whole, "s", calculated=True)
        block = sum(p.numel() for p in encoder.encoder.block.parameters())
        num_parameters = sum(p.numel() for p in encoder.parameters()) + (scale - 1) * block
        num_bytes = torch.finfo(dtype).bits // 8
        job.record.figure(f"{label}, weights", num_parameters * num_bytes / 1e9, "GB", calculated=True)

"""Train the miniature's video autoencoder, from scratch, on rendered clips.

    R="torchrun --nproc-per-node 2 -m scripts.miniature.pretrain_vae"
    $R --out OUT --steps 1500
    $R --out OUT --steps 850 --frames 17 --batch 2 --lr 1e-3 --resume

First on short crops, then on whole lengths: what the causal cache carries past the ninth frame is learned only there.
What made it learn at all: Kaiming weights (the default initialisation stays at the constant picture) and a larger loss
weight on the objects, which cover a twentieth of the picture.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKLWan
from torch import nn

from gigavideo_data.miniature.grammar import SKILLS, sample_scene
from gigavideo_data.miniature.world import render

CROP = 32  # px; the autoencoder is convolutional: what it learns on crops holds on whole pictures
LATENT_NOISE = 0.05
CONFIG = {
    "base_dim": 12,
    "z_dim": 8,
    "dim_mult": [1, 2, 4],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [True, True],
    "scale_factor_spatial": 4,
    "scale_factor_temporal": 4,
    "latents_mean": [0.0] * 8,
    "latents_std": [1.0] * 8,
}


class Autoencode(nn.Module):
    """Encode and decode in one forward, so that gradients can be averaged across processes."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, video_BCFHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents_BCFHW = self.vae.encode(video_BCFHW).latent_dist.mode()
        noisy = latents_BCFHW + LATENT_NOISE * torch.randn_like(latents_BCFHW)
        return self.vae.decode(noisy).sample, latents_BCFHW


def initialise(vae: AutoencoderKLWan) -> None:
    """Kaiming-normal weights and zero biases in every convolution."""
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def sample_crops(rng: np.random.Generator, batch: int, num_frames: int) -> torch.Tensor:
    """Random crops of rendered clips of every skill, (B, 3, num_frames, 32, 32) in [-1, 1]."""
    skills, crops = list(SKILLS), []
    for _ in range(batch):
        frames_THWC = render(sample_scene(skills[int(rng.integers(len(skills)))], rng, "pretrain"), rng)
        t = int(rng.integers(frames_THWC.shape[0] - num_frames + 1))
        y, x = (int(v) for v in rng.integers(frames_THWC.shape[1] - CROP + 1, size=2))
        crops.append(frames_THWC[t : t + num_frames, y : y + CROP, x : x + CROP])
    return torch.from_numpy(np.stack(crops)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def reconstruction_loss(recon_BCFHW: torch.Tensor, video_BCFHW: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of pixels and of their differences along time, height and width; coloured pixels weigh 8."""
    weight_B1FHW = 1 + 7 * (video_BCFHW.amax(1, keepdim=True) - video_BCFHW.amin(1, keepdim=True) > 0.25).float()
    weight_B1FHW = weight_B1FHW / weight_B1FHW.mean()
    error = recon_BCFHW - video_BCFHW
    loss = (weight_B1FHW * error.abs()).mean()
    for axis in (2, 3, 4):
        slope = error.diff(dim=axis).abs()
        loss = loss + 0.5 * (weight_B1FHW.narrow(axis, 1, slope.shape[axis]) * slope).mean()
    return loss


def train(out: Path, steps: int, batch: int, num_frames: int, peak_lr: float, seed: int, resume: bool) -> None:
    """Train and save to `out`; rank 0 logs every 50 steps and saves every 500."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    if resume:
        vae, seed = AutoencoderKLWan.from_pretrained(out), seed + 1
    else:
        vae = AutoencoderKLWan(**CONFIG)
        initialise(vae)
    model: nn.Module = Autoencode(vae)
    if world > 1:
        dist.init_process_group("gloo")
        model = nn.parallel.DistributedDataParallel(model)
    rng = np.random.default_rng([seed, rank])
    torch.manual_seed(seed * 1000 + rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.99), weight_decay=0.0)
    began = time.perf_counter()
    for step in range(steps):
        lr = peak_lr * min(1, (step + 1) / 50) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = lr
        video_BCFHW = sample_crops(rng, batch, num_frames)
        with torch.autocast("cpu", torch.bfloat16, enabled=step < steps * 0.8):
            recon_BCFHW, latents_BCFHW = model(video_BCFHW)
        loss = reconstruction_loss(recon_BCFHW.float(), video_BCFHW)
        (loss + 1e-4 * latents_BCFHW.float().square().mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad()
        if rank == 0 and (step % 50 == 0 or step == steps - 1):
            mae = (recon_BCFHW.float() - video_BCFHW).abs().mean()
            print(f"step {step} loss {loss:.4f} mae {mae:.4f} {time.perf_counter() - began:.0f} s", flush=True)
        if rank == 0 and (step % 500 == 499 or step == steps - 1):
            vae.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=4, help="clips per process")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the autoencoder in --out")
    args = parser.parse_args()
    train(args.out, args.steps, args.batch, args.frames, args.lr, args.seed, args.resume)

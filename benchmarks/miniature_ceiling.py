"""Accuracy of the miniature's judge, measured against the renderer, before and after autoencoder and H.264.

    python -m benchmarks.miniature_ceiling [--cases 200] [--vae DIR] [--out benchmarks/miniature_ceiling.md]

Right scenes should score above 0.9 and minimally wrong ones below 0.1. After autoencoder and MP4, a case is correct if
its score is on the same side of 0.5. No generator behind this autoencoder can do better.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKLWan

from benchmarks.miniature_trials import judged, trial
from gigavideo_data.io import video
from gigavideo_data.miniature.judge import MiniatureJudge
from gigavideo_data.miniature.questions import ASK
from gigavideo_data.miniature.world import FPS
from gigavideo_data.models.generators.profiles import model_folder

BATCH = 8  # a single small clip takes the slow path of PyTorch's convolutions


def round_trip(vae: AutoencoderKLWan, frames_BTHWC: np.ndarray) -> np.ndarray:
    """Encode and decode frames with the autoencoder and as MP4."""
    video_BCTHW = torch.from_numpy(frames_BTHWC).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with torch.inference_mode():
        decoded_BCTHW = vae.decode(vae.encode(video_BCTHW).latent_dist.mode()).sample
    decoded_BTHWC = ((decoded_BCTHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
    clips = (video.encode(frames_THWC, FPS) for frames_THWC in decoded_BTHWC.contiguous().numpy())
    return np.stack([video.decode(clip).frames_THWC for clip in clips])


def scores(dimension: str, cases: int, *, right: bool, see: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Scores (cases,) of trials whose frames `see` changes; an unscorable one counts as 0.5, which is never correct."""
    judge, values = MiniatureJudge({}), []
    for start in range(0, cases, BATCH):
        trials = [trial(dimension, number, right=right) for number in range(start, min(start + BATCH, cases))]
        seen_BTHWC = see(np.stack([frames_THWC for _, frames_THWC in trials]))
        values += [
            judged(judge, dimension, asked, frames_THWC)
            for (asked, _), frames_THWC in zip(trials, seen_BTHWC, strict=True)
        ]
    return np.array([0.5 if value is None else value for value in values])


def line(dimension: str, cases: int, vae_folder: Path) -> str:
    """One row of the table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    vae = AutoencoderKLWan.from_pretrained(vae_folder, dtype=torch.float32).eval()
    plain = [scores(dimension, cases, right=right, see=lambda frames: frames) for right in (True, False)]
    trip = [
        scores(dimension, cases, right=right, see=lambda frames: round_trip(vae, frames)) for right in (True, False)
    ]
    shares = [(plain[0] > 0.9), (plain[1] < 0.1), (trip[0] > 0.5), (trip[1] < 0.5)]
    return f"| {dimension} | " + " | ".join(f"{100 * share.mean():.1f} %" for share in shares) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--vae", type=Path, default=model_folder("miniature") / "vae")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    lines = [
        f"Printed by `python -m benchmarks.miniature_ceiling --cases {args.cases}`.",
        "",
        f"Share of {args.cases} right and {args.cases} minimally wrong scenes that the judge scores correctly: "
        "as rendered, and after autoencoder and MP4 (encoded). No generator behind this autoencoder can score higher.",
        "",
        "| dimension | rendered: right > 0.9 | rendered: wrong < 0.1 | encoded: right > 0.5 | encoded: wrong < 0.5 |",
        "| --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        for made in pool.map(line, ASK, repeat(args.cases), repeat(args.vae)):
            lines.append(made)
            print(made, flush=True)
    args.out.write_text("# Accuracy of the miniature's judge\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

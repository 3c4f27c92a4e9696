"""What the generator stage costs beside its transformer: Wan 2.1 1.3B with random weights, 832x480, 81 frames.

    python benchmarks/generate.py [--steps 20] [--rounds 3] [--tiny] [--out FILE.md]

Each round makes one video by the whole stage (text, denoising, decoding, encoding, reading back) and runs the same
number of steps by a bare loop over the same transformer, in turn. Random weights make noise: the path, the rate and the
memory are what is looked at. `--tiny` is the same on a model of toy size, to see that it runs. The text encoder is a
small one of the right width: one prompt is encoded once, and its own 11 GB would only be waited for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

from gigavideo_data.engines import load_engine
from gigavideo_data.generators import models
from gigavideo_data.generators.models import found_at, settings_of
from gigavideo_data.recipe import Generator
from gigavideo_data.stages import STAGES
from gigavideo_data.store import Store

FULL = models.PROFILES["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"]
TINY = replace(FULL, height=32, width=48, num_frames=9, max_tokens=16)
PROMPT = "A red boat turns slowly in a harbour while gulls land on the pier."


def pipeline(*, tiny: bool) -> WanPipeline:
    """The architecture, with random weights."""
    torch.manual_seed(0)
    width = 32 if tiny else 4096
    tokenizer = AutoTokenizer.from_pretrained(models.model_folder("miniature") / "tokenizer")
    text = UMT5Config(vocab_size=len(tokenizer), d_model=width, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    small = {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2}
    large = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
    transformer = WanTransformer3DModel(**(small if tiny else large), text_dim=width)
    vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1) if tiny else AutoencoderKLWan()
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanPipeline(tokenizer, UMT5EncoderModel(text), vae, scheduler, transformer.to(torch.bfloat16))


@torch.inference_mode()
def bare(engine: Any, steps: int) -> float:
    """Seconds of the denoising alone, by the plainest loop: two forward passes and a scheduler step."""
    pipe, profile, device = engine.pipeline, engine.profile, engine.device
    frames, factor = (profile.num_frames - 1) // 4 + 1, 8
    shape = (1, 16, frames, profile.height // factor, profile.width // factor)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    texts = [engine._encode(text)["prompt_embeds"].to(pipe.transformer.dtype) for text in (PROMPT, "")]
    pipe.scheduler.set_timesteps(steps, device=device)
    _wait()
    began = time.perf_counter()
    for t in pipe.scheduler.timesteps:
        inputs = latents.to(pipe.transformer.dtype)
        told, plain = (pipe.transformer(inputs, t.expand(1), text, return_dict=False)[0] for text in texts)
        latents = pipe.scheduler.step(plain + 5.0 * (told - plain), t, latents, return_dict=False)[0]
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def staged(engine: Any, seed: int, store: Store) -> tuple[float, float]:
    """Seconds of the whole stage for one video, and of the pipeline's steps in it."""
    times: list[float] = []
    plain = engine.pipeline.scheduler.step

    def stepped(*args: Any, **kwargs: Any) -> Any:
        result = plain(*args, **kwargs)
        _wait()
        times.append(time.perf_counter())
        return result

    engine.pipeline.scheduler.step = stepped
    began = time.perf_counter()
    STAGES["synthesize"].run(engine, {"prompt": PROMPT, "seed": seed}, store)
    whole = time.perf_counter() - began
    engine.pipeline.scheduler.step = plain
    return whole, (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    models.PROFILES["bench"] = TINY if args.tiny else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pipeline"
        pipeline(tiny=args.tiny).save_pretrained(folder)
        (folder / models.SIGN).write_text(json.dumps({"profile": "bench"}))
        generator = Generator(model=str(folder), steps=args.steps)
        placed = {"compile": args.compile}
        engine = load_engine("generator", settings_of(generator) | found_at(generator) | placed)
        store = Store(Path(name) / "store")
        staged(engine, 0, store), bare(engine, 2)
        rounds = []
        for number in range(args.rounds):
            before = bare(engine, args.steps) / args.steps
            whole, step = staged(engine, number, store)
            after = bare(engine, args.steps) / args.steps
            rounds.append((whole, step, before, after))
            print(
                f"round {number + 1}: {whole:.2f} s a video, {step:.4f} s a step, bare {before:.4f} and {after:.4f} s"
            )
    whole, step, before, after = (statistics.median(values) for values in zip(*rounds, strict=True))
    machine = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU, one thread"
    shape = f"{engine.profile.width}x{engine.profile.height}, {engine.profile.num_frames} frames"
    flags = "".join(f" --{flag}" for flag in ("tiny", "compile") if getattr(args, flag))
    lines = [
        "# The generator stage beside a bare loop over its transformer",
        "",
        f"`python benchmarks/generate.py --steps {args.steps} --rounds {args.rounds}{flags}` on {machine}, "
        f"torch {torch.__version__.split('+')[0]}, {shape}, two forward passes a step. Medians.",
        "",
        "| | |",
        "| --- | --- |",
        f"| stage, seconds a video of {args.steps} steps | {whole:.2f} |",
        f"| stage, seconds a step | {step:.4f} |",
        f"| bare loop, seconds a step | {before:.4f}, again {after:.4f} |",
        f"| stage over bare loop, a step | {step / ((before + after) / 2):.3f} |",
        f"| bare loop over bare loop (control) | {after / before:.3f} |",
    ]
    if torch.cuda.is_available():
        lines.append(f"| most memory, GB | {torch.cuda.max_memory_allocated() / 1e9:.1f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()

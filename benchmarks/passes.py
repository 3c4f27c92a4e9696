"""What one pass through Wan 2.1 1.3B and back costs at 832x480x81, by attention's kernel and checkpointing.

    python benchmarks/passes.py [--rounds 5] [--cap-gb 80] [--out FILE.md]
    python benchmarks/passes.py --tiny

Random weights, one clip of 32,760 tokens, no optimiser; blocks compiled on a GPU. The peak is what one large matrix
product in bfloat16 reaches on the same machine at the start. `--cap-gb` lets the process have no more memory than a
smaller card has: a simulation, and called so. `--tiny` is a trial of the benchmark itself, of a tiny model, on a CPU
too: its figures say nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from gigavideo_train import blocks
from gigavideo_train.attention import kernels, preferred
from gigavideo_train.families.wan import num_tokens

WAN: dict[str, Any] = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
TINY: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 2}
SHAPES_CFHW = {False: (16, 21, 60, 104), True: (16, 3, 8, 8)}  # by --tiny
NUM_TEXT_TOKENS = 512
MODES = ("none", "selective", "full")


def seconds(run: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Median seconds, after two rounds that are left out: the first compiles."""
    took = []
    for _ in range(2 + rounds):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return statistics.median(took[2:])


def peak_flops(device: torch.device, side: int) -> float:
    """FLOP/s of a product of two square matrices, bfloat16."""
    matrix = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    return 2 * side**3 / seconds(lambda: matrix @ matrix, 20, device)


def line(kernel: str, mode: str, peak: float, rounds: int, device: torch.device, *, tiny: bool) -> str:
    """One row of the table, with a model of its own."""
    torch.compiler.reset()  # what was compiled for another kernel would be taken for this one's
    torch.manual_seed(0)
    on_gpu = device.type == "cuda"
    with device:
        model = WanTransformer3DModel(**(TINY if tiny else WAN)).train()
        inputs = {
            "hidden_states": torch.randn(1, *SHAPES_CFHW[tiny]),
            "timestep": torch.tensor([500.0]),
            "encoder_hidden_states": torch.randn(1, NUM_TEXT_TOKENS, model.config.text_dim),
        }

    def forward() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext():
            return model(**inputs).sample.float().square().mean()

    with blocks.counted() as counter, torch.no_grad():
        forward()
    flops = 3 * counter.get_total_flops()
    blocks.recompute(model.blocks, mode)
    if on_gpu:
        blocks.compiled(model.blocks)
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with preferred([kernel]):
            took = seconds(lambda: forward().backward(), rounds, device)
    except torch.OutOfMemoryError:
        return f"| {kernel} | {mode} | out of memory | | | |"
    memory = f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f}" if on_gpu else ""
    reached = flops / took
    return f"| {kernel} | {mode} | {took:.3f} | {reached / 1e12:.3g} | {100 * reached / peak:.0f} % | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cap-gb", type=int)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not args.tiny:
        parser.error("no GPU is to be seen here; --tiny tries the benchmark itself")
    device = torch.device("cuda" if on_gpu else "cpu")
    machine = torch.cuda.get_device_name(device) if on_gpu else "a CPU"
    if on_gpu and args.cap_gb:
        torch.cuda.set_per_process_memory_fraction(
            args.cap_gb * 1e9 / torch.cuda.get_device_properties(device).total_memory
        )
        machine += f", memory capped to simulate {args.cap_gb} GB"
    peak = peak_flops(device, 256 if args.tiny else 8192)
    sizes = TINY if args.tiny else WAN
    with torch.device("meta"):
        tokens = num_tokens(WanTransformer3DModel(**sizes), SHAPES_CFHW[args.tiny])
    order = kernels(sizes["num_attention_heads"], tokens, sizes["attention_head_dim"], device)
    flags = "".join([" --tiny" * args.tiny, f" --cap-gb {args.cap_gb}" if args.cap_gb else ""])
    lines = [
        "# A pass through the model and back" + (" (a trial of a tiny model: the figures say nothing)" * args.tiny),
        "",
        f"`python benchmarks/passes.py --rounds {args.rounds}{flags}` on {machine}, torch {torch.__version__}, "
        f"{tokens} tokens. A large matrix product reaches {peak / 1e12:.3g} TFLOP/s.",
        "",
        "| attention | checkpointing | s/pass | model TFLOP/s | of the matrix product's | peak memory, GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [line(kernel, mode, peak, args.rounds, device, tiny=args.tiny) for kernel in order for mode in MODES]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()

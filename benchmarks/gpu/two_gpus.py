"""Two processes, one GPU each: an all-reduce, and the trainer's step with the model sharded by FSDP2.

Where there is no GPU, two gloo processes try the section itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.gpu import models
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import Figure, Recorder, timed

BYTES, TINY_BYTES = 2**30, 2**20
ROUNDS = 5


def run(job: Job) -> None:
    """Start both processes; the first one records."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "benchmarks.gpu.two_gpus", "--device", job.device.type, "--results", str(job.record.path)]
    subprocess.run([*command, *(["--tiny"] if job.tiny else [])], check=True, timeout=max(10.0, job.left_s))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    from gigavideo_data.models import attention
    from gigavideo_train.config import TrainConfig
    from gigavideo_train.distributed.world import world
    from gigavideo_train.losses.losses import loss_parts
    from gigavideo_train.models import wan
    from gigavideo_train.step import Flops, adamw, backward, prepare, velocity_of

    with world() as here:
        record = Recorder(args.results, "two_gpus")

        def figure(name: str, value: Figure | float, unit: str) -> None:
            if here.is_first:
                record.figure(name, value, unit)

        num_bytes = TINY_BYTES if args.tiny else BYTES
        tensor = torch.ones(num_bytes // 4, device=here.device)
        reduced = timed(lambda: dist.all_reduce(tensor), here.device, 10, 3.0).steady_s
        figure("all-reduce", reduced.scaled(lambda seconds: num_bytes / seconds / 1e9), "GB/s")
        order: list[str] = []
        if here.device.type == "cuda":
            size = models.WAN_1_3B
            order = here.broadcast_from_rank0(
                lambda: (
                    attention.choose(
                        attention.shapes_of(size["num_attention_heads"], 128, 32_760, 512, masked=False), here.device
                    ).order
                )
            )
        config = TrainConfig(checkpointing="selective", batch_size=2, lr=1e-6)
        transformer = models.wan_transformer(torch.device("cpu"), tiny=args.tiny)
        prepare(transformer, config, wan, here)
        optimizer = adamw(transformer.parameters(), config, here.device)
        flops: Flops = {}
        velocity = velocity_of(transformer, wan, models.SETTINGS, here.device, flops)
        inputs = models.inputs(here.device, tiny=args.tiny, pair=False)
        steps = []
        with attention.use_kernels(order):
            for _ in range(2 + ROUNDS):
                dist.barrier()
                began = time.perf_counter()
                backward(
                    [inputs], lambda one: loss_parts(one, velocity, velocity, None, config), config, flops, here.device
                )
                norm = torch.nn.utils.clip_grad_norm_(transformer.parameters(), config.max_grad_norm)
                float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                steps.append(time.perf_counter() - began)
        figure("training step, one synthetic sample a GPU, FSDP2", Figure.of(steps[2:]), "s")
        if here.device.type == "cuda":
            figure("training step, peak memory a GPU", torch.cuda.max_memory_allocated() / 1e9, "GB")


if __name__ == "__main__":
    main()

"""What the device reaches at most: a bfloat16 matrix product, and a copy inside its memory."""

from __future__ import annotations

import itertools

import torch

from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import Figure, timed

SIDE, TINY_SIDE = 8192, 256
COPY_BYTES, TINY_COPY_BYTES = 2**32, 2**22


def matmul_flops(device: torch.device, *, tiny: bool, rounds: int = 20, budget_s: float = 5.0) -> Figure:
    """FLOP/s of a product of two square bfloat16 matrices of random values; inputs rotate, so that none is cached."""
    side = TINY_SIDE if tiny else SIDE
    matrices = [torch.randn(side, side, device=device).bfloat16() for _ in range(4)]
    out = torch.empty_like(matrices[0])
    turns = itertools.cycle(range(4))

    def product() -> None:
        turn = next(turns)
        torch.mm(matrices[turn], matrices[(turn + 1) % 4], out=out)

    return timed(product, device, rounds, budget_s).steady_s.scaled(lambda seconds: 2 * side**3 / seconds)


def run(job: Job) -> None:
    flops = matmul_flops(job.device, tiny=job.tiny)
    job.record.figure("matmul, bfloat16", flops.scaled(lambda value: value / 1e12), "TFLOP/s")
    num_bytes = TINY_COPY_BYTES if job.tiny else COPY_BYTES
    source = torch.randint(0, 255, (num_bytes,), dtype=torch.uint8, device=job.device)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), job.device, 20, 5.0).steady_s
    job.record.figure(
        "copy in memory, read and written", copy.scaled(lambda seconds: 2 * num_bytes / seconds / 1e9), "GB/s"
    )

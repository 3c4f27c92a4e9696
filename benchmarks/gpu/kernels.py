"""Attention kernels at the shapes of Wan 2.1 1.3B: are output and gradients right, and how long do they take?

The reference is float32 arithmetic for one head, whose output and gradients depend on no other head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional
from torch.nn.attention import sdpa_kernel

from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import Figure, relative_error, timed
from gigavideo_data.models.attention import KERNELS, flash_3

HEADS, WIDTH, TOKENS, TEXT = 12, 128, 32_760, 512
TINY_HEADS, TINY_TOKENS = 2, 96
TOLERANCE = 0.02  # relative, of bfloat16 against float32
CHUNK = 4096  # queries of the reference at a time
NAMES = ("output", "dq", "dk", "dv")


@contextmanager
def only_flash_3() -> Iterator[None]:
    """Attention by FlashAttention 3 alone."""
    with flash_3(), sdpa_kernel(KERNELS["flash"]):
        yield


CONTEXTS: dict[str, Callable] = {
    **{name: lambda name=name: sdpa_kernel(KERNELS[name]) for name in ("flash", "cudnn", "efficient")},
    "flash 3": only_flash_3,
}


def reference(
    query_ND: torch.Tensor, key_MD: torch.Tensor, value_MD: torch.Tensor, slope_ND: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Output, and gradients of query, key and value for `slope_ND`, of one head in float32, chunk by chunk."""
    query_ND, key_MD, value_MD, slope_ND = (x.detach().float() for x in (query_ND, key_MD, value_MD, slope_ND))
    scale = 1 / math.sqrt(query_ND.shape[1])
    outputs, dq = [], []
    dk_MD, dv_MD = torch.zeros_like(key_MD), torch.zeros_like(value_MD)
    for q_CD, slope_CD in zip(query_ND.split(CHUNK), slope_ND.split(CHUNK), strict=True):
        p_CM = torch.softmax(scale * q_CD @ key_MD.T, -1)
        outputs.append(p_CM @ value_MD)
        dp_CM = slope_CD @ value_MD.T
        ds_CM = p_CM * (dp_CM - (dp_CM * p_CM).sum(-1, keepdim=True)) * scale
        dq.append(ds_CM @ key_MD)
        dk_MD += ds_CM.T @ q_CD
        dv_MD += p_CM.T @ slope_CD
    return torch.cat(outputs), torch.cat(dq), dk_MD, dv_MD


def tflops(shape_BHND: torch.Size, num_keys: int, *, back: bool) -> float:
    """TFLOP of attention forward, or forward and backward as a flash kernel computes it (2.5 times the forward)."""
    batch, heads, num_queries, width = shape_BHND
    return 4 * batch * heads * num_queries * num_keys * width * (3.5 if back else 1) / 1e12


def run(job: Job) -> None:
    heads, tokens = (TINY_HEADS, TINY_TOKENS) if job.tiny else (HEADS, TOKENS)
    width = 16 if job.tiny else WIDTH
    text = 32 if job.tiny else TEXT
    for kind, num_keys in (("self", tokens), ("cross", text)):
        torch.manual_seed(0)
        # Models keep heads last; kernels take them before the tokens.
        query, slope = (_random((1, tokens, heads, width), job.device) for _ in range(2))
        key, value = (_random((1, num_keys, heads, width), job.device) for _ in range(2))
        slope = slope.detach()
        last = heads - 1
        expected = reference(query[0, last], key[0, last], value[0, last], slope[0, last])
        for name, context in CONTEXTS.items():
            _kernel(job, f"{kind} attention, {name}", context, (query, key, value), slope, expected)


def _random(shape_BNHD: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """(B, H, N, D) bfloat16, a view of heads last."""
    return torch.randn(shape_BNHD, device=device).bfloat16().transpose(1, 2).detach().requires_grad_()


def _kernel(
    job: Job,
    name: str,
    context: Callable,
    inputs: tuple[torch.Tensor, ...],
    slope: torch.Tensor,
    expected: tuple[torch.Tensor, ...],
) -> None:
    query, key, value = inputs

    def forward() -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value)

    def both() -> None:
        for tensor in inputs:
            tensor.grad = None
        forward().backward(slope)

    try:
        with context():
            output = forward()
            both()
            results = (output, query.grad, key.grad, value.grad)
            errors = {n: relative_error(x[0, -1], e) for n, x, e in zip(NAMES, results, expected, strict=True)}
            finite = all(bool(torch.isfinite(x).all()) for x in results)
            with torch.no_grad():
                one_way = timed(forward, job.device, 20, 2.0).steady_s
            two_ways = timed(both, job.device, 20, 4.0).steady_s
    except RuntimeError as error:  # a kernel that does not take these inputs, or is not there
        job.record.note(name, f"does not run here: {str(error).splitlines()[0][:200]}")
        return
    right = finite and max(errors.values()) < TOLERANCE
    job.record.figure(f"{name}, largest relative error", max(errors.values()), "", right=right, finite=finite, **errors)
    _times(job, f"{name}, forward", one_way, tflops(query.shape, key.shape[2], back=False))
    _times(job, f"{name}, forward + backward", two_ways, tflops(query.shape, key.shape[2], back=True))


def _times(job: Job, name: str, seconds: Figure, work: float) -> None:
    job.record.figure(name, seconds.scaled(lambda value: 1e3 * value), "ms", tflops_per_s=work / seconds.median)

"""Choose the fastest attention kernel of torch on this device by timing them: GPUs and versions differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
ROUNDS = 3

Candidate = TypeVar("Candidate")


def fastest(candidates: Sequence[Candidate], measure: Callable[[Candidate], float]) -> list[Candidate]:
    """The candidates that run here, the fastest first.

    Args:
        candidates: to be measured.
        measure: seconds of one of them; raises RuntimeError where it does not run.
    """
    seconds: dict[Candidate, float] = {}
    for candidate in candidates:
        try:
            seconds[candidate] = measure(candidate)
        except RuntimeError:
            continue
    return sorted(seconds, key=seconds.__getitem__)


def rank_kernels(num_heads: int, num_tokens: int, head_width: int, device: torch.device) -> list[str]:
    """Names of the kernels that run on a device for the self-attention of one clip, the fastest first.

    `math` is left out: it materialises the weight of every token for every other.
    """
    return fastest(
        [name for name in KERNELS if name != "math"],
        lambda kernel: time_kernel(kernel, num_heads, num_tokens, head_width, device),
    )


@contextmanager
def use_kernels(order: Sequence[str]) -> Iterator[None]:
    """Prefer kernels in this order, with `math` as the last resort; an empty order leaves the choice to torch."""
    if not order:
        yield
        return
    with sdpa_kernel([KERNELS[name] for name in (*order, "math")], set_priority=True):
        yield


def time_kernel(kernel: str, num_heads: int, num_tokens: int, head_width: int, device: torch.device) -> float:
    """Least seconds of one forward and backward pass of attention in bfloat16, after a warm-up.

    Raises:
        RuntimeError: this kernel does not run here.
    """
    shape = (1, num_tokens, num_heads, head_width)  # models have heads last, kernels take them before the tokens
    query, key, value, output_grad = (
        torch.randn(shape, dtype=torch.bfloat16, device=device, requires_grad=True).transpose(1, 2) for _ in range(4)
    )
    seconds = []
    with sdpa_kernel(KERNELS[kernel]):
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            functional.scaled_dot_product_attention(query, key, value).backward(output_grad)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    return min(seconds[1:])

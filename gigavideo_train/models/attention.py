"""Which of torch's attention kernels is fastest here: they are tried, since cards and versions differ."""

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
    """Candidates that can run here, by the seconds they take; `measure` raises RuntimeError for one that cannot."""
    seconds: dict[Candidate, float] = {}
    for candidate in candidates:
        try:
            seconds[candidate] = measure(candidate)
        except RuntimeError:
            continue
    return sorted(seconds, key=seconds.__getitem__)


def kernels(num_heads: int, num_tokens: int, width: int, device: torch.device) -> list[str]:
    """Those that run on a device for self-attention of one clip, the fastest first.

    `math` is not tried: it holds every token's weight for every other.
    """
    return fastest(
        [name for name in KERNELS if name != "math"],
        lambda kernel: seconds(kernel, num_heads, num_tokens, width, device),
    )


@contextmanager
def preferred(order: Sequence[str]) -> Iterator[None]:
    """Attention by the first of some kernels that bears its inputs, or by plain arithmetic; as torch likes, if none."""
    if not order:
        yield
        return
    with sdpa_kernel([KERNELS[name] for name in (*order, "math")], set_priority=True):
        yield


def seconds(kernel: str, num_heads: int, num_tokens: int, width: int, device: torch.device) -> float:
    """The least time of attention there and back, after a first one; bfloat16, as on the way through a model.

    Raises:
        RuntimeError: this kernel does not run here.
    """
    shape = (1, num_tokens, num_heads, width)  # models have heads last, and kernels want them before the tokens
    query, key, value, slope = (
        torch.randn(shape, dtype=torch.bfloat16, device=device, requires_grad=True).transpose(1, 2) for _ in range(4)
    )
    took = []
    with sdpa_kernel(KERNELS[kernel]):
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            functional.scaled_dot_product_attention(query, key, value).backward(slope)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            took.append(time.perf_counter() - began)
    return min(took[1:])

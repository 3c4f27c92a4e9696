"""Choose torch's attention kernels on this GPU: of those that compute the right result, the fastest first.

    with use_kernels(choose(shapes, device).order):
        ...

A kernel can be fast and wrong: cuDNN's returned NaN gradients on Hopper for some lengths with a mask. So each kernel
runs forward and backward at the shapes of the model, and is taken only if output and gradients are finite and agree
with those of another kernel. Generators and gv-train share this choice. It is kept in a file of this machine and enters
no dataset: the kernel does not decide what a video is, only how its sums are rounded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import attention as torch_attention
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from gigavideo_data.io.atomic import write_durably

log = logging.getLogger(__name__)

FLASH_3, MATH = "flash3", "math"
FLASH_3_MODULE = "flash_attn_interface"
KERNELS = {
    FLASH_3: SDPBackend.FLASH_ATTENTION,  # FlashAttention 3 takes the place of torch's flash kernel
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    MATH: SDPBackend.MATH,
}
RESULTS = ("output", "dq", "dk", "dv")
TOLERANCE = 0.03  # relative, of two kernels in bfloat16; right ones differ by 0.003 (benchmarks/gpu.md)
ROUNDS = 3
MATH_BYTES = 2 * 2**30  # `math` holds the float32 weight of every key for every query


class Shape(NamedTuple):
    """One call of attention for one clip; `masked` calls have an additive mask of the keys."""

    num_heads: int
    num_queries: int
    num_keys: int
    head_width: int
    masked: bool = False


class Trial(NamedTuple):
    """What a kernel returned: the tensors of `RESULTS`, and the seconds of one forward and backward pass."""

    results: Sequence[torch.Tensor]
    seconds: float


class Choice(NamedTuple):
    """Names of `KERNELS` to use, the best first, and why others that run here are not used."""

    order: list[str]
    refused: dict[str, str]

    @property
    def note(self) -> str:
        """One sentence for the log."""
        why = "; ".join(f"{name} is not used: {reason}" for name, reason in self.refused.items())
        used = f"{self.order[0]}, the fastest that is right" if self.order else "torch's own choice"
        return f"attention kernel: {used}" + (f" ({why})" if why else "")


def shapes_of(num_heads: int, head_width: int, num_tokens: int, num_texts: int, *, masked: bool) -> list[Shape]:
    """Self-attention of `num_tokens`, and cross-attention to `num_texts` text tokens, with a mask if `masked`."""
    cross = Shape(num_heads, num_tokens, num_texts, head_width, masked)
    return [Shape(num_heads, num_tokens, num_tokens, head_width), cross]


def choose(shapes: Sequence[Shape], device: torch.device, file: Path | None = None) -> Choice:
    """The kernels for attention of these shapes; measured once per GPU, torch version and shapes.

    Args:
        shapes: the most expensive one first.
        device: torch chooses on anything but a GPU.
        file: where results are kept; None is `gigavideo/attention.json` in the user's cache folder.
    """
    if device.type != "cuda":
        return Choice([], {})
    file = file or _default_file()
    key = _key(shapes, device)
    known = read_choice(file, key)
    if known:
        return known
    try:
        choice = rank(list(KERNELS), shapes, lambda name, shape: run_kernel(name, shape, device))
    except torch.OutOfMemoryError:
        log.warning("attention kernels could not be compared: out of memory")
        return Choice([], {})
    if choice.refused:
        log.warning("%s", choice.note)
    keep_choice(file, key, choice)
    return choice


def rank(names: Sequence[str], shapes: Sequence[Shape], run: Callable[[str, Shape], Trial]) -> Choice:
    """The kernels that are right wherever they run, by their time at the first shape at which they run.

    `math` only confirms others: it is too slow, and always the last resort.

    Args:
        names: of kernels.
        shapes: to run them at.
        run: one kernel at one shape; raises RuntimeError where it does not run.
    """
    refused: dict[str, str] = {}
    ranks: dict[str, tuple[int, float]] = {}
    for number, shape in enumerate(shapes):
        trials: dict[str, Trial] = {}
        for name in names:
            try:
                trials[name] = run(name, shape)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                continue
        faults = {name: _fault(name, trials) for name in trials}
        refused |= {name: f"{fault} at {_words(shape)}" for name, fault in faults.items() if fault}
        ranks = {name: (number, trial.seconds) for name, trial in trials.items()} | ranks
    right = [name for name in ranks if name not in refused and name != MATH]
    order = sorted(right, key=ranks.__getitem__)
    if FLASH_3 in order and "flash" in order:  # only one of them can be torch's flash kernel
        order.remove(max(FLASH_3, "flash", key=ranks.__getitem__))
    refused.pop(MATH, None)
    return Choice(order, refused)


def _fault(name: str, trials: dict[str, Trial]) -> str | None:
    """What is wrong with the results of a kernel; None if they are finite and those of another kernel agree."""
    own = trials[name]
    odd = [what for what, tensor in zip(RESULTS, own.results, strict=True) if not tensor.isfinite().all()]
    if odd:
        return f"{', '.join(odd)} not finite"
    if any(_agree(own, other) for other_name, other in trials.items() if other_name != name):
        return None
    return "no other kernel agrees"


def _agree(one: Trial, other: Trial) -> bool:
    pairs = zip(one.results, other.results, strict=True)
    return all(float((a.float() - b.float()).norm()) <= TOLERANCE * float(b.float().norm()) for a, b in pairs)


def _words(shape: Shape) -> str:
    return f"{shape.num_queries} x {shape.num_keys} tokens" + (" with a mask" if shape.masked else "")


@contextmanager
def use_kernels(order: Sequence[str]) -> Iterator[None]:
    """Prefer kernels in this order, with `math` as the last resort; an empty order leaves the choice to torch."""
    with ExitStack() as stack:
        if FLASH_3 in order:
            stack.enter_context(flash_3())
        if order:
            stack.enter_context(sdpa_kernel([KERNELS[name] for name in (*order, MATH)], set_priority=True))
        yield


@contextmanager
def flash_3() -> Iterator[None]:
    """Let torch's flash kernel be FlashAttention 3, forward and backward.

    Raises:
        RuntimeError: this torch has none, or the package flash_attn_interface is not installed.
    """
    try:
        torch_attention.activate_flash_attention_impl("FA3")
    except (AttributeError, ImportError, ValueError) as error:
        raise RuntimeError(f"FlashAttention 3 does not run here: {error}") from error
    try:
        yield
    finally:
        torch_attention.restore_flash_attention_impl()


def run_kernel(name: str, shape: Shape, device: torch.device) -> Trial:
    """Run attention in bfloat16 by one kernel, forward and backward: the least of several times, after a warm-up.

    Of each result the first and the last head are returned, and a value that is not finite in any other head.

    Raises:
        RuntimeError: this kernel does not run here; `math` also where its weights would take too much memory.
    """
    heads, queries, keys, width, masked = shape
    if name == MATH and 4 * heads * queries * keys > MATH_BYTES:
        raise RuntimeError("too much memory")
    generator = torch.Generator(device).manual_seed(0)

    def draw(num_tokens: int) -> torch.Tensor:  # models have heads last, kernels take them before the tokens
        drawn = torch.randn((1, num_tokens, heads, width), generator=generator, device=device)
        return drawn.bfloat16().transpose(1, 2).requires_grad_()

    query, output_grad, key, value = draw(queries), draw(queries).detach(), draw(keys), draw(keys)
    mask = None
    if masked:  # of the last keys, as a padded text has it
        mask = torch.zeros((1, heads, 1, keys), dtype=torch.bfloat16, device=device)
        mask[..., keys - keys // 4 :] = -10_000.0
    seconds = []
    with flash_3() if name == FLASH_3 else nullcontext(), sdpa_kernel(KERNELS[name]):
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            output = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            gradients = torch.autograd.grad(output, (query, key, value), output_grad)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    return Trial([_sample(tensor.detach()) for tensor in (output, *gradients)], min(seconds[1:]))


def _sample(tensor_BHND: torch.Tensor) -> torch.Tensor:
    """The first and the last head; NaN if a value of the whole tensor is not finite."""
    sample = tensor_BHND[:, [0, -1]].float()
    return sample if tensor_BHND.isfinite().all() else torch.full_like(sample, torch.nan)


def _default_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "gigavideo" / "attention.json"


def _key(shapes: Sequence[Shape], device: torch.device) -> str:
    """Everything that decides which kernels run, are right, and are fast."""
    packages = importlib.metadata.packages_distributions().get(FLASH_3_MODULE, [])
    installed = importlib.util.find_spec(FLASH_3_MODULE) is not None
    flash_3 = " ".join(map(importlib.metadata.version, packages)) or ("unknown" if installed else "none")
    gpu = torch.cuda.get_device_name(device)
    versions = f"torch {torch.__version__}, cudnn {torch.backends.cudnn.version()}, flash3 {flash_3}"
    return f"{gpu}, {versions}: {', '.join(str(tuple(shape)) for shape in shapes)}"


def read_choice(file: Path, key: str) -> Choice | None:
    """A kept choice; None if there is none, or the file is damaged."""
    try:
        entry = json.loads(file.read_text("utf-8"))[key]
        choice = Choice([str(name) for name in entry["order"]], {str(k): str(v) for k, v in entry["refused"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return choice if KERNELS.keys() >= {*choice.order} else None


def keep_choice(file: Path, key: str, choice: Choice) -> None:
    """Add a choice to the file, which is written anew if it is damaged. A file that cannot be written is left out."""
    try:
        kept = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}
    kept = kept if isinstance(kept, dict) else {}
    content = json.dumps(kept | {key: choice._asdict()}, indent=1)
    try:
        write_durably(file, content.encode("utf-8"))
    except OSError as error:
        log.info("the choice of attention kernels is not kept: %s", error)

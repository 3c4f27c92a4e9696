"""What is done to a transformer block by block before it is trained: recomputed, compiled, sharded.

Each block's own `forward` is replaced, not the block, so that names of weights stay those of diffusers. What shards
works around it, in the hooks of the block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

# Most of a long clip's FLOPs, and one tensor as wide as the residual stream: to keep it is cheap, to recompute it dear.
ATTENTION = [
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]


def recompute(blocks: Iterable[nn.Module], mode: str) -> None:
    """Keep less than all activations for the way back.

    Args:
        blocks: of one transformer.
        mode: `none` keeps all; `selective` each block's input and its attention's outputs; `full` the input alone.
    """
    if mode == "none":
        return
    contexts = {"context_fn": partial(create_selective_checkpoint_contexts, _policy)} if mode == "selective" else {}

    def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
        # A function, no partial: torch.compile would pass over one of torch's own.
        return lambda *inputs, **named: checkpoint(
            forward, *inputs, use_reentrant=False, preserve_rng_state=False, **contexts, **named
        )

    for block in blocks:
        block.forward = recomputed(block.forward)


def _policy(_context: object, op: object, *_args: object, **_kwargs: object) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE


def compiled(blocks: Iterable[nn.Module]) -> None:
    """Compile each block as it is now, recomputation included; they are equal, so they share one compilation."""
    # An entry for each size, with and without gradients; at the limit, blocks would go on uncompiled without a word.
    torch._dynamo.config.recompile_limit = 64
    for block in blocks:
        block.forward = torch.compile(block.forward)


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Count FLOPs, attention on a CPU included.

    Blocks are not compiled meanwhile: what torch meets under its counter for the first time it never compiles again.
    """

    def attended(query: torch.Size, key: torch.Size, value: torch.Size, *_args: object, **_named: object) -> int:
        return sdpa_flop_count(query, key, value)

    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attended}
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        yield counter


def shard(transformer: nn.Module, blocks: Iterable[nn.Module], mesh: DeviceMesh, *, offload: bool) -> None:
    """Divide weights, and so gradients and optimiser state, over processes; a block is whole only while it computes.

    Gradients are summed, not averaged. On a GPU a block is put together in bfloat16, the shards stay float32, and
    gradients are summed in float32. Inputs are left as they are: times and places do not bear bfloat16.

    Args:
        transformer: on the CPU; its shards come to lie on the devices of the mesh, one block after the other.
        blocks: of it.
        mesh: of all processes.
        offload: shards, gradients and optimiser stay in the CPU's memory.
    """
    # It warns of writing into what the model returns, on every process; nothing here does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    on_gpu = mesh.device_type == "cuda"
    precision = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if on_gpu else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    place = CPUOffloadPolicy(pin_memory=on_gpu) if offload else OffloadPolicy()
    for module in (*blocks, transformer):
        # The transformer too lets go of what it gathered: else a pass without a way back leaves it with weights that
        # do not change when their shards are exchanged, as those of a mean are.
        sharded: FSDPModule = fully_shard(
            module, mesh=mesh, reshard_after_forward=True, mp_policy=precision, offload_policy=place
        )
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other

"""Per-block transformations of a transformer before training: activation checkpointing, compilation, sharding.

Only the `forward` of each block is replaced, not the block, so that parameter names stay those of diffusers. FSDP2
works in the hooks of the block, around its forward.
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

# Attention takes most of the FLOPs of a long clip, and its output is one tensor as wide as the residual stream: cheap
# to keep, expensive to recompute.
ATTENTION_OPS = [
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]
MATMUL_OPS = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]  # of linear layers


def checkpoint_activations(blocks: Iterable[nn.Module], mode: str) -> None:
    """Keep fewer activations for the backward pass.

    Args:
        blocks: of one transformer.
        mode: `none` keeps all; `selective` the input of each block and the outputs of its attention; `matmuls` also the
            outputs of its linear layers; `full` only the input.
    """
    if mode == "none":
        return
    contexts: dict[str, Any] = {}
    if mode in POLICIES:
        contexts = {"context_fn": partial(create_selective_checkpoint_contexts, POLICIES[mode])}

    def checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
        # A lambda, not a partial: torch.compile does not compile a partial of torch's own function.
        return lambda *inputs, **named: checkpoint(
            forward, *inputs, use_reentrant=False, preserve_rng_state=False, **contexts, **named
        )

    for block in blocks:
        block.forward = checkpointed(block.forward)


def _save_attention(_context: object, op: object, *_args: object, **_kwargs: object) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in ATTENTION_OPS else CheckpointPolicy.PREFER_RECOMPUTE


def _save_matmuls(_context: object, op: object, *_args: object, **_kwargs: object) -> CheckpointPolicy:
    saved = op in ATTENTION_OPS or op in MATMUL_OPS
    return CheckpointPolicy.MUST_SAVE if saved else CheckpointPolicy.PREFER_RECOMPUTE


POLICIES = {"matmuls": _save_matmuls, "selective": _save_attention}


def store_as_bfloat16(blocks: Iterable[nn.Module]) -> None:
    """Store the weights of linear layers of frozen blocks in bfloat16, to which autocast rounds them in any case.

    Everything else stays float32 as autocast computes it: norms, modulation, and what is outside of blocks, such as the
    time embedder. So a copy computes what its float32 original computes under autocast, with about half of its memory.
    """
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile each block, activation checkpointing included. Blocks are equal, so they share one compilation."""
    # One entry per clip size, with and without gradients. Above the limit blocks would silently run uncompiled.
    torch._dynamo.config.recompile_limit = 64
    for block in blocks:
        block.forward = torch.compile(block.forward)


@contextmanager
def count_flops() -> Iterator[FlopCounterMode]:
    """Count FLOPs, including attention on a CPU.

    Blocks run eagerly meanwhile: a block whose first call is under the counter would never be compiled.
    """

    def count_attention(query: torch.Size, key: torch.Size, value: torch.Size, *_args: object, **_named: object) -> int:
        return sdpa_flop_count(query, key, value)

    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: count_attention}
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        yield counter


def shard(transformer: nn.Module, blocks: Iterable[nn.Module], mesh: DeviceMesh, *, offload: bool) -> None:
    """Shard weights, gradients and optimizer state over processes with FSDP2; a block is gathered while it computes.

    Gradients are summed, not averaged. Weights are gathered and gradients are reduced in float32, so that a block
    computes what it computes on one GPU: FSDP2 has one dtype for all weights of a block, and in bfloat16 the modulation
    and the scales of norms would be rounded, too. Inputs keep their dtype as well.

    Args:
        transformer: on the CPU; its shards move to the devices of the mesh one block after the other.
        blocks: of it.
        mesh: of all processes.
        offload: shards, gradients and optimizer state stay in CPU memory.
    """
    # FSDP2 warns, on every process, about writing into the output of the model; nothing here does that.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    on_gpu = mesh.device_type == "cuda"
    precision = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    policy = CPUOffloadPolicy(pin_memory=on_gpu) if offload else OffloadPolicy()
    for module in (*blocks, transformer):
        # The transformer is resharded too. Otherwise a pass without a backward leaves its gathered weights in place,
        # and they would not change when the shards are swapped, as for the EMA weights.
        sharded: FSDPModule = fully_shard(
            module, mesh=mesh, reshard_after_forward=True, mp_policy=precision, offload_policy=policy
        )
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo supports no other reduction

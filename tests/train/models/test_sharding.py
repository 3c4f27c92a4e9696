"""Sharding by FSDP2, here with one process."""

import copy

import torch
from diffusers import WanTransformer3DModel

from gigavideo_data.models.precision import keep_float32
from gigavideo_train.distributed.world import World
from gigavideo_train.models import blocks
from tests.data.models.test_precision import INPUTS, tiny_transformer


def test_a_sharded_model_computes_under_autocast_what_the_whole_one_computes() -> None:
    whole = tiny_transformer()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))  # nothing is a number of bfloat16
    sharded = copy.deepcopy(whole)

    def result(transformer: WanTransformer3DModel) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            predicted = transformer(**INPUTS)[0]
        predicted.square().mean().backward()
        gradients = [parameter.grad for parameter in transformer.parameters()]
        return [predicted.detach(), *(unsharded(gradient) for gradient in gradients)]

    def unsharded(gradient: torch.Tensor | None) -> torch.Tensor:
        assert gradient is not None
        return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient

    mesh = World(0, 1, torch.device("cpu")).mesh()
    try:
        for transformer in (whole, sharded):
            keep_float32(transformer)
        blocks.shard(sharded, list(sharded.blocks), mesh, offload=False)
        (ours, *our_gradients), (theirs, *their_gradients) = result(sharded), result(whole)
        assert torch.equal(ours, theirs)
        for one, other in zip(our_gradients, their_gradients, strict=True):  # that of the text has other sums
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    finally:
        torch.distributed.destroy_process_group()

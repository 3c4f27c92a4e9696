"""bfloat16 computation of a transformer with float32 weights: what stays float32."""

import copy
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from gigavideo_data.models.precision import compute_in_bfloat16, keep_float32

INPUTS: dict[str, Any] = {
    "hidden_states": torch.ones(1, 8, 2, 4, 4),
    "timestep": torch.tensor([412.3]),
    "encoder_hidden_states": torch.linspace(-1, 1, 6 * 16).view(1, 6, 16),
    "return_dict": False,
}


def tiny_transformer() -> WanTransformer3DModel:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 32, "freq_dim": 16}
    return WanTransformer3DModel(in_channels=8, out_channels=8, text_dim=16, rope_max_seq_len=32, **sizes).eval()


@pytest.fixture
def transformer() -> WanTransformer3DModel:
    return tiny_transformer()


def outputs(transformer: WanTransformer3DModel) -> dict[str, torch.Tensor]:
    """The outputs of the time embedder, of the norms of a block, and of one of its linear layers, by name."""
    found: dict[str, torch.Tensor] = {}
    for name in ("condition_embedder.time_embedder", "blocks.0.norm2", "blocks.0.attn1.to_q"):
        transformer.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: found.update({name: output})
        )
    with torch.no_grad():
        transformer(**INPUTS)
    return found


def test_the_time_embedder_stays_float32_under_autocast(transformer: WanTransformer3DModel) -> None:
    name = "condition_embedder.time_embedder"
    expected = outputs(copy.deepcopy(transformer))[name]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outputs(copy.deepcopy(transformer))[name]
        keep_float32(transformer)
        found = outputs(transformer)
    assert torch.equal(found[name], expected)
    assert not torch.equal(rounded.float(), expected)
    dtypes = {each: found[each].dtype for each in found}
    assert dtypes == {name: torch.float32, "blocks.0.norm2": torch.float32, "blocks.0.attn1.to_q": torch.bfloat16}


def test_float32_weights_are_sampled_in_bfloat16_without_being_rounded(transformer: WanTransformer3DModel) -> None:
    table = transformer.blocks[0].scale_shift_table
    with torch.no_grad():
        table.copy_(table.bfloat16())
        exact = transformer(**INPUTS)[0]
        compute_in_bfloat16(transformer)
        before = transformer(**INPUTS)[0]
        assert before.dtype == torch.float32
        assert not torch.equal(before, exact)
        torch.testing.assert_close(before, exact, atol=0.02, rtol=0.02)
        small = table.abs() * 2**-12  # lost where the table is stored in bfloat16
        assert torch.equal((table + small).bfloat16(), table.bfloat16())
        table += small
        assert not torch.equal(transformer(**INPUTS)[0], before)

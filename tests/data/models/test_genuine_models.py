"""The profiles against the published models' own configurations, on the meta device: shapes and sizes, no weights."""

import diffusers
import pytest
import torch

from gigavideo_data.models.generators.diffusers_generator import FAMILIES
from gigavideo_data.models.generators.profile_table import PROFILES
from tests.support import genuine

# Latents (C, F, H, W) of a video of the profile, and the tokens that the transformer makes of them.
EXPECTED = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": ((16, 21, 60, 104), 32_760),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": ((16, 21, 60, 104), 32_760),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": ((48, 31, 44, 80), 27_280),
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": ((16, 21, 90, 160), 75_600),
    "hunyuanvideo-community/HunyuanVideo": ((16, 33, 90, 160), 118_800),
    "hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v": ((32, 31, 30, 53), 49_290),
    "zai-org/CogVideoX1.5-5B": ((16, 21, 96, 170), 44_880),
    "Lightricks/LTX-Video": ((128, 21, 16, 22), 7_392),
    "Lightricks/LTX-2": ((128, 16, 16, 24), 6_144),
}


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def text_of(model: str) -> int:
    """Width of the text embeddings."""
    _, sizes = genuine.MODELS[model]["text_encoder"]
    return sizes.get("d_model") or sizes["hidden_size"]


def forward(model: str, transformer, latents: tuple[int, ...], tokens: int) -> torch.Tensor:
    """What a transformer returns for latents of one video, called as its pipeline calls it."""
    profile, x_1CFHW, t_1 = PROFILES[model], meta(1, *latents), meta(1)
    inputs = {"timestep": t_1, "return_dict": False}
    if model == "Lightricks/LTX-Video":
        frames, height, width = latents[1:]
        text = {"encoder_hidden_states": meta(1, 128, text_of(model)), "encoder_attention_mask": meta(1, 128)}
        size = {"num_frames": frames, "height": height, "width": width}
        return transformer(hidden_states=meta(1, tokens, latents[0]), **text, **size, **inputs)[0]
    text = {"encoder_hidden_states": meta(1, profile.max_tokens, text_of(model))}
    if profile.pipeline == "HunyuanVideoPipeline":
        text |= {"encoder_attention_mask": meta(1, profile.max_tokens, dtype=torch.int64)}
        text |= {"pooled_projections": meta(1, 768), "guidance": meta(1)}
    if profile.pipeline == "CogVideoXPipeline":
        x_1CFHW = meta(1, latents[1] + 1, latents[0], *latents[2:])  # padded to a multiple of two frames
        rope = meta(tokens, transformer.config.attention_head_dim)
        text |= {"image_rotary_emb": (rope, rope)}
    if model == "Wan-AI/Wan2.2-TI2V-5B-Diffusers":
        inputs["timestep"] = meta(1, tokens)
    return transformer(hidden_states=x_1CFHW, **text, **inputs)[0]


def test_every_profile_has_a_genuine_configuration_and_a_family():
    assert set(genuine.MODELS) == set(PROFILES) - {"miniature"} == set(EXPECTED)
    for name, model in genuine.MODELS.items():
        assert PROFILES[name].pipeline == model["pipeline"]
        assert model["pipeline"] in FAMILIES
        assert hasattr(diffusers, model["pipeline"])
        assert model["source"].count("/") == 1


@pytest.mark.parametrize("model", EXPECTED)
def test_the_autoencoder_makes_the_frames_of_the_profile_of_latents_of_this_shape(model):
    profile, vae = PROFILES[model], genuine.build(model, "vae")
    channels, frames, height, width = EXPECTED[model][0]
    decoded_1CTHW = vae.decode(meta(1, channels, 3, 2, 2), return_dict=False)[0]
    assert decoded_1CTHW.shape[1:3] == (3, 1 + 2 * profile.stride)
    side = decoded_1CTHW.shape[3] // 2
    assert profile.num_frames == (frames - 1) * profile.stride + 1
    assert (profile.height, profile.width) == (height * side, width * side)


@pytest.mark.parametrize("model", [name for name in EXPECTED if PROFILES[name].pipeline in (
    "WanPipeline", "HunyuanVideoPipeline", "CogVideoXPipeline", "LTXPipeline")])  # fmt: skip
def test_the_transformer_takes_latents_and_texts_of_the_profile(model):
    latents, tokens = EXPECTED[model]
    layers = {"num_layers": 1}
    if PROFILES[model].pipeline == "HunyuanVideoPipeline":
        layers["num_single_layers"] = 1
    transformer, seen = genuine.build(model, "transformer", **layers), []
    blocks = transformer.blocks if hasattr(transformer, "blocks") else transformer.transformer_blocks
    blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args or (kwargs["hidden_states"],))[0].shape), with_kwargs=True
    )
    returned = forward(model, transformer, latents, tokens)
    assert [shape[:2] for shape in seen] == [(1, tokens)]
    assert returned.numel() == meta(1, *latents).numel() * (22 / 21 if "CogVideoX" in model else 1)


def test_the_transformer_of_hunyuanvideo_1_5_makes_one_token_of_a_place():
    model = "hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v"
    (channels, *places), tokens = EXPECTED[model]
    transformer = genuine.build(model, "transformer", num_layers=1)
    # Beside the latents: those of a first frame, and a mask; a text has neither.
    assert transformer.config.in_channels == 2 * channels + 1
    assert transformer.x_embedder(meta(1, 2 * channels + 1, *places)).shape[1] == tokens


def test_the_transformer_of_ltx_2_makes_one_token_of_a_place():
    (channels, *places), tokens = EXPECTED["Lightricks/LTX-2"]
    transformer = genuine.build("Lightricks/LTX-2", "transformer", num_layers=1)
    packed = diffusers.LTX2Pipeline._pack_latents(
        meta(1, channels, *places), transformer.config.patch_size, transformer.config.patch_size_t
    )
    assert transformer.proj_in(packed).shape[:2] == (1, tokens)


@pytest.mark.parametrize("model", [name for name in EXPECTED if PROFILES[name].split_over])
def test_heads_and_tokens_can_be_split_over_the_gpus_of_the_profile(model):
    transformer = genuine.build(model, "transformer", num_layers=1)
    assert transformer._cp_plan
    for gpus in PROFILES[model].split_over:
        assert transformer.config.num_attention_heads % gpus == EXPECTED[model][1] % gpus == 0


@pytest.mark.slow
@pytest.mark.parametrize("model", EXPECTED)
def test_the_number_of_weights_is_that_of_the_profile(model):
    sizes = {part: genuine.num_parameters(genuine.build(model, part)) / 1e9 for part in genuine.parts(model)}
    expected = PROFILES[model].parameters
    assert expected == pytest.approx({part: sizes[part] for part in expected}, rel=5e-3, abs=1e-3)
    assert sum(sizes[part] for part in sizes.keys() - expected.keys()) < 0.2, "small parts may be left out"

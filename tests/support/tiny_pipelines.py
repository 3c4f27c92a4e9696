"""Text-to-video pipelines of the genuine classes with random weights, small enough for a test, written to disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from gigavideo_data.models.generators.profiles import Profile, model_folder

WIDTH = 16  # of text, and of each head
PROFILES = {
    "wan2.2": Profile("wan2.2", 64, 96, 9, fps=24.0, max_tokens=12, steps=3, guidance=5.0),
    "hunyuan": Profile("hunyuan", 32, 48, 9, fps=24.0, max_tokens=12, steps=3, guidance=6.0),
    "cogvideox1.5": Profile("cogvideox1.5", 32, 48, 9, fps=16.0, max_tokens=12, steps=3, guidance=6.0),
    "ltx": Profile("ltx", 32, 64, 17, fps=25.0, max_tokens=12, steps=3, guidance=3.0, stride=8),
}
# Channels and places of their latents, by the models' own ratios.
LATENTS_CFHW = {
    "wan2.2": (6, 3, 4, 6),
    "hunyuan": (4, 3, 4, 6),
    "cogvideox1.5": (4, 3, 4, 6),
    "ltx": (8, 3, 1, 2),
}
# Of the channels of latents, by which Wan and LTX-Video normalise them: all different, and far from 0 and 1.
MEAN = [0.4, -0.3, 0.2, 0.5, -0.6, 0.1, -0.2, 0.3]
STD = [0.5, 1.5, 0.8, 2.0, 0.6, 1.2, 0.7, 1.8]


def build(name: str, folder: Path) -> Path:
    """Write the pipeline of a name in `PROFILES`."""
    torch.manual_seed(0)
    BUILDERS[name]().save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_folder("miniature") / "tokenizer")


def _t5(config: Any = T5Config, kind: Any = T5EncoderModel) -> Any:
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return kind(config(vocab_size=len(_tokenizer()), **sizes))


def _wan22() -> WanPipeline:
    """Wan 2.2 TI2V 5B: a time for each token, and an autoencoder that works on patches."""
    vae = AutoencoderKLWan(
        base_dim=4, decoder_base_dim=4, z_dim=6, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=MEAN[:6], latents_std=STD[:6], is_residual=True, in_channels=12, out_channels=12,
        patch_size=2, scale_factor_spatial=16,
    )  # fmt: skip
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=6, out_channels=6, text_dim=WIDTH, freq_dim=16,
        ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    return WanPipeline(
        _tokenizer(), _t5(UMT5Config, UMT5EncoderModel), vae, scheduler, transformer, expand_timesteps=True
    )


def _hunyuan() -> HunyuanVideoPipeline:
    vocabulary = len(_tokenizer())
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_attention_heads": 2}
    llama = LlamaModel(LlamaConfig(vocab_size=vocabulary, num_hidden_layers=3, **sizes))
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=vocabulary, num_hidden_layers=1, projection_dim=8, **sizes))
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, text_embed_dim=WIDTH, pooled_projection_dim=WIDTH, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    return HunyuanVideoPipeline(llama, _tokenizer(), transformer, vae, scheduler, clip, _tokenizer())


def _cogvideox() -> CogVideoXPipeline:
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=WIDTH, num_layers=2, sample_width=6, sample_height=4, sample_frames=9, patch_size=2,
        patch_size_t=2, max_text_seq_length=12, use_rotary_positional_embeddings=True, patch_bias=False,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2,
        sample_height=32, sample_width=48, invert_scale_latents=True,
    )  # fmt: skip
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    return CogVideoXPipeline(_tokenizer(), _t5(), vae, transformer, scheduler)


def _ltx() -> LTXPipeline:
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        num_layers=2, caption_channels=WIDTH,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    vae.latents_mean, vae.latents_std = torch.tensor(MEAN), torch.tensor(STD)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    return LTXPipeline(scheduler, vae, _t5(), _tokenizer(), transformer)


BUILDERS: dict[str, Callable[[], Any]] = {
    "wan2.2": _wan22,
    "hunyuan": _hunyuan,
    "cogvideox1.5": _cogvideox,
    "ltx": _ltx,
}

"""Text-to-video pipelines of the genuine classes with random weights, small enough for a test, written to disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    ClassifierFreeGuidance,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaModel,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from gigavideo_data.models.generators.profile_table import Profile, Sampler
from gigavideo_data.models.generators.profiles import model_folder

WIDTH = 16  # of text, and of each head
PROFILES = {
    "wan2.2": Profile(
        "wan2.2", 64, 96, 9, fps=24.0, max_tokens=12, steps=3, guidance=5.0, paper=Sampler(6.0, 8.0, "static")
    ),
    "wan2.2-a14b": Profile(
        "wan2.2-a14b", 32, 48, 9, fps=16.0, max_tokens=12, steps=4, guidance=4.0, low_noise_guidance=3.0,
    ),
    "hunyuan": Profile(
        "hunyuan", 32, 48, 9, fps=24.0, max_tokens=12, steps=3, guidance=6.0, pipeline="HunyuanVideoPipeline"
    ),
    "hunyuan1.5": Profile(
        "hunyuan1.5", 16, 32, 9, fps=24.0, max_tokens=1000, steps=3, guidance=6.0, stride=2,
        pipeline="HunyuanVideo15Pipeline", caches=False,
    ),
    "cogvideox1.5": Profile(
        "cogvideox1.5", 32, 48, 9, fps=16.0, max_tokens=12, steps=3, guidance=6.0, pipeline="CogVideoXPipeline"
    ),
    "ltx": Profile(
        "ltx", 32, 64, 17, fps=25.0, max_tokens=12, steps=3, guidance=3.0, stride=8, pipeline="LTXPipeline"
    ),
    "ltx2": Profile(
        "ltx2", 32, 32, 5, fps=24.0, max_tokens=12, steps=3, guidance=4.0, stride=2, pipeline="LTX2Pipeline",
        caches=False,
    ),
}  # fmt: skip
# Channels and places of their latents, by the models' own ratios.
LATENTS_CFHW = {
    "wan2.2": (6, 3, 4, 6),
    "wan2.2-a14b": (4, 3, 4, 6),
    "hunyuan": (4, 3, 4, 6),
    "hunyuan1.5": (4, 5, 4, 8),
    "cogvideox1.5": (4, 3, 4, 6),
    "ltx": (8, 3, 1, 2),
    "ltx2": (4, 3, 16, 16),
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


def _wan22_a14b() -> WanPipeline:
    """Wan 2.2 A14B: one transformer for high noise, one for low noise."""
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=MEAN[:4], latents_std=STD[:4]
    )
    experts = [
        WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=WIDTH, freq_dim=16,
            ffn_dim=32, num_layers=2, rope_max_seq_len=32,
        )
        for _ in range(2)
    ]  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    text = _t5(UMT5Config, UMT5EncoderModel)
    return WanPipeline(_tokenizer(), text, vae, scheduler, experts[0], transformer_2=experts[1], boundary_ratio=0.875)


def _hunyuan15() -> HunyuanVideo15Pipeline:
    """HunyuanVideo 1.5: guidance is a part of the pipeline, and two encoders read a text."""
    tokenizer = _tokenizer()
    # The pipeline leaves out the first 108 tokens: those of its system message, in the genuine tokenizer.
    tokenizer.chat_template = "{{ 'a ' * 108 }}{{ messages[-1]['content'] }}"
    qwen = Qwen2_5_VLTextModel(
        Qwen2_5_VLTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=3,
            num_attention_heads=2, num_key_value_heads=2,
            rope_parameters={"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
        )
    )  # fmt: skip
    glyphs = T5EncoderModel(T5Config(vocab_size=384, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_refiner_layers=1,
        mlp_ratio=2.0, text_embed_dim=WIDTH, text_embed_2_dim=WIDTH, image_embed_dim=12, rope_axes_dim=(2, 2, 4),
        target_size=16, task_type="t2v",
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(16, 16), layers_per_block=1, spatial_compression_ratio=4,
        temporal_compression_ratio=2, downsample_match_channel=False, upsample_match_channel=False,
    )  # fmt: skip
    return HunyuanVideo15Pipeline(
        qwen, tokenizer, transformer, vae, FlowMatchEulerDiscreteScheduler(shift=5.0), glyphs, ByT5Tokenizer(),
        ClassifierFreeGuidance(guidance_scale=2.0),
    )  # fmt: skip


def _ltx2() -> LTX2Pipeline:
    """LTX-2: makes a sound track beside the video."""
    tokenizer = _tokenizer()
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    gemma = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config={
                **sizes, "vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
            },
            vision_config={**sizes, "image_size": 16, "patch_size": 8},
            mm_tokens_per_image=4,
        )
    )  # fmt: skip
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=4,
        audio_cross_attention_dim=8, num_layers=2, caption_channels=WIDTH, rope_double_precision=False,
        rope_type="split",
    )  # fmt: skip
    connector = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": None}
    connectors = LTX2TextConnectors(
        caption_channels=WIDTH, text_proj_in_factor=3, connector_rope_base_seq_len=32, rope_double_precision=False,
        rope_type="split",
        **{f"{side}_connector_{key}": value for side in ("video", "audio") for key, value in connector.items()},
    )  # fmt: skip
    vae = AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1,),
        decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,), decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False), downsample_type=("spatial",), upsample_residual=(False,),
        upsample_factor=(1,), patch_size=1, decoder_causal=False,
    )  # fmt: skip
    vae.latents_mean, vae.latents_std = torch.tensor(MEAN[:4]), torch.tensor(STD[:4])
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    vocoder = LTX2Vocoder(
        in_channels=16, hidden_channels=32, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
        resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], output_sampling_rate=16000,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    return LTX2Pipeline(scheduler, vae, audio_vae, gemma, tokenizer, connectors, transformer, vocoder)


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
    "wan2.2-a14b": _wan22_a14b,
    "hunyuan": _hunyuan,
    "hunyuan1.5": _hunyuan15,
    "cogvideox1.5": _cogvideox,
    "ltx": _ltx,
    "ltx2": _ltx2,
}

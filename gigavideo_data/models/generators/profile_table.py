"""The text-to-video models that are known by name: one literal profile each. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gigavideo_data.models.generators.base import Shape


@dataclass(frozen=True)
class Sampler:
    """Sampler settings that differ from those of a model's diffusers pipeline, under a name of their own.

    Attributes:
        guidance: scale of classifier-free guidance.
        shift: of the scheduler.
        negative_prompt: what guidance moves away from.
        low_noise_guidance: of a second expert (see `Profile`).
    """

    guidance: float
    shift: float
    negative_prompt: str
    low_noise_guidance: float | None = None


@dataclass(frozen=True)
class Profile:
    """The defaults of a model, and what it needs.

    Attributes:
        name: shipped name or Hub id.
        height: px.
        width: px.
        num_frames: one more than a multiple of `stride`.
        fps: Hz.
        max_tokens: of the longest prompt.
        steps: of sampling.
        guidance: scale of classifier-free guidance.
        stride: pixel frames per latent frame.
        shift: of a scheduler that computes it from the size; None where the scheduler's configuration has it.
        batch_size: videos of one call; 1 of a model that one video keeps busy.
        pipeline: class of diffusers.
        licence: of the weights, and what it says of models that are trained on its videos.
        parameters: number in 1e9 of each part; empty of a model that fits every machine.
        working_gb: estimated memory (1e9 bytes) that the largest part needs beside its weights while it runs.
        low_noise_guidance: guidance of the expert for low noise, of a model with two; None of a model with one.
        caches: whether the library can skip its blocks (`profile: first_block_cache`).
        split_over: numbers of GPUs that may compute one video together: it takes minutes on one, the library can split
            the transformer, and both its heads and its tokens can be divided by them.
        paper: the sampler settings of the model's authors, of the recipe value `profile: paper`; None: not known.
    """

    name: str
    height: int
    width: int
    num_frames: int
    fps: float
    max_tokens: int
    steps: int
    guidance: float
    stride: int = 4
    shift: float | None = None
    batch_size: int = 1
    pipeline: str = "WanPipeline"
    licence: str = "apache-2.0"
    parameters: Mapping[str, float] = field(default_factory=dict)
    working_gb: float = 0.0
    low_noise_guidance: float | None = None
    caches: bool = True
    split_over: tuple[int, ...] = ()
    paper: Sampler | None = None

    @property
    def video_shape(self) -> Shape:
        """The shape of the model's videos."""
        return Shape(self.num_frames, self.height, self.width, self.fps)


# Of Wan 2.1's and 2.2's own code (wan/configs/shared_config.py): garish, overexposed, static, blurred, subtitles,
# style, painting, still, grey, worst quality, low quality, JPEG artefacts, ugly, mutilated, extra fingers, badly drawn
# hands and faces, deformed limbs, fused fingers, cluttered background, three legs, crowds, walking backwards.
WAN_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
_UMT5 = {"text_encoder": 5.681}
_WAN_VAE = {"vae": 0.127}
HUNYUAN_TERMS = "the Tencent Hunyuan Community License forbids improving any other model with its outputs"
LTX_TERMS = "its licence counts a model that is trained on its videos as a derivative, and governs it too"

# Sizes, lengths, steps and guidance are those of the model cards and pipelines. Working memory: the decoder's, computed
# with PyTorch's fake tensors for Wan 2.1 at 832x480 (8.7), Wan 2.2 5B (23.5) and LTX-Video (9.6), and scaled by the
# number of pixels for Wan 2.2 A14B. The others are guesses from these.
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("miniature", 48, 48, 17, fps=8.0, max_tokens=24, steps=20, guidance=3.0, batch_size=16),
        Profile(
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            480,
            832,
            81,
            fps=16.0,
            max_tokens=512,
            steps=50,
            guidance=5.0,
            parameters={"transformer": 1.419, **_UMT5, **_WAN_VAE},
            working_gb=9.0,
            paper=Sampler(6.0, 8.0, WAN_NEGATIVE),
        ),
        Profile(
            "Wan-AI/Wan2.1-T2V-14B-Diffusers",
            480,
            832,
            81,
            fps=16.0,
            max_tokens=512,
            steps=50,
            guidance=5.0,
            parameters={"transformer": 14.289, **_UMT5, **_WAN_VAE},
            working_gb=9.0,
            split_over=(2, 4, 8),
            paper=Sampler(5.0, 5.0, WAN_NEGATIVE),
        ),
        Profile(
            "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
            704,
            1280,
            121,
            fps=24.0,
            max_tokens=512,
            steps=50,
            guidance=5.0,
            parameters={"transformer": 5.0, "vae": 0.705, **_UMT5},
            working_gb=24.0,
            paper=Sampler(5.0, 5.0, WAN_NEGATIVE),
        ),
        Profile(
            "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
            720,
            1280,
            81,
            fps=16.0,
            max_tokens=512,
            steps=40,
            guidance=4.0,
            low_noise_guidance=3.0,
            parameters={"transformer": 14.289, "transformer_2": 14.289, **_UMT5, **_WAN_VAE},
            working_gb=21.0,
            split_over=(2, 4, 8),
            paper=Sampler(4.0, 12.0, WAN_NEGATIVE, low_noise_guidance=3.0),
        ),
        Profile(
            "hunyuanvideo-community/HunyuanVideo",
            720,
            1280,
            129,
            fps=24.0,
            max_tokens=256,
            steps=50,
            guidance=6.0,
            pipeline="HunyuanVideoPipeline",
            licence=HUNYUAN_TERMS,
            parameters={"transformer": 12.821, "text_encoder": 7.505, "text_encoder_2": 0.123, "vae": 0.247},
            working_gb=12.0,
        ),
        Profile(
            "hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v",
            480,
            848,
            121,
            fps=24.0,
            max_tokens=1000,
            steps=50,
            guidance=6.0,
            pipeline="HunyuanVideo15Pipeline",
            licence=HUNYUAN_TERMS,
            parameters={"transformer": 8.327, "text_encoder": 7.071, "text_encoder_2": 0.219, "vae": 1.261},
            working_gb=12.0,
            caches=False,
        ),
        Profile(
            "zai-org/CogVideoX1.5-5B",
            768,
            1360,
            81,
            fps=16.0,
            max_tokens=226,
            steps=50,
            guidance=6.0,
            pipeline="CogVideoXPipeline",
            licence="CogVideoX License",
            parameters={"transformer": 5.571, "text_encoder": 4.762, "vae": 0.216},
            working_gb=12.0,
        ),
        Profile(  # the shift: exp(0.95 + 1.1 (7392 - 1024) / 3072), of a video's 7392 patches
            "Lightricks/LTX-Video",
            512,
            704,
            161,
            fps=25.0,
            max_tokens=128,
            steps=50,
            guidance=3.0,
            stride=8,
            shift=25.3,
            pipeline="LTXPipeline",
            licence=f"LTX-Video Open Weights License; {LTX_TERMS}",
            parameters={"transformer": 1.923, "text_encoder": 4.762, "vae": 0.419},
            working_gb=10.0,
        ),
        Profile(  # the shift: exp(0.95 + 1.1 (6144 - 1024) / 3072), of a video's 6144 patches
            "Lightricks/LTX-2",
            512,
            768,
            121,
            fps=24.0,
            max_tokens=1024,
            steps=40,
            guidance=4.0,
            stride=8,
            shift=16.2,
            pipeline="LTX2Pipeline",
            licence=f"LTX-2 Community License; {LTX_TERMS}",
            parameters={"transformer": 18.876, "text_encoder": 12.203, "connectors": 1.432, "vae": 1.223},
            working_gb=10.0,
            caches=False,
        ),
    )
}

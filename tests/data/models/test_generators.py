"""Generators: genuine pipelines of every family in the table, with random weights."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import DiffusionPipeline

from gigavideo_data import heartbeat
from gigavideo_data.errors import RecipeError, RowError, RunError
from gigavideo_data.io import video
from gigavideo_data.models.attention import Shape
from gigavideo_data.models.generators import profiles
from gigavideo_data.models.generators.batch_kernels import use_batch_kernels
from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator, attention_shapes, to_uint8
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.registry import generator_spec, load_engine
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.pipeline.execution.row_adapter import run_row
from gigavideo_data.pipeline.stages import synthesis
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Generator
from tests.support import tiny_pipelines

PROMPT, SEED = "a red circle moves to the left", 7
LTX2 = {  # plain guidance, as of the release of LTX-2
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_rescale": 0.0,
    "use_cross_timestep": False,
}


@pytest.fixture(scope="module", params=tiny_pipelines.PROFILES)
def tiny(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("pipelines") / request.param
    tiny_pipelines.build(request.param, folder)
    (folder / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": request.param}))
    return request.param, folder


@pytest.fixture(autouse=True)
def small_profiles(monkeypatch):
    for name, profile in tiny_pipelines.PROFILES.items():
        monkeypatch.setitem(PROFILES, name, profile)


def load(folder, **settings):
    generator = Generator(model=str(folder), negative_prompt="blurred", **settings)
    return load_engine("generator", generator_spec(generator).settings)


def called_plainly(name, folder, **extra):
    """The pipeline as its model card calls it: texts in, pictures out."""
    profile = tiny_pipelines.PROFILES[name]
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"guidance_scale": profile.guidance, "max_sequence_length": profile.max_tokens}
    if name == "hunyuan1.5":
        pipeline.guider, options = pipeline.guider.new(guidance_scale=profile.guidance), {}
    frames = pipeline(
        prompt=PROMPT,
        height=profile.height,
        width=profile.width,
        num_frames=profile.num_frames,
        num_inference_steps=profile.steps,
        generator=torch.Generator().manual_seed(SEED),
        **options,
        **({} if name == "hunyuan" else {"negative_prompt": "blurred"}),
        **({"frame_rate": profile.fps} if name in ("ltx", "ltx2") else {}),
        **({"guidance_scale_2": profile.low_noise_guidance} if profile.low_noise_guidance else {}),
        **(LTX2 if name == "ltx2" else {}),
        **extra,
    ).frames
    return frames, pipeline


def test_a_video_is_what_the_pipeline_makes_of_the_texts(tiny):
    name, folder = tiny
    profile = tiny_pipelines.PROFILES[name]
    beats: list[int] = []
    with heartbeat.listening(lambda: beats.append(1)):
        (made,) = load(folder).generate([PROMPT], [SEED])
    assert len(beats) >= profile.steps
    frames_1THWC, _ = called_plainly(name, folder, output_type="np")
    assert made.frames_THWC.shape == (profile.num_frames, profile.height, profile.width, 3)
    assert made.frames_THWC.std() > 1, "a picture of one colour proves nothing"
    np.testing.assert_allclose(made.frames_THWC, frames_1THWC[0] * 255, atol=0.5 + 1e-3)
    assert made.fps == profile.fps


def test_the_latents_that_are_kept_are_those_that_were_decoded(tiny):
    name, folder = tiny
    (made,) = load(folder).generate([PROMPT], [SEED])
    assert tuple(made.latents_CFHW.shape) == tiny_pipelines.LATENTS_CFHW[name]
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    latents_1CFHW = made.latents_CFHW[None]
    with torch.inference_mode():
        if name == "cogvideox1.5":
            decoded_1CTHW = pipeline.decode_latents(latents_1CFHW.transpose(1, 2))
        elif name.startswith("hunyuan"):
            pipeline.vae.enable_tiling()
            decoded_1CTHW = pipeline.vae.decode(latents_1CFHW / pipeline.vae.config.scaling_factor).sample
        else:
            mean, std = (
                torch.tensor(of_channels[: latents_1CFHW.shape[1]]).view(1, -1, 1, 1, 1)
                for of_channels in (tiny_pipelines.MEAN, tiny_pipelines.STD)
            )
            decoded_1CTHW = pipeline.vae.decode(latents_1CFHW * std + mean).sample
    frames_THWC = ((decoded_1CTHW[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 3, 0).numpy()
    np.testing.assert_allclose(made.frames_THWC, frames_THWC, atol=0.5 + 1e-3)


def test_seed_and_prompt_decide_a_video_and_neighbours_do_not(tiny):
    _, folder = tiny
    engine = load(folder)
    (first,) = engine.generate([PROMPT], [SEED])
    (other,) = engine.generate([PROMPT], [SEED + 1])
    engine.generate(["a blue square"], [SEED])
    (again,) = engine.generate([PROMPT], [SEED])
    assert torch.equal(first.latents_CFHW, again.latents_CFHW)
    np.testing.assert_array_equal(first.frames_THWC, again.frames_THWC)
    assert not torch.equal(first.latents_CFHW, other.latents_CFHW)


def test_a_batch_of_every_family_has_the_videos_of_its_rows_in_order(tiny, monkeypatch):
    """Up to rounding: here the sizes are odd, and no model of these families has several videos per call."""
    name, folder = tiny
    monkeypatch.setitem(PROFILES, name, replace(tiny_pipelines.PROFILES[name], batch_size=3))
    engine = load(folder)
    prompts, seeds = ["a red circle", "two blue bars move up and then to the left", "a bar"], [7, 8, 7]
    alone = [engine.generate([prompt], [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    for number in (2, 3):
        for one, made in zip(alone[:number], engine.generate(prompts[:number], seeds[:number]), strict=True):
            torch.testing.assert_close(made.latents_CFHW, one.latents_CFHW, atol=1e-3, rtol=1e-3)
            np.testing.assert_allclose(made.frames_THWC.astype(int), one.frames_THWC, atol=1)
    assert (alone[0].latents_CFHW - alone[1].latents_CFHW).abs().max() > 0.1
    assert (alone[0].latents_CFHW - alone[2].latents_CFHW).abs().max() > 1e-2, "the prompt matters, too"


def test_a_row_of_the_miniature_has_the_same_bytes_at_every_place_of_every_batch():
    engine = load_engine("generator", described(Generator(steps=2)))
    words = ["a red circle moves to the left", "two blue bars", "a green pillar falls and bounces", ""]
    rows = [(words[number % 4], number) for number in range(engine.batch_size)]

    def made(batch):
        videos = engine.generate([prompt for prompt, _ in batch], [seed for _, seed in batch])
        return [(each.latents_CFHW.numpy().tobytes(), each.frames_THWC.tobytes()) for each in videos]

    whole = dict(zip(rows, made(rows), strict=True))
    assert len(set(whole.values())) == len(rows) == 16
    shuffled = [rows[at] for at in np.random.default_rng(0).permutation(len(rows))]
    for batch in (shuffled, rows[::-1][:5], [rows[9]], [rows[9]] * 16):
        assert made(batch) == [whole[row] for row in batch]


def test_attention_kernels_are_chosen_for_the_calls_that_a_pipeline_makes(tiny, monkeypatch):
    _, folder = tiny
    engine = load(folder)
    seen: set[Shape] = set()
    plain = torch.nn.functional.scaled_dot_product_attention
    heads = engine.pipeline.transformer.config.num_attention_heads

    def recorder(query, key, value, attn_mask=None, **options):
        if query.shape[1] == heads and query.shape[-1] == engine.pipeline.transformer.config.attention_head_dim:
            seen.add(Shape(heads, query.shape[2], key.shape[2], query.shape[3], attn_mask is not None))
        return plain(query, key, value, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorder)
    engine.generate([PROMPT], [SEED])
    expected = attention_shapes(engine.pipeline, engine.family, engine.profile)
    assert seen >= {*expected}, "a text encoder of the same width may make other calls"


def test_only_the_miniature_makes_several_videos_in_one_call(tiny):
    assert {name for name, profile in PROFILES.items() if profile.batch_size > 1} == {"miniature"}
    assert profiles.batch_size_of(described(Generator())) == 16
    cached = described(Generator(profile="first_block_cache"))
    assert profiles.batch_size_of(cached) == 1, "the cache compares whole batches"
    assert profiles.batch_size_of({"backend": "some-plugin", "profile": None}) == 1
    _, folder = tiny
    assert load(folder).batch_size == 1


def test_each_text_is_encoded_once(tiny, monkeypatch):
    name, folder = tiny
    encoded: list[str] = []
    family = DiffusionPipeline.from_pretrained(folder).__class__
    plain = family.encode_prompt

    def counted(self, prompt=None, *args, **kwargs):
        if kwargs.get("prompt_embeds") is None:
            encoded.append(prompt)
        return plain(self, prompt, *args, **kwargs)

    monkeypatch.setattr(family, "encode_prompt", counted)
    engine = load(folder)
    for seed in range(3):
        engine.generate([PROMPT], [seed])
    assert encoded == ([PROMPT] if name == "hunyuan" else ["blurred", PROMPT])


def test_the_first_block_cache_changes_videos_and_is_part_of_the_identity(tiny, monkeypatch):
    name, folder = tiny
    monkeypatch.setattr(
        "gigavideo_data.models.generators.diffusers_generator.FIRST_BLOCK_THRESHOLD", 10.0
    )  # noise changes a lot
    generator = Generator(model=str(folder), profile="first_block_cache", steps=8)
    if not PROFILES[name].caches:
        with pytest.raises(RecipeError, match=f"diffusers cannot skip blocks of {name}; .* one of miniature, Wan"):
            generator_spec(generator)
        return
    assert generator_spec(generator).identity["profile"] == "first_block_cache"
    cached, plain = load(folder, profile="first_block_cache", steps=8), load(folder, steps=8)
    first, again, other = (engine.generate([PROMPT], [SEED])[0].latents_CFHW for engine in (cached, cached, plain))
    assert torch.equal(first, again), "nothing is left of the last one"
    assert not torch.equal(first, other)


def test_a_pipeline_of_another_family_is_refused_with_those_that_are_known(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    (tmp_path / profiles.MODEL_INFO_FILE).write_text('{"profile": "miniature"}')
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "EulerDiscreteScheduler"}')
    with pytest.raises(RunError, match=r"OtherPipeline is not one of WanPipeline"):
        load(tmp_path)


def test_the_stage_keeps_video_and_latents_of_every_family(tiny, tmp_path):
    """As a worker runs it: the row's record says what the file holds, and both blobs are durable."""
    name, folder = tiny
    profile, store = tiny_pipelines.PROFILES[name], Store(tmp_path)
    engine = load(folder)
    item = synthesis(EngineSpec(engine.settings, {"load": str(folder)}), PROMPT, SEED)
    assert run_row("synthesize", "key", engine, item.inputs | item.implied, store, "run", 3) == "done"
    record = store.get("synthesize", "key")
    assert record is not None, "its blobs are there and whole"
    made = video.decode(store.blob(record["blobs"]["video.mp4"]))
    assert made.frames_THWC.shape == (profile.num_frames, profile.height, profile.width, 3)
    assert (record["num_frames"], record["height"], record["width"]) == made.frames_THWC.shape[:3]
    assert record["fps"] == made.fps == profile.fps
    latents_CFHW = safetensors.torch.load(store.blob(record["blobs"]["latents.safetensors"]))["latents"]
    assert torch.equal(latents_CFHW, engine.generate([PROMPT], [SEED])[0].latents_CFHW.bfloat16())


def test_the_stage_runs_wan_2_1_as_the_miniature_is(tmp_path):
    spec, store = generator_spec(Generator(steps=2)), Store(tmp_path)
    engine = load_engine("generator", spec.settings)
    item = synthesis(spec, PROMPT, SEED)
    assert run_row("synthesize", "key", engine, item.inputs | item.implied, store, "run", 3) == "done"
    record = store.get("synthesize", "key")
    assert record is not None
    assert (record["num_frames"], record["height"], record["width"], record["fps"]) == (17, 48, 48, 8.0)
    assert record["blobs"].keys() == {"video.mp4", "latents.safetensors"}


def lora(folder: Path, prefix: str = "transformer.", extra: tuple[str, ...] = ()) -> Path:
    """A LoRA for the miniature that changes its first attention."""
    folder.mkdir()
    seeded = torch.Generator().manual_seed(0)
    size = DiffusersGenerator(described(Generator())).pipeline.transformer.blocks[0].attn1.to_q.in_features
    shapes = {"lora_A": (2, size), "lora_B": (size, 2)}
    weights = {
        f"{name}.{side}.weight": torch.randn(shape, generator=seeded)
        for name in (f"{prefix}blocks.0.attn1.to_q", *extra)
        for side, shape in shapes.items()
    }
    safetensors.torch.save_file(weights, folder / "pytorch_lora_weights.safetensors")
    return folder


def described(generator: Generator) -> dict[str, Any]:
    return generator_spec(generator).settings


def test_an_adapter_changes_the_videos(tmp_path):
    base, tuned = (
        load_engine("generator", described(Generator(steps=1, adapter=adapter))).generate([PROMPT], [SEED])[0]
        for adapter in (None, str(lora(tmp_path / "lora")))
    )
    assert not torch.equal(base.latents_CFHW, tuned.latents_CFHW)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prefix": "unet."}, "2 of its 2 weights fit no parameter of the model, such as unet.blocks.0.attn1.to_q"),
        ({"extra": ("transformer.blocks.99.attn1.to_q",)}, "2 of its 4 .* such as transformer.blocks.99.attn1"),
        ({"extra": ("transformer.blocks.0.attn9.to_q",)}, "2 of its 4 .* such as transformer.blocks.0.attn9"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_both_names(tmp_path, changes, words):
    adapter = str(lora(tmp_path / "lora", **changes))
    with pytest.raises(RunError, match=rf"adapter lora: {words}.*names such as transformer\..*\.lora_A\.weight do"):
        load_engine("generator", described(Generator(adapter=adapter)))


def test_the_kernels_for_batches_compute_what_the_ordinary_ones_do():
    pipeline = SimpleNamespace(transformer=torch.nn.Linear(24, 40), vae=torch.nn.Conv3d(3, 4, 3))
    x_BND, x_BCTHW = torch.randn(5, 7, 24), torch.randn(2, 3, 4, 5, 6)
    before = pipeline.transformer(x_BND), pipeline.vae(x_BCTHW)
    use_batch_kernels(pipeline)
    with torch.inference_mode():
        after = pipeline.transformer(x_BND), pipeline.vae(x_BCTHW)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_named_sampler_of_a_model_is_recorded_and_used(tmp_path):
    folder = tmp_path / "pipeline"
    tiny_pipelines.build("wan2.2", folder)
    (folder / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": "wan2.2"}))
    generator = Generator(model=str(folder), profile="paper")
    identity = generator_spec(generator).identity
    recorded = {name: identity[name] for name in ("profile", "shift", "guidance", "negative_prompt")}
    assert recorded == {"profile": "paper", "shift": 8.0, "guidance": 6.0, "negative_prompt": "static"}
    own = generator_spec(generator.model_copy(update={"guidance": 1.0, "negative_prompt": "blurred"})).identity
    assert (own["guidance"], own["negative_prompt"], own["shift"]) == (1.0, "blurred", 8.0)
    engine = load_engine("generator", described(generator))
    assert engine.pipeline.scheduler.config.flow_shift == 8.0
    (made,) = engine.generate([PROMPT], [SEED])
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, flow_shift=8.0)
    frames_1THWC = pipeline(
        PROMPT, "static", height=64, width=96, num_frames=9, num_inference_steps=3, guidance_scale=6.0,
        generator=torch.Generator().manual_seed(SEED), max_sequence_length=12,
    ).frames  # fmt: skip
    np.testing.assert_allclose(made.frames_THWC, frames_1THWC[0] * 255, atol=0.5 + 1e-3)


def test_the_settings_of_wan_s_authors_are_those_of_the_named_sampler_of_1_3b():
    identity = {
        name: getattr(PROFILES["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"].paper, name)
        for name in ("guidance", "shift", "negative_prompt")
    }
    assert (identity["guidance"], identity["shift"]) == (6.0, 8.0)
    assert identity["negative_prompt"].startswith("色调艳丽，过曝，静态")
    assert len(identity["negative_prompt"]) > 100


@pytest.mark.parametrize(("guidance", "second"), [(None, 3.0), (2.0, 2.0)])
def test_both_experts_of_wan_2_2_are_used_each_with_its_guidance(tmp_path, guidance, second):
    folder = tmp_path / "pipeline"
    tiny_pipelines.build("wan2.2-a14b", folder)
    (folder / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": "wan2.2-a14b"}))
    engine = load(folder, guidance=guidance)
    calls: list[str] = []
    for name in ("transformer", "transformer_2"):
        getattr(engine.pipeline, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    engine.generate([PROMPT], [SEED])
    assert calls == sorted(calls)
    assert set(calls) == {"transformer", "transformer_2"}
    assert engine.pipeline._guidance_scale_2 == second


def test_frames_are_rounded_as_numpy_rounds_them():
    frames_TCHW = torch.linspace(0, 1, 5 * 3 * 64 * 64).reshape(5, 3, 64, 64)
    expected = (frames_TCHW.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(to_uint8(frames_TCHW), expected)
    np.testing.assert_array_equal(to_uint8(torch.full((1, 3, 2, 2), 0.5, dtype=torch.bfloat16)), 128)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_video_with_values_that_are_not_finite_is_rejected(value):
    frames_TCHW = torch.zeros(2, 3, 4, 4)
    frames_TCHW[1, 2, 3, 3] = value
    with pytest.raises(RowError, match="not finite"):
        to_uint8(frames_TCHW)

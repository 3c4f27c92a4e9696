"""Each model family against its own diffusers pipeline: inputs, sampling, encoding and decoding."""

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, LTXPipeline
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from huggingface_hub.utils._paths import filter_repo_objects
from safetensors.torch import load_file
from typer.testing import CliRunner

from gigavideo_data.errors import RecipeError, RunError
from gigavideo_data.io import video
from gigavideo_data.models.generators import profiles
from gigavideo_data.models.generators.profile_table import PROFILES, Profile
from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_train.cli import app
from gigavideo_train.losses import flow
from gigavideo_train.models import blocks
from gigavideo_train.models.base import Condition, Family, make_condition
from gigavideo_train.models.registry import load_family, pipeline_class
from gigavideo_train.monitoring.samples import cfg_velocity, sample_latents
from tests.support import tiny_pipelines
from tests.support.pipelines import load_with_encoders
from tests.support.train_set import generated_by, row, training_set

PROMPT = "a red circle moves right"
FAMILIES = ("miniature", "wan2.2", "ltx")  # the miniature is a Wan 2.1
STEPS = 4


class Tiny(NamedTuple):
    """A family's module and one of its pipelines."""

    name: str
    folder: Path
    pipeline: Any
    family: Family
    profile: Profile

    def condition(self, prompts: list[str], fps: list[float]) -> Condition:
        texts_LD = [self.family.encode_prompt(self.pipeline, prompt, self.profile.max_tokens) for prompt in prompts]
        return make_condition(texts_LD, self.profile.max_tokens, fps)

    def frames(self, seed: int) -> np.ndarray:
        """A clip of the profile's size in smooth colours."""
        profile, rng = self.profile, np.random.default_rng(seed)
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 4, 4, 4)))
        shape = (profile.num_frames, profile.height, profile.width)
        fine_1CTHW = torch.nn.functional.interpolate(coarse, shape, mode="trilinear")
        return fine_1CTHW[0].permute(1, 2, 3, 0).round().byte().numpy()


@pytest.fixture(autouse=True)
def small_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, profile in tiny_pipelines.PROFILES.items():
        monkeypatch.setitem(PROFILES, name, profile)


@pytest.fixture(scope="module", params=FAMILIES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = request.param
    if name == "miniature":
        return name, model_folder(name)
    folder = tiny_pipelines.build(name, tmp_path_factory.mktemp("pipelines") / name)
    (folder / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": name}))
    return name, folder


@pytest.fixture
def tiny(built: tuple[str, Path]) -> Tiny:
    name, folder = built
    pipeline = load_with_encoders(folder)
    pipeline.set_progress_bar_config(disable=True)
    return Tiny(name, folder, pipeline, load_family(folder), PROFILES[name])


def packed(tiny: Tiny, latents_BCFHW: torch.Tensor) -> torch.Tensor:
    return tiny.pipeline._pack_latents(latents_BCFHW) if tiny.name == "ltx" else latents_BCFHW


def unpacked(tiny: Tiny, latents: torch.Tensor, like_BCFHW: torch.Tensor) -> torch.Tensor:
    return tiny.pipeline._unpack_latents(latents, *like_BCFHW.shape[2:]) if tiny.name == "ltx" else latents


def sampled(
    tiny: Tiny, clean_1CFHW: torch.Tensor, noise_1CFHW: torch.Tensor, output_type: str
) -> tuple[Any, list[dict]]:
    """The pipeline's own sampling with the velocities of an oracle: its result, and the oracle's inputs per step."""
    calls: list[dict] = []

    def oracle(**arguments: Any) -> tuple[torch.Tensor]:
        calls.append(arguments)
        return (packed(tiny, noise_1CFHW - clean_1CFHW),)

    profile, transformer = tiny.profile, tiny.pipeline.transformer
    transformer.forward, genuine = oracle, transformer.forward
    made = tiny.pipeline(
        PROMPT,
        height=profile.height,
        width=profile.width,
        num_frames=profile.num_frames,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        latents=packed(tiny, noise_1CFHW),
        max_sequence_length=profile.max_tokens,
        output_type=output_type,
        **({"frame_rate": profile.fps} if tiny.name == "ltx" else {}),
    ).frames
    transformer.forward = genuine
    assert len(calls) == STEPS
    return made, calls


def encoded(tiny: Tiny, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip's latents, and noise of their shape."""
    clean_1CFHW = tiny.family.encode_video(tiny.pipeline, tiny.frames(seed))[None].clone()
    return clean_1CFHW, torch.randn(clean_1CFHW.shape, generator=torch.Generator().manual_seed(seed))


def test_the_pipelines_own_sampler_ends_at_the_clean_latents_with_the_velocity_noise_minus_clean(tiny: Tiny) -> None:
    clean, noise = encoded(tiny)
    made, calls = sampled(tiny, clean, noise, "latent")
    torch.testing.assert_close(unpacked(tiny, made, clean), clean, atol=1e-4, rtol=1e-4)
    sigmas = tiny.pipeline.scheduler.sigmas
    for call, sigma in zip(calls, sigmas[:STEPS], strict=True):  # on its way it sees what training shows
        noisy = flow.interpolate(clean, noise, sigma[None].float())
        torch.testing.assert_close(unpacked(tiny, call["hidden_states"], clean), noisy, atol=1e-4, rtol=1e-4)


def test_sample_clips_are_sampled_as_the_pipeline_samples(tiny: Tiny) -> None:
    """With the real transformer and guidance, from the same noise."""
    _, noise = encoded(tiny)
    profile, pipeline = tiny.profile, tiny.pipeline
    expected = pipeline(
        PROMPT,
        negative_prompt="",
        height=profile.height,
        width=profile.width,
        num_frames=profile.num_frames,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        latents=packed(tiny, noise),
        max_sequence_length=profile.max_tokens,
        output_type="latent",
        **({"frame_rate": profile.fps} if tiny.name == "ltx" else {}),
    ).frames
    text, no_text = (tiny.condition([prompt], [profile.fps]) for prompt in (PROMPT, ""))

    def velocity(noisy: torch.Tensor, sigma_B: torch.Tensor, condition: Condition) -> torch.Tensor:
        return tiny.family.velocity(pipeline, pipeline.transformer, noisy, sigma_B, condition)

    def guided(noisy: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return cfg_velocity(velocity, noisy, sigma_B, text, no_text, 3.0)

    tiny.family.set_timesteps(pipeline, STEPS, noise.shape[1:], noise.device)
    sampled_latents = sample_latents(guided, pipeline.scheduler, noise)
    torch.testing.assert_close(sampled_latents, unpacked(tiny, expected, noise), atol=1e-4, rtol=1e-4)


def test_a_transformer_gets_the_same_inputs_in_training_as_from_its_pipeline(tiny: Tiny) -> None:
    clean, noise = encoded(tiny)
    _, calls = sampled(tiny, clean, noise, "latent")
    sigmas, transformer, recorded = tiny.pipeline.scheduler.sigmas, tiny.pipeline.transformer, []
    plain = transformer.forward

    def recorder(**kwargs: Any) -> Any:
        recorded.append(kwargs)
        return plain(**kwargs)

    condition = tiny.condition([PROMPT], [tiny.profile.fps])
    for call, sigma in zip(calls, sigmas[:STEPS], strict=True):
        noisy = unpacked(tiny, call["hidden_states"], clean)
        transformer.forward = recorder
        with torch.inference_mode():
            predicted = tiny.family.velocity(tiny.pipeline, transformer, noisy, sigma[None].float(), condition)
            transformer.forward = plain
            expected = unpacked(tiny, transformer(**(call | {"timestep": recorded[-1]["timestep"]}))[0], clean)
        ours, theirs = recorded[-1], {key: value for key, value in call.items() if key != "attention_kwargs"}
        assert ours.keys() == theirs.keys()
        mask_1L = theirs.get("encoder_attention_mask", torch.ones(1, tiny.profile.max_tokens, dtype=torch.bool))
        for key, value in theirs.items():
            if key == "timestep":
                assert ours[key].shape == value.shape
                assert (ours[key] - value).abs().max() <= 1, "of 1000: some schedulers round it to whole numbers"
            elif key == "rope_interpolation_scale":
                assert [float(scale) for scale in ours[key]] == pytest.approx(value)
            elif key == "encoder_hidden_states":  # what is masked may differ
                torch.testing.assert_close(ours[key][mask_1L], value[mask_1L])
            elif isinstance(value, torch.Tensor):
                torch.testing.assert_close(ours[key], value)
            else:
                assert ours[key] == value
        torch.testing.assert_close(predicted, expected)
    assert len(recorded) == STEPS


def test_the_pipeline_decodes_an_encoded_video_as_its_autoencoder_alone_does(tiny: Tiny) -> None:
    """The pipeline inverts before decoding what encoding did; otherwise the two round trips would differ."""
    pipeline, frames_THWC = tiny.pipeline, tiny.frames(0)
    clean, noise = encoded(tiny)
    made_1THWC, _ = sampled(tiny, clean, noise, "np")
    video_1CTHW = torch.from_numpy(frames_THWC).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.inference_mode():
        decoded_1CTHW = pipeline.vae.decode(pipeline.vae.encode(video_1CTHW).latent_dist.mode()).sample
    expected_THWC = pipeline.video_processor.postprocess_video(decoded_1CTHW, output_type="np")[0]
    assert made_1THWC[0].shape == frames_THWC.shape
    assert expected_THWC.std() > 0.01, "a picture of one colour proves nothing"
    np.testing.assert_allclose(made_1THWC[0], expected_THWC, atol=1e-3)


def test_latents_are_decoded_as_the_pipeline_decodes_them_and_gradients_come_back(tiny: Tiny) -> None:
    clean, noise = encoded(tiny)
    made_1THWC, _ = sampled(tiny, clean, noise, "np")
    latents_2CFHW = torch.cat([clean, noise]).requires_grad_()
    frames_2THWC = tiny.family.decode(tiny.pipeline, latents_2CFHW)
    np.testing.assert_allclose(frames_2THWC[0].detach().numpy(), made_1THWC[0], atol=1e-3)
    (slope_2CFHW,) = torch.autograd.grad(frames_2THWC[0].mean(), latents_2CFHW)
    assert slope_2CFHW.isfinite().all()
    assert (slope_2CFHW[0] != 0).float().mean() > 0.9
    assert not slope_2CFHW[1].any(), "clips of a batch are decoded apart"


def test_samples_of_one_batch_do_not_see_each_others_text_time_or_frame_rate(tiny: Tiny) -> None:
    clean, noise = (torch.cat(pair) for pair in zip(encoded(tiny, 0), encoded(tiny, 1), strict=True))
    sigma, prompts, fps = torch.tensor([0.3, 0.8]), [PROMPT, "a blue square"], [8.0, 24.0]
    noisy = flow.interpolate(clean, noise, sigma)

    def predicted(which: list[int]) -> torch.Tensor:
        conditioning = tiny.condition([prompts[i] for i in which], [fps[i] for i in which])
        with torch.inference_mode():
            return tiny.family.velocity(
                tiny.pipeline, tiny.pipeline.transformer, noisy[which], sigma[which], conditioning
            ).clone()

    together = predicted([0, 1])
    for i in (0, 1):
        torch.testing.assert_close(together[i : i + 1], predicted([i]), atol=1e-4, rtol=1e-4)
    sigma = sigma.flip(0)
    assert not torch.allclose(predicted([0]), together[:1], atol=1e-3)


def test_a_text_is_kept_without_its_padding(tiny: Tiny) -> None:
    tokens = tiny.pipeline.tokenizer(PROMPT).input_ids
    text_LD = tiny.family.encode_prompt(tiny.pipeline, PROMPT, tiny.profile.max_tokens)
    assert len(text_LD) == len(tokens) < tiny.profile.max_tokens
    long = tiny.family.encode_prompt(tiny.pipeline, f"{PROMPT} " * 20, tiny.profile.max_tokens)
    assert len(long) == tiny.profile.max_tokens


def test_a_clip_is_cut_to_what_the_model_can_hold(tiny: Tiny) -> None:
    frames_THWC = tiny.frames(0)
    fitting = tiny.family.encode_video(tiny.pipeline, frames_THWC)
    odd_THWC = np.pad(frames_THWC, ((0, 1), (1, 1), (0, 0), (0, 0)), mode="edge")
    torch.testing.assert_close(tiny.family.encode_video(tiny.pipeline, odd_THWC), fitting)


def test_the_shift_of_ltx_is_that_of_its_scheduler_at_the_size_it_makes() -> None:
    profile = PROFILES["Lightricks/LTX-Video"]
    tokens = ((profile.num_frames - 1) // profile.stride + 1) * (profile.height // 32) * (profile.width // 32)
    assert profile.shift == pytest.approx(math.exp(calculate_shift(tokens, 1024, 4096, 0.95, 2.05)), rel=0.01)


def run(dataset: Path, out: Path, *flags: str, cache: str = "latents", **settings: str) -> tuple[dict, str]:
    """Train three steps from the command line; the printed JSON, and stderr."""
    settings = {"batch_size": "2", "epochs": "3", "max_steps": "3", "lr": "1e-3"} | settings
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    where = ("--dataset", str(dataset), "--out", str(out), "--cache", str(dataset.parent / cache))
    result = CliRunner().invoke(app, [*where, "--json", *flags, *options], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout), result.stderr


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic rows and one that is dropped, and a pair whose real clip is shorter."""
    size = (64, 96)
    made = [row(seed, reward=reward, num_frames=17, size=size) for seed, reward in ((1, 0.9), (2, 0.7), (3, 0.1))]
    made += [row(20, "twin", num_frames=17, size=size), row(20, "real", num_frames=9, size=size)]
    return training_set(tmp_path_factory.mktemp("families") / "set", made)


def test_a_full_run_leaves_a_model_that_its_pipeline_loads(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    run(dataset, tmp_path / "run", "--model", str(tiny.folder), sample_every="3")
    clips = [path.read_bytes() for path in sorted((tmp_path / "run" / "samples").rglob("*.mp4"))]
    assert [len(video.decode(clip, "clip").frames_THWC) for clip in clips] == [17, 17]
    assert len(losses(tmp_path / "run")) == 3
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))
    tuned = DiffusionPipeline.from_pretrained(tmp_path / "run" / "model", dtype=torch.float32)
    assert type(tuned) is type(tiny.pipeline)
    assert tuned.config.get("expand_timesteps") == tiny.pipeline.config.get("expand_timesteps")
    pairs = zip(tuned.transformer.parameters(), tiny.pipeline.transformer.parameters(), strict=True)
    assert all(not torch.equal(ours, base) for ours, base in pairs)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"{type(tuned).__name__}.from_pretrained" in card
    assert f"import {type(tuned).__name__}" in card


def test_a_lora_run_leaves_an_adapter_that_its_pipeline_loads(dataset: Path, tiny: Tiny, tmp_path: Path) -> None:
    run(dataset, tmp_path / "run", "--model", str(tiny.folder), tune="lora", lora_rank="2")
    tuned = load_file(tmp_path / "run" / "model" / "pytorch_lora_weights.safetensors")
    changed = {name.split(".lora_")[0].split(".", 3)[3] for name, weight in tuned.items() if weight.any()}
    feed_forward = "ff" if tiny.name == "ltx" else "ffn"
    layers = {f"attn{number}.{layer}" for number in (1, 2) for layer in ("to_q", "to_k", "to_v", "to_out.0")}
    assert changed == layers | {f"{feed_forward}.net.{layer}" for layer in ("0.proj", "2")}
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))
    _, noise = encoded(tiny)
    conditioning, sigma = tiny.condition([PROMPT], [tiny.profile.fps]), torch.tensor([0.5])

    def predicted() -> torch.Tensor:
        with torch.inference_mode():
            return tiny.family.velocity(tiny.pipeline, tiny.pipeline.transformer, noise, sigma, conditioning).clone()

    before = predicted()
    tiny.pipeline.load_lora_weights(tmp_path / "run" / "model")
    assert not torch.allclose(before, predicted(), atol=1e-5)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_two_rounds_of_nft_start_exactly_at_the_models_that_made_the_clips(
    tiny: Tiny, tmp_path: Path, tune: str
) -> None:
    folder, tuned = str(tiny.folder), tmp_path / "run1" / "model"
    made = [row(seed, reward=reward, num_frames=17, prompt=40) for seed, reward in ((1, 0.9), (2, 0.1))]
    settings = {"strategy": "nft", "tune": tune, "validate_every": "null"}
    first = training_set(tmp_path / "set1", generated_by(made, folder))
    run(first, tmp_path / "run1", "--model", folder, **settings)
    if tune == "lora":
        second = training_set(tmp_path / "set2", generated_by(made, folder, tuned))
        run(second, tmp_path / "run2", "--model", folder, "--adapter", str(tuned), **settings)
    else:
        second = training_set(tmp_path / "set2", generated_by(made, str(tuned)))
        run(second, tmp_path / "run2", "--model", str(tuned), **settings, anchor_model=folder)
    for out in ("run1", "run2"):
        lines = [json.loads(line) for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]
        assert lines[0]["relative_change"] == 0.0, "bitwise"
        assert lines[-1]["relative_change"] > 0
        assert lines[0].get("distance_to_first", 0.0) == 0.0 if out == "run1" else lines[0]["distance_to_first"] > 0


def test_a_copy_in_bfloat16_computes_what_its_original_computes_under_autocast(tiny: Tiny) -> None:
    clean, noise = encoded(tiny)
    noisy, sigma = flow.interpolate(clean, noise, torch.tensor([0.4])), torch.tensor([0.4])
    transformer = tiny.pipeline.transformer.requires_grad_(True)
    frozen = copy.deepcopy(transformer)
    blocks.store_as_bfloat16(frozen.get_submodule(tiny.family.BLOCKS).children())
    stored = {parameter.dtype for parameter in frozen.get_submodule(tiny.family.BLOCKS).parameters()}
    assert stored == {torch.float32, torch.bfloat16}
    condition = tiny.condition([PROMPT], [tiny.profile.fps])
    with torch.autocast("cpu", torch.bfloat16):
        expected = tiny.family.velocity(tiny.pipeline, transformer, noisy, sigma, condition)
        with torch.no_grad():
            found = tiny.family.velocity(tiny.pipeline, frozen, noisy, sigma, condition)
    assert torch.equal(found, expected.detach())


def test_the_datasets_target_may_be_a_model_of_the_hub(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, on_the_hub = "Lightricks/LTX-Video", tmp_path / "hub"
    commit, other = main = ["1" * 40, "2" * 40]  # the first is what main is
    tiny_pipelines.build("ltx", on_the_hub)
    (on_the_hub / "ltx-video-13b.safetensors").write_text("for another program")
    (on_the_hub / "text_encoder" / "pytorch_model.bin").write_text("pickled")
    asked = []

    def download(
        model: str, file: str | None = None, *, revision: str | None, allow_patterns: str = "*", **_: object
    ) -> str:
        asked.append((model, revision))
        here = tmp_path / (revision or main[0])  # as the client's cache names it
        files = [path.relative_to(on_the_hub).as_posix() for path in on_the_hub.rglob("*") if path.is_file()]
        for path in [file] if file else filter_repo_objects(files, allow_patterns=allow_patterns):
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(on_the_hub / path, here / path)
        return str(here / (file or ""))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    targeted = tmp_path / "set"
    shutil.copytree(dataset, targeted)
    manifest = json.loads((targeted / "manifest.json").read_text())
    (targeted / "manifest.json").write_text(json.dumps(manifest | {"target_model": name}))
    facts, said = run(targeted, tmp_path / "run")
    assert asked[0] == (name, None)
    assert set(asked[1:]) == {(name, commit)}  # whatever main is by now
    assert f"LTX-Video at {commit[:12]}" in said
    assert facts["model_commit"] == commit
    assert facts["shift"] == PROFILES[name].shift
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))
    tuned = tmp_path / "run" / "model"
    assert profiles.profile_of(str(tuned)).name == name
    card = (tuned / "README.md").read_text()
    assert f"base_model: {name}\n" in card
    assert f"| base | `{name}`, revision `{commit}` |" in card
    assert isinstance(DiffusionPipeline.from_pretrained(tuned), LTXPipeline)
    assert not list((tmp_path / commit).glob("*.safetensors"))
    assert not list((tmp_path / commit).rglob("*.bin"))
    main.reverse()
    with pytest.raises(RunError, match=f'model was "{commit}", is "{other}"'):
        run(targeted, tmp_path / "run", "--resume")
    run(targeted, tmp_path / "run", "--resume", "--model", f"{name}@{commit}")


def test_tokens_are_counted_as_the_transformer_makes_them(tiny: Tiny) -> None:
    noisy_BCFHW = tiny.family.encode_video(tiny.pipeline, tiny.frames(0))[None]
    rows: list[int] = []
    transformer = tiny.pipeline.transformer
    first = transformer.get_submodule(tiny.family.BLOCKS)[0]
    first.register_forward_pre_hook(
        lambda _, inputs, named: rows.append((*inputs, *named.values())[0].shape[1]), with_kwargs=True
    )
    with torch.no_grad():
        tiny.family.velocity(
            tiny.pipeline, transformer, noisy_BCFHW, torch.tensor([0.5]), tiny.condition([PROMPT], [8.0])
        )
    assert rows == [tiny.family.num_tokens(transformer, noisy_BCFHW.shape[1:])]


def test_a_pipeline_with_two_experts_is_refused(tmp_path: Path) -> None:
    """Its first expert alone would be trained, on noise that the second one handles."""
    index = {"_class_name": "WanPipeline", "transformer_2": ["diffusers", "WanTransformer3DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(RecipeError, match="two experts"):
        pipeline_class(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"transformer_2": [None, None]}))
    assert pipeline_class(tmp_path) == "WanPipeline"

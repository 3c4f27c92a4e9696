"""Features of clips: the autoencoders of all families, and encoders of transformers with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, VideoMAEConfig, VideoMAEModel

from gigavideo_data.errors import RecipeError
from gigavideo_data.miniature import world
from gigavideo_data.miniature.grammar import parse
from gigavideo_data.models.features.base import parts
from gigavideo_data.models.generators import profiles
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.registry import features_spec, load_engine
from gigavideo_data.recipe.features import Features
from gigavideo_data.recipe.recipe import Generator
from tests.support import tiny_pipelines


def rendered(seed: int) -> np.ndarray:
    scene = parse("a red circle moves left")
    assert scene is not None
    return world.render(scene, np.random.default_rng(seed))


def test_thirds_cover_a_clip_and_are_never_empty() -> None:
    assert [list(range(9)[part]) for part in parts(9)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [list(range(2)[part]) for part in parts(2)] == [[0], [0, 1], [1]]


def test_the_other_clips_of_a_batch_do_not_change_the_features_of_one() -> None:
    spec = features_spec(Features(backend="vae", model="miniature"))
    engine = load_engine("features", spec.settings)
    clips = [rendered(seed) for seed in range(3)]
    together = engine.features([*clips, clips[0][:9]])  # one of another length
    assert [len(each) for each in together] == [48] * 4
    for clip, features in zip([*clips, clips[0][:9]], together, strict=True):
        np.testing.assert_array_equal(engine.features([clip])[0], features)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_the_autoencoder_decides_the_identity() -> None:
    spec = features_spec(Features(backend="vae", model="miniature"))
    assert spec.identity["revision"] == profiles.vae_of(Generator(model="miniature"))["revision"]


@pytest.mark.parametrize("name", ["wan2.2", "ltx"])
def test_autoencoders_of_other_families(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tiny_pipelines.PROFILES[name]
    monkeypatch.setitem(PROFILES, name, profile)
    folder = tiny_pipelines.build(name, tmp_path / name)
    (folder / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": name}))
    engine = load_engine("features", features_spec(Features(backend="vae", model=str(folder))).settings)
    frames = np.random.default_rng(0).integers(0, 255, (profile.num_frames, profile.height, profile.width, 3))
    (features,) = engine.features([frames.astype(np.uint8)])
    assert len(features) == 6 * tiny_pipelines.LATENTS_CFHW[name][0]
    assert np.isfinite(features).all()


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}


@pytest.fixture
def encoders(tmp_path: Path) -> dict[str, Path]:
    """A video encoder and an image encoder of the genuine classes."""
    torch.manual_seed(0)
    video = VideoMAEModel(VideoMAEConfig(num_frames=4, tubelet_size=2, intermediate_size=16, **SIZES))
    image = Dinov2Model(Dinov2Config(mlp_ratio=1, **SIZES))
    for name, network in (("video", video), ("image", image)):
        network.save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in ("video", "image")}


def test_encoders_of_videos_and_images_pool_their_hidden_states(encoders: dict[str, Path]) -> None:
    for name, width in (("video", 16), ("image", 3 * 16)):
        spec = features_spec(Features(backend="network", model=str(encoders[name])))
        assert spec.identity["model"] == name
        engine = load_engine("features", spec.settings)
        one, other = engine.features([rendered(0), rendered(1)])
        assert one.shape == (width,)
        assert np.abs(one - other).max() > 1e-4
        np.testing.assert_array_equal(engine.features([rendered(1)])[0], other)


def test_the_last_third_changes_the_last_features_of_an_image_encoder(encoders: dict[str, Path]) -> None:
    spec = features_spec(Features(backend="network", model=str(encoders["image"])))
    engine = load_engine("features", spec.settings)
    frames = rendered(0)
    dark = frames.copy()
    dark[-3:] = 0
    one, other = engine.features([frames, dark])
    np.testing.assert_allclose(one[:32], other[:32], rtol=1e-5)
    assert np.abs(one[32:] - other[32:]).max() > 1e-3


def test_what_is_no_known_encoder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--features .*neither 'vae'"):
        features_spec(Features(backend="network", model=str(tmp_path)))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RecipeError, match="model type 'bert' is not one of videomae"):
        features_spec(Features(backend="network", model=str(tmp_path)))

"""What is refused before any model is loaded: unknown models, folders of another class, missing GPUs, large models."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gigavideo_data.commands import build as building
from gigavideo_data.commands.build import build
from gigavideo_data.errors import RecipeError
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.terminal import console
from gigavideo_data.models.generators import profiles
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.generators.requirements import Machine, check_models, refusal
from gigavideo_data.recipe.recipe import Recipe
from tests.support import tiny_pipelines

SMALL, LARGE = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"
H100 = Machine(gpus=8, gpu_bytes=85 * 10**9, ram_bytes=2000 * 10**9, cores=64)
GAMING = Machine(gpus=1, gpu_bytes=24 * 10**9, ram_bytes=64 * 10**9, cores=8)
LAPTOP = Machine(gpus=0, gpu_bytes=0, ram_bytes=16 * 10**9, cores=8)


def recipe(model: str = SMALL, **more) -> Recipe:
    generator = {"model": model, **more.pop("generator", {})}
    plain = {"name": "r", "target": SMALL, "dimensions": ["mechanics"], "generators": [generator], **more}
    return Recipe.model_validate(plain)


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """The folder of a Wan pipeline."""
    for name, profile in tiny_pipelines.PROFILES.items():
        monkeypatch.setitem(PROFILES, name, profile)
    folder = tmp_path / "pipeline"
    tiny_pipelines.build("wan2.2", folder)
    names(folder, "wan2.2")
    return folder


def names(folder: Path, profile: str) -> None:
    (folder / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": profile}))


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_model_without_a_profile_is_refused_with_those_that_are_known():
    with pytest.raises(RecipeError, match=r"'org/other' is not known. Known are miniature, .*Wan2\.2-T2V-A14B"):
        check_models(recipe("org/other"))
    with pytest.raises(RecipeError, match="the family of 'other' is not known"):
        check_models(recipe().model_copy(update={"target": "org/other"}))


def test_sampler_settings_that_are_not_known_are_refused_with_the_models_that_have_some():
    check_models(recipe(generator={"profile": "paper"}))
    with pytest.raises(RecipeError, match=r"profile paper: Lightricks/LTX-2 has none; .*Wan2.1-T2V-1.3B"):
        check_models(recipe("Lightricks/LTX-2", generator={"profile": "paper"}))


def test_a_folder_is_what_its_profile_says(tiny):
    check_models(recipe(str(tiny)))
    names(tiny, "ltx")
    with pytest.raises(RecipeError, match=r"pipeline: its model_index.json names a WanPipeline, .* of a LTXPipeline"):
        check_models(recipe(str(tiny)))
    names(tiny, "wan2.2")
    change(tiny / "transformer" / "config.json", _class_name="LTXVideoTransformer3DModel")
    with pytest.raises(RecipeError, match=r"its transformer is a LTXVideoTransformer3DModel, .* a WanTr"):
        check_models(recipe(str(tiny)))


def test_a_folder_with_the_weights_of_another_size_is_refused(tiny, monkeypatch):
    (tiny / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    for part, shape in (("a", (1000, 2000)), ("b", (3000, 1000))):
        save_file({part: torch.zeros(shape)}, tiny / "transformer" / f"{part}.safetensors")
    sized = replace(tiny_pipelines.PROFILES["wan2.2"], name="sized", parameters={"transformer": 5e-3})
    monkeypatch.setitem(PROFILES, "sized", sized)
    names(tiny, "sized")
    check_models(recipe(str(tiny)))
    (tiny / "transformer" / "b.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"its transformer has 0\.002 billion weights, .* profile sized has 0\.005"):
        check_models(recipe(str(tiny)))


def test_several_gpus_for_one_video_are_refused_where_they_would_be_wasted():
    with pytest.raises(RecipeError, match=r"scale\.generator\.gpus: 2: .* would be idle. Set gpus: 1"):
        check_models(recipe(scale={"generator": {"gpus": 2}}))
    with pytest.raises(RecipeError, match=r"can be split over 2, 4, 8 GPUs"):
        check_models(recipe(LARGE, scale={"generator": {"gpus": 3}}))
    check_models(recipe(LARGE, scale={"generator": {"gpus": 4}}))
    check_models(recipe(scale={"generator": {"gpus": 1}, "judge": {"gpus": 2}}))


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ({"judge": {"gpus": 2}}, "scale.judge.gpus: 2 requested, 1 on this machine; request at most 1"),
        ({"generator": {"gpus": 1, "replicas": 3}}, "scale.generator.gpus: 3 requested in 3 workers, 1 on this"),
        ({"writer": {"gpus": 0.5, "replicas": 3}}, "scale.writer.gpus: 1.5 requested in 3 workers"),
    ],
)
def test_gpus_that_the_machine_does_not_have_are_refused(scale, words):
    assert words in (refusal(recipe(scale=scale), GAMING) or "")
    assert refusal(recipe(scale=scale), H100) is None
    assert "leave `gpus` out" in (refusal(recipe("miniature", scale=scale), LAPTOP) or "")


def test_a_model_that_is_larger_than_a_gpu_is_refused_with_those_that_fit():
    assert refusal(recipe(LARGE), H100) is None
    problem = refusal(recipe(LARGE), GAMING)
    assert problem is not None
    assert f"{LARGE} needs about 50 GB of GPU memory, a GPU of this machine has 24 GB" in problem
    fitting = problem.partition("Fitting models: ")[2].split(", ")
    assert fitting[:2] == ["miniature", SMALL]
    assert LARGE not in fitting
    assert refusal(recipe(SMALL), GAMING) is None


def test_half_a_gpu_has_half_of_the_memory():
    half = {"generator": {"gpus": 0.5}}
    assert refusal(recipe(SMALL, scale=half), H100) is None
    assert "0.5 of a GPU of this machine has 12 GB" in (refusal(recipe(SMALL, scale=half), GAMING) or "")


def test_workers_that_need_more_memory_than_the_machine_has_are_refused_with_a_number_that_fits():
    little = Machine(gpus=8, gpu_bytes=85 * 10**9, ram_bytes=200 * 10**9, cores=64)
    problem = refusal(recipe(LARGE), little)
    assert problem is not None
    assert (
        "about 69 GB of memory in each of 8 processes, this machine has 200 GB. Set scale.generator.replicas: 2"
        in problem
    )
    assert refusal(recipe(LARGE, scale={"generator": {"replicas": 2}}), little) is None


def test_without_a_gpu_all_parts_are_in_memory():
    assert "38 GB of memory in each of 8 processes" in (refusal(recipe(SMALL), LAPTOP) or "")
    assert refusal(recipe("miniature"), LAPTOP) is None
    workstation = Machine(gpus=0, gpu_bytes=0, ram_bytes=128 * 10**9, cores=2)
    assert refusal(recipe(SMALL), workstation) is None


def test_every_model_needs_more_than_its_largest_part():
    for profile in PROFILES.values():
        assert profile.name == "miniature" or (profile.parameters["transformer"] > 1 and profile.working_gb > 1)


def test_a_build_stops_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(building, "this_machine", lambda: LAPTOP)
    progress = Progress(console(stderr=True, quiet=True))
    with pytest.raises(RecipeError, match="needs about 38 GB of memory") as raised:
        build(recipe(SMALL), tmp_path / "out", tmp_path / "store", progress)
    assert raised.value.exit_code == 2
    assert not any(path.is_file() for path in tmp_path.rglob("*"))

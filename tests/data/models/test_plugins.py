"""Judges and generators of another package: a recipe or an option selects them, and a dataset never does."""

import json
import logging
import shlex
import sys
from pathlib import Path

import pytest

from gigavideo_data.commands import doctor
from gigavideo_data.commands.evaluation.setting import read_setting
from gigavideo_data.commands.remake import withhold
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import RecipeError, RunError
from gigavideo_data.models.registry import generator_spec, judge_spec, load_engine
from gigavideo_data.recipe import plugins
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Generator, Judge, PluginSettings
from gigavideo_train.config import TrainConfig
from gigavideo_train.judging.judges import sample_judges, scoring
from tests.support.workspace import FAULTS, Workspace

pytestmark = pytest.mark.timeout(600)

CODE = '''
import numpy as np

from gigavideo_data.models.generators.base import Generated
from gigavideo_data.models.judges.base import Answer


def paint(prompts, seeds, size=32):
    """Greys that the seeds decide, with a bright line that runs down: no torch, no latents, no scheduler."""
    return [grey(seed, size) for _, seed in zip(prompts, seeds, strict=True)]


def grey(seed, size):
    frames_THWC = np.full((9, size, size, 3), 60 + seed % 100, np.uint8)
    for t, frame_HWC in enumerate(frames_THWC):
        frame_HWC[2 * t : 2 * t + 4] = 250
    return Generated(frames_THWC, 8.0)


def brightness(frames_THWC, fps, questions, gain=1.0):
    p = min(1.0, gain * float(frames_THWC.mean()) / 255)
    return [Answer(p, 1 - p) for _ in questions]


class Loaded:
    """The same as a class, which is made once per worker."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def answer(self, frames_THWC, fps, questions):
        return brightness(frames_THWC, fps, questions, self.gain)
'''
ENTRY_POINTS = """
[gigavideo.generators]
painter = acme_video:paint
[gigavideo.judges]
brightness = acme_video:brightness
loaded = acme_video:Loaded
broken = acme_broken:judge
"""
GENERATORS = '[{"backend": "painter", "settings": {"size": 48}}]'
JUDGE = '{"backend": "brightness", "settings": {"gain": 1.5}}'


def package(folder: Path, version: str = "1.2.0") -> Path:
    """A package with plug-ins as pip would install it; one of them cannot be imported."""
    info = folder / f"acme_video-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-video\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "acme_video.py").write_text(CODE)
    (folder / "acme_broken.py").write_text("import no_such_library\n")
    return folder


@pytest.fixture
def acme(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(package(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "acme_video", raising=False)
    return tmp_path / "site"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    """A dataset whose videos and answers come from plug-ins."""
    workspace = Workspace(tmp_path_factory.mktemp("plugins"))
    package(workspace.folder / "site")
    code, said = workspace.build(
        faults={"PYTHONPATH": f"{FAULTS}:{workspace.folder / 'site'}"},
        dimensions="[motion_order_understanding]",
        prompts__per_dimension="3",
        captions__count="0",
        eval_prompts__per_dimension="1",
        generators=GENERATORS,
        judge=JUDGE,
    )
    assert code == 0, said
    return workspace


def test_a_build_runs_a_generator_without_latents(built):
    folder = built.folder / "out"
    assert verify_folder(folder).rows["train"] > 0
    row = built.rows("out")[0]
    assert (row["num_frames"], row["height"], row["width"], row["fps"]) == (9, 48, 48, 8.0)
    used = row["generator"]
    assert (used["backend"], used["model"], used["scheduler"], used["steps"]) == ("painter", "painter", None, None)
    assert used["revision"].startswith("acme-video==1.2.0+")
    assert not built.calls(), "the generator of the table made none of the videos"


def test_a_build_asks_a_judge_that_is_a_python_function(built):
    row = built.rows("out")[0]
    assert row["status"] == "scored"
    assert len({answer["p_yes"] for answer in row["answers"]}) == 1, "it looks at the frames alone"
    (judge,) = [one for one in row["judges"] if one["kind"] != "pixels"]
    assert (judge["kind"], judge["model"]) == ("brightness", "brightness")
    assert judge["revision"].startswith("acme-video==1.2.0+")


@pytest.mark.usefixtures("acme")
def test_a_set_cannot_select_the_judge_of_an_evaluation(built):
    folder = built.folder / "out"
    with pytest.raises(RecipeError, match="cannot select it") as error:
        read_setting(folder, "dev")
    option = shlex.split(str(error.value).partition("add ")[2])
    assert option[0] == "--set"
    with pytest.raises(RecipeError, match="cannot select it"):
        read_setting(folder, "dev", ["judge.readout=text"])
    setting = read_setting(folder, "dev", option[1:])
    assert setting.judge == Judge(backend="brightness", settings=PluginSettings(gain=1.5))
    assert setting.generator == Generator(), "a plug-in does not sample the models that are compared"
    with pytest.raises(RecipeError, match="diffusers models only"):
        read_setting(folder, "dev", [*option[1:], "generators.0.backend=painter", "generators.0.model=painter"])


def test_a_set_cannot_select_the_generator_that_remakes_it(built):
    withhold(built.folder / "out", built.folder / "scores")
    faults = {"PYTHONPATH": f"{FAULTS}:{built.folder / 'site'}"}
    remake = ["remake", "scores", "--out", "whole"]
    process = built.run(remake, faults)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "cannot select it" in said
    option = shlex.split(" ".join(said.partition("add ")[2].split()))
    process = built.run([*remake, *option], faults)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    sums = [{row["id"]: row["video_sha256"] for row in built.rows(name)} for name in ("out", "whole")]
    assert sums[0] == sums[1]


@pytest.mark.usefixtures("acme")
def test_a_set_cannot_select_the_judge_of_a_training_run(built):
    manifest = json.loads((built.folder / "out" / "manifest.json").read_text())
    config, trained = TrainConfig(sample_every=1, judge_samples=True), manifest["dimensions"]
    with pytest.raises(RecipeError, match="--set judge="):
        sample_judges(manifest, config, trained)
    judges = sample_judges(manifest, config.model_copy(update={"judge": "brightness"}), trained)
    assert {judge.engine["backend"] for judge in judges.values()} == {"brightness"}
    online = TrainConfig(strategy="reweight-online")
    with pytest.raises(RecipeError, match="--set judge="):
        scoring(built.rows("out"), manifest, online, trained)
    selected = scoring(built.rows("out"), manifest, online.model_copy(update={"judge": "loaded"}), trained)
    assert selected.judge == judge_spec(Judge(backend="loaded")).identity


@pytest.mark.usefixtures("acme")
def test_version_and_settings_are_the_identity(tmp_path, monkeypatch):
    one = judge_spec(Judge(backend="brightness", settings=PluginSettings(gain=1.5))).identity
    assert one != judge_spec(Judge(backend="brightness", settings=PluginSettings(gain=2.0))).identity
    assert judge_spec(Judge(backend="brightness")).identity["revision"] == "acme-video==1.2.0"
    generator = Generator(backend="painter", model="acme/painter-2", settings=PluginSettings(size=48))
    assert generator_spec(generator).identity["model"] == "acme/painter-2"
    monkeypatch.setattr(sys, "path", [str(package(tmp_path / "newer", "1.3.0")), *sys.path[1:]])
    newer = judge_spec(Judge(backend="brightness", settings=PluginSettings(gain=1.5))).identity
    assert newer["revision"] == one["revision"].replace("1.2.0", "1.3.0")


@pytest.mark.usefixtures("acme")
def test_a_class_is_made_with_the_settings():
    import numpy as np

    frames_THWC = np.full((2, 8, 8, 3), 51, np.uint8)
    engines = [
        load_engine("judge", judge_spec(Judge(backend=name, settings=PluginSettings(gain=2.0))).settings)
        for name in ("brightness", "loaded")
    ]
    function, made = (engine.answer(frames_THWC, 8.0, ["Is it dark?"]) for engine in engines)
    assert function == made
    assert made[0].p_yes == pytest.approx(0.4)
    with pytest.raises(RunError, match="probabilities"):
        load_engine("soft judge", judge_spec(Judge(backend="loaded")).settings)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("judge: {backend: brigthness}", "judge.backend: 'brigthness' is neither built in nor"),
        ("judge: {backend: camera}", "'camera' is neither built in nor"),
        ("judge: {backend: brightness, frames: 3}", "frames: the plug-in brightness does not take it"),
        ("judge: {settings: {gain: 1}}", "settings: goes with a plug-in"),
        ("generators: [{backend: painter, steps: 3}]", "steps: the plug-in painter does not take it"),
    ],
)
@pytest.mark.usefixtures("acme")
def test_a_recipe_names_plugins_that_are_installed_and_what_they_take(tmp_path, part, words):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"name: mine\ndimensions: [mechanics]\n{part}\n")
    with pytest.raises(RecipeError) as error:
        load(str(recipe))
    assert words in str(error.value)
    assert f"{recipe}:3" in str(error.value)


def test_a_recipe_without_plugins_has_the_hash_that_it_had():
    assert "settings" not in json.dumps(load("quickstart").resolved())


@pytest.mark.usefixtures("acme")
def test_the_doctor_lists_plugins_and_logs_why_one_cannot_be_imported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = {finding["name"]: finding for finding in doctor.examine(tmp_path)}
    assert found["judge brightness"]["state"] == "ok"
    assert found["generator painter"]["detail"] == "acme-video==1.2.0"
    assert (found["judge broken"]["state"], doctor.healthy(list(found.values()))) == ("missing", True)
    assert "no_such_library" in found["judge broken"]["detail"]
    assert "acme_broken.py" in caplog.text


def test_help_and_recipes_without_plugins_read_no_entry_points(monkeypatch):
    from typer.testing import CliRunner

    from gigavideo_data.cli import app

    def fails(**_: object) -> None:
        raise AssertionError("entry points were read")

    monkeypatch.setattr(plugins, "entry_points", fails)
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0
    assert CliRunner().invoke(app, ["build", "--help"]).exit_code == 0
    assert load("quickstart").judge == Judge()

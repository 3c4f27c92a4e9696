"""The wheels for a node without a network: what is wanted of them, and what is left to the node."""

import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from gigavideo_data.errors import GigaVideoError
from scripts import offline_bundle as bundling
from scripts.offline_bundle import bundle, left_out, missing, requirements, versions

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
TRAINER = requirements(PROJECT, trainer_only=True)
FREEZE = """\
# a comment
-e git+https://example.org/mine.git@c0ffee#egg=mine
-f /wheels
Typing_Extensions==4.16.0
torch==2.11.0+cu130
triton @ file:///wheels/triton-3.6.0-cp312-cp312-linux_x86_64.whl#sha256=0
nightly @ https://example.org/nightly-1.0%2Bcu130-py3-none-any.whl
local @ file:///home/somebody/local
broken==not.a.version
"""


def numbers(**given: str) -> dict[str, Version]:
    return {name.replace("_", "-"): Version(version) for name, version in given.items()}


def test_exact_versions_are_read_from_a_freeze_and_the_rest_is_left_out():
    assert versions(FREEZE) == numbers(typing_extensions="4.16.0", torch="2.11.0", triton="3.6.0", nightly="1.0")


def test_what_only_building_takes_is_not_wanted_by_the_trainer():
    everything = {one.name for one in requirements(PROJECT, trainer_only=False)}
    wanted = {one.name for one in TRAINER}
    assert everything - wanted == set(bundling.BUILDERS)
    assert wanted >= {"diffusers", "transformers", "huggingface_hub", "peft", "pydantic", "pyyaml", "typer", "rich"}


def test_torch_of_the_node_is_kept_with_all_that_it_brought():
    everything = requirements(PROJECT, trainer_only=False)
    assert left_out(everything, None, trainer_only=False) == []
    assert left_out(everything, numbers(torch="2.11.0"), trainer_only=False) == ["torch"]
    assert left_out(TRAINER, None, trainer_only=True) == ["torch", "hf-xet"]


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (numbers(torch="2.10.0"), r"the node has torch 2\.10\.0, and torch<2\.14,>=2\.11 is needed"),
        (numbers(numpy="2.5.2"), "names no torch"),
    ],
)
def test_a_node_whose_torch_does_not_do_is_refused(here, message):
    with pytest.raises(GigaVideoError, match=message):
        left_out(TRAINER, here, trainer_only=True)


def test_what_the_node_has_in_the_very_version_is_not_collected():
    resolved = numbers(numpy="2.5.2", pyarrow="26.0.1", peft="0.21.2", pydantic="2.14.3")
    here = numbers(numpy="2.5.2", peft="0.18.0")
    assert missing(resolved, here, trainer_only=True).keys() == {"pyarrow", "peft", "pydantic"}
    assert missing(resolved, None, trainer_only=True).keys() == {"peft", "pydantic"}
    assert missing(resolved, None, trainer_only=False) == resolved


def test_the_versions_of_the_node_are_preferred_and_those_that_it_must_change_are_told(tmp_path, monkeypatch):
    asked: dict[str, object] = {}

    def resolve(wanted, dropped, preferred, python):
        asked.update(wanted=wanted, dropped=dropped, preferred=preferred, python=python)
        return numbers(numpy="2.5.2", diffusers="0.42.1", pydantic="2.14.3")

    def download(exact, python, out):
        assert python == "3.12"
        for name, version in exact.items():
            (out / f"{name}-{version}-py3-none-any.whl").write_bytes(bytes(1_000_000))

    monkeypatch.setattr(bundling, "resolve", resolve)
    monkeypatch.setattr(bundling, "download", download)
    (tmp_path / "have.txt").write_text("torch==2.11.0+cu130\nnumpy==2.5.2\npydantic==1.10.0\n")
    report = bundle("3.12", tmp_path / "out", tmp_path / "have.txt", trainer_only=True)
    assert (asked["wanted"], asked["dropped"], asked["python"]) == (TRAINER, ["torch", "hf-xet"], "3.12")
    tested = versions((bundling.ROOT / "constraints.txt").read_text())
    assert asked["preferred"] == tested | numbers(torch="2.11.0", numpy="2.5.2", pydantic="1.10.0")
    assert report.startswith("2 wheels, 2.0 MB, in ")
    assert "replaces on the node: pydantic 1.10.0 by 2.14.3" in report


@pytest.mark.parametrize(
    ("python", "out", "have", "message"),
    [
        ("3.10", "new", None, r"--python 3\.10: must be >=3\.11, as in 3\.12"),
        ("python3", "new", None, "--python python3: must be"),
        ("3.12", "used", None, "used: is there already and not an empty folder"),
        ("3.12", "new", "used/file", "used/file: no line is as name==version"),
    ],
)
def test_what_cannot_be_collected_is_refused_before_anything_is_fetched(
    tmp_path, monkeypatch, python, out, have, message
):
    monkeypatch.setattr(bundling, "_run", None)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("nothing")
    with pytest.raises(GigaVideoError, match=message):
        bundle(python, tmp_path / out, have and tmp_path / have, trainer_only=True)
    assert not (tmp_path / "new").exists()

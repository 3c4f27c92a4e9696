"""The doctor lists what works on this machine, and how to install the rest."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from gigavideo_data.commands import doctor
from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video


def states(store: Path) -> dict[str, tuple[str, str]]:
    return {finding["name"]: (finding["state"], finding["next"]) for finding in doctor.examine(store)}


def test_this_machine_can_build_the_miniature(tmp_path):
    findings = doctor.examine(tmp_path / "not" / "yet" / "there")
    assert doctor.healthy(findings)
    assert {"python", "torch", "video", "store", "openai"} <= {finding["name"] for finding in findings}
    assert not (tmp_path / "not").exists()


def test_a_missing_package_has_its_install_command(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openai" else object())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    found = states(tmp_path)
    assert found["openai"] == ("missing", "pip install 'gigavideo[http]'")
    assert found["store"][0] == "missing"


def test_a_broken_video_encoder_makes_the_machine_unfit(tmp_path, monkeypatch):
    def fails(*_: object) -> bytes:
        raise DatasetError("no encoder")

    monkeypatch.setattr(video, "encode", fails)
    findings = doctor.examine(tmp_path)
    assert not doctor.healthy(findings)
    assert states(tmp_path)["video"][0] == "broken"
    assert any("av" in finding["next"] for finding in findings)


@pytest.mark.parametrize("extra", ["http", "vllm", "counting"])
def test_every_remedy_is_an_extra_that_exists(extra):
    assert f"{extra} = [" in (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert any(f"[{extra}]" in remedy for _, remedy in doctor.OPTIONAL.values())

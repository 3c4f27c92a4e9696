"""Exact versions agree with pyproject.toml: those that are tested, the lowest ones, and those of a GPU machine."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    found = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in found}


def required(*extras: str) -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found if one.name != PROJECT["name"]}


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("constraints.txt", ("http", "tensorboard", "counting", "dev", "test")),
        ("constraints-oldest.txt", ("http", "test")),
        ("constraints-gpu.txt", ("http", "vllm")),
    ],
)
def test_every_requirement_has_an_exact_version_that_is_allowed(file, extras):
    exact = pins(file)
    wanted = required(*extras)
    assert wanted.keys() <= exact.keys()
    assert {name: exact[name] for name, one in wanted.items() if exact[name] not in one.specifier} == {}


def test_the_oldest_versions_are_the_lower_bounds():
    exact = pins("constraints-oldest.txt")
    for name, one in required("http", "test").items():
        lowest = Version(next(each.version for each in one.specifier if each.operator in (">=", "=="))).release
        assert Version(exact[name]).release[: len(lowest)] == lowest, f"{one}, but {exact[name]}: make lock"


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_versions_of_a_gpu_machine_still_resolve(python):
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv) if uv.exists() else shutil.which("uv") or "uv", "pip", "compile", "pyproject.toml"]
    command += ["--extra", "vllm", "--extra", "http", "-c", "constraints-gpu.txt", "--no-header", "--no-annotate"]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--python-version", python, "--no-python-downloads"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)
    if "Failed to fetch" in done.stderr or "Could not connect" in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1].strip()}")
    assert done.returncode == 0, done.stderr
    found = {canonicalize_name(name): version for name, version in (line.split("==") for line in done.stdout.split())}
    assert found.items() <= pins("constraints-gpu.txt").items(), "make lock"

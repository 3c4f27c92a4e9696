"""What this machine is: printed as JSON by a process of its own, so that the parent holds no GPU memory."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess
from typing import Any

from benchmarks.gpu.sections import SECTIONS

VERSIONS = ("torch", "diffusers", "transformers", "huggingface_hub", "peft", "numpy")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """The driver's version by nvidia-smi; None where that is not there or does not answer."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.split()[0]
    except (subprocess.SubprocessError, IndexError):
        return None


def facts() -> dict[str, Any]:
    needed = sorted({package for section in SECTIONS for package in section.packages})
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
        "missing": missing,
        "gpus": 0,
        "gpu": None,
        "memory_gb": None,
        "cuda": None,
        "driver": None,
    }
    if "torch" not in missing:
        import torch

        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            found |= {"gpus": torch.cuda.device_count(), "gpu": properties.name, "driver": _driver()}
            found |= {"memory_gb": properties.total_memory / 1e9, "cuda": torch.version.cuda}
    return found


if __name__ == "__main__":
    print(json.dumps(facts()))

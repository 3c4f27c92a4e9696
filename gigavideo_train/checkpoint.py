"""Checkpoints from which a run goes on exactly: weights and optimiser state as safetensors, the rest as JSON.

    checkpoints/step-00000100/state.safetensors, state.json

A checkpoint gets its name when it is whole and on disk; the one before is removed after that, so a kill at any moment
leaves one that loads. Tensors are in one piece, so that any number of processes may go on.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

from gigavideo_data.errors import RunError
from gigavideo_data.store import sync

MOMENTS = ("exp_avg", "exp_avg_sq")


def state(parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, as they are: divided over processes, perhaps."""
    tensors: dict[str, torch.Tensor] = {f"weight.{name}": parameter for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        tensors |= {f"{moment}.{name}": optimizer.state[parameter][moment] for moment in MOMENTS}
    return tensors


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write the state after `step` optimiser steps, in one piece on the CPU; `facts` must be equal at resume."""
    part = folder / f".part-{step:08}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / "state.safetensors")
    (part / "state.json").write_text(json.dumps({"step": step, "facts": facts}, indent=1, sort_keys=True))
    for path in (*part.iterdir(), part):
        sync(path)
    part.rename(folder / f"step-{step:08}")
    sync(folder)
    for old in folder.iterdir():
        if old.name != f"step-{step:08}":
            shutil.rmtree(old)


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    return max(folder.glob("step-*"), default=None) if folder.is_dir() else None


def load(
    path: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW, facts: dict[str, Any]
) -> int:
    """Put a checkpoint's state into place, and of parameters that are divided this process's part.

    Returns:
        The number of optimiser steps done.

    Raises:
        RunError: the run is another one: its dataset, settings or model changed.
    """
    saved = json.loads((path / "state.json").read_text())
    changed = [key for key in facts if saved["facts"].get(key) != facts[key]]
    if changed:
        told = "; ".join(f"{key} was {_short(saved['facts'].get(key))}, is {_short(facts[key])}" for key in changed)
        raise RunError(f"{path.parent.parent}: cannot go on, it was another run: {told}. Train into another --out.")
    tensors = load_file(path / "state.safetensors")
    step = int(saved["step"])
    with torch.no_grad():
        for name, parameter in parameters.items():
            _fill(parameter, tensors[f"weight.{name}"])
            moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
            for moment, tensor in moments.items():
                _fill(tensor, tensors[f"{moment}.{name}"])
            # Where AdamW wants it: beside the weights if it is fused.
            at = parameter.device if optimizer.defaults["fused"] else "cpu"
            optimizer.state[parameter] = {"step": torch.tensor(float(step), device=at), **moments}
    return step


def _fill(tensor: torch.Tensor, whole: torch.Tensor) -> None:
    if isinstance(tensor, DTensor):  # every process has read the file: nothing needs to be sent
        part = distribute_tensor(whole, tensor.device_mesh, tensor.placements, src_data_rank=None)
        tensor.to_local().copy_(part.to_local())
    else:
        tensor.copy_(whole)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

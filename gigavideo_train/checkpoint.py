"""Checkpoints from which a run goes on exactly: weights and optimiser state as safetensors, the rest as JSON.

    checkpoints/step-00000100/state.safetensors, state.json

A checkpoint gets its name when it is whole and on disk, and older ones than the one before are removed after that, so a
kill at any moment leaves one that loads, and a damaged disk may.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from gigavideo_data.errors import RunError
from gigavideo_data.store import sync

MOMENTS = ("exp_avg", "exp_avg_sq")
KEPT = 2


@dataclass(frozen=True)
class Done:
    """How far a run is.

    Attributes:
        steps: taken or skipped.
        skipped: of them, those without a finite loss and gradient, which left weights and optimiser as they were.
        in_row: skipped ones just before this moment.
    """

    steps: int = 0
    skipped: int = 0
    in_row: int = 0

    def after(self, *, finite: bool) -> Done:
        """One step further."""
        if finite:
            return Done(self.steps + 1, self.skipped)
        return Done(self.steps + 1, self.skipped + 1, self.in_row + 1)


def save(
    folder: Path,
    done: Done,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.AdamW,
    facts: dict[str, Any],
) -> None:
    """Write the state after some steps; `facts` must be equal at resume."""
    tensors = {f"weight.{name}": p.detach() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]  # empty as long as every step was skipped
        tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS if state}
    part = folder / f".part-{done.steps:08}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, part / "state.safetensors")
    (part / "state.json").write_text(json.dumps({"done": asdict(done), "facts": facts}, indent=1, sort_keys=True))
    for path in (*part.iterdir(), part):
        sync(path)
    part.rename(folder / f"step-{done.steps:08}")
    sync(folder)
    kept = sorted(folder.glob("step-*"))[-KEPT:]
    for old in folder.iterdir():
        if old not in kept:
            shutil.rmtree(old)


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    return max(folder.glob("step-*"), default=None) if folder.is_dir() else None


def load(
    path: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW, facts: dict[str, Any]
) -> Done:
    """Put a checkpoint's state into place.

    Returns:
        How far the run was.

    Raises:
        RunError: the run is another one: its dataset, settings or model changed.
    """
    saved = json.loads((path / "state.json").read_text())
    changed = [key for key in facts if saved["facts"].get(key) != facts[key]]
    if changed:
        told = "; ".join(f"{key} was {_short(saved['facts'].get(key))}, is {_short(facts[key])}" for key in changed)
        raise RunError(f"{path.parent.parent}: cannot go on, it was another run: {told}. Train into another --out.")
    tensors = load_file(path / "state.safetensors")
    done = Done(**saved["done"])
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weight.{name}"])
            if done.steps > done.skipped:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(done.steps - done.skipped)),
                    **{moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS},
                }
    return done


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

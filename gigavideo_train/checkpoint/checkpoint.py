"""Checkpoints from which a run goes on exactly: weights and optimiser state as safetensors, the rest as JSON.

    checkpoints/step-00000100/state.safetensors, state.json

A checkpoint gets its name when it is whole and on disk, and older ones than the one before are removed after that, so a
kill at any moment leaves one that loads. If the newest one is damaged, the one before it is taken. Tensors are in one
piece, so that any number of processes may go on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

from gigavideo_data.errors import RunError
from gigavideo_data.io.atomic import sync
from gigavideo_data.io.disk import writing

MOMENTS = ("exp_avg", "exp_avg_sq")
KEPT = 2
STATE, FACTS = "state.safetensors", "state.json"  # the files of a checkpoint


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


def state(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW, mean: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, as they are: divided over processes, perhaps. `mean` is empty without `ema`."""
    tensors: dict[str, torch.Tensor] = {f"weight.{name}": parameter for name, parameter in parameters.items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in mean.items()}
    for name, parameter in parameters.items():
        moments = optimizer.state[parameter]  # empty as long as every step was skipped
        tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS if moments}
    return tensors


def save(folder: Path, done: Done, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write the state after some steps, in one piece on the CPU; `facts` say what run it is.

    Raises:
        RunError: it cannot be written. What was there before is left as it was.
    """
    part, final = folder / f".part-{done.steps:08}", folder / f"step-{done.steps:08}"
    shutil.rmtree(part, ignore_errors=True)
    text = json.dumps({"done": asdict(done), "facts": facts}, indent=1, sort_keys=True)
    num_bytes = sum(tensor.nbytes for tensor in tensors.values()) + len(text)
    earlier = [path.name for path in _all(folder) if path.name < final.name]
    after = f"{earlier[-1]} is kept" if earlier else "There is no earlier checkpoint"
    with writing(final / STATE, num_bytes, f"{after}; make room, and go on with --resume.", part):
        part.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / STATE)
        (part / FACTS).write_text(text)
        for path in (*part.iterdir(), part):
            sync(path)
    shutil.rmtree(final, ignore_errors=True)  # a damaged one that a resume went back from
    part.rename(final)
    sync(folder)
    kept = [path for path in _all(folder) if path.name <= final.name][-KEPT:]
    for old in folder.iterdir():
        if old not in kept:
            shutil.rmtree(old)


def latest(folder: Path, note: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint, None if there is none at all; `note` is told of damaged ones that are passed over.

    Raises:
        RunError: all are damaged.
    """
    paths = _all(folder)[::-1]
    for path in paths:
        damage = _damage(path)
        if damage is None:
            return path
        note(f"checkpoint {path} is damaged ({damage}); the one before it is taken")
    if paths:
        raise RunError(f"{folder}: no checkpoint can be read. Remove {folder.parent}, or train into another --out.")
    return None


def _all(folder: Path) -> list[Path]:
    """Checkpoints, the oldest first."""
    return sorted(folder.glob("step-*"))


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint: a file that is missing, cut or empty. None if it can be read."""
    try:
        with safe_open(path / STATE, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        return f"{STATE}: {error}"
    try:
        read = json.loads((path / FACTS).read_text())
        Done(**read["done"]), dict(read["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{FACTS}: {error}"
    return None


def changes(path: Path, facts: dict[str, Any], *, allowed: bool) -> list[str]:
    """What is no longer as it was when a checkpoint was written, one sentence each.

    Raises:
        RunError: there is something, and it is not allowed.
    """
    before, now = _flat(json.loads((path / FACTS).read_text())["facts"]), _flat(facts)
    differ = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    told = [f"{key} was {_short(before.get(key))}, is {_short(now.get(key))}" for key in differ]
    if told and not allowed:
        raise RunError(
            f"{path.parent.parent}: cannot go on, it was another run: {'; '.join(told)}. Train into another --out, or "
            "go on all the same with --resume-changed."
        )
    return told


def load(
    path: Path,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.AdamW,
    mean: dict[str, torch.Tensor],
) -> Done:
    """Put a checkpoint's state into place, and of what is divided this process's part.

    A `mean` that was not kept before starts from the weights.

    Returns:
        How far the run was.

    Raises:
        RunError: the checkpoint is of other weights than are trained.
    """
    tensors = load_file(path / STATE)
    shapes = {name.removeprefix("weight."): t.shape for name, t in tensors.items() if name.startswith("weight.")}
    if shapes != {name: parameter.shape for name, parameter in parameters.items()}:
        raise RunError(f"{path.parent.parent}: cannot go on, other weights were trained. Train into another --out.")
    done = Done(**json.loads((path / FACTS).read_text())["done"])
    with torch.no_grad():
        for name, parameter in parameters.items():
            _fill(parameter, tensors[f"weight.{name}"])
            if done.steps > done.skipped:
                moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
                for moment, tensor in moments.items():
                    _fill(tensor, tensors[f"{moment}.{name}"])
                # Where AdamW wants it: beside the weights if it is fused.
                at = parameter.device if optimizer.defaults["fused"] else "cpu"
                taken = torch.tensor(float(done.steps - done.skipped), device=at)
                optimizer.state[parameter] = {"step": taken, **moments}
        for name, tensor in mean.items():
            _fill(tensor, tensors.get(f"ema.{name}", tensors[f"weight.{name}"]))
    return done


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """Settings one by one: "config.lr" instead of all in one."""
    parts = (value.items() if isinstance(value, dict) else [("", value)] for value in facts.values())
    return {f"{key}.{name}".rstrip("."): value for key, part in zip(facts, parts, strict=True) for name, value in part}


def _fill(tensor: torch.Tensor, whole: torch.Tensor) -> None:
    if isinstance(tensor, DTensor):  # every process has read the file: nothing needs to be sent
        part = distribute_tensor(whole, tensor.device_mesh, tensor.placements, src_data_rank=None)
        tensor.to_local().copy_(part.to_local())
    else:
        tensor.copy_(whole)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 42 else f"{text[:39]}..."  # a commit can be copied from it

"""Checkpoints from which a run resumes exactly: weights and optimizer state as safetensors, the rest as JSON.

    checkpoints/step-00000100/state.safetensors, state.json

Each process writes its shards of the tensors (state-00001-of-00008.safetensors), so none holds a whole large model, and
reads the parts that it needs, so any number of processes can resume. A checkpoint gets its final name when all of it is
on disk; only then are those before the previous one removed. So a kill at any moment leaves one that loads. If the
newest one is damaged, the previous one is used.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from gigavideo_data.errors import RunError
from gigavideo_data.io.atomic import sync
from gigavideo_data.io.disk import writing

MOMENTS = ("exp_avg", "exp_avg_sq")
KEPT = 2
STATE, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Done:
    """The steps that a run has done.

    Attributes:
        steps: taken or skipped.
        skipped: steps without a finite loss and gradient, which did not change weights and optimizer.
        in_row: consecutive skipped steps at the end.
    """

    steps: int = 0
    skipped: int = 0
    in_row: int = 0

    def after(self, *, finite: bool) -> Done:
        """The counts after one more step."""
        if finite:
            return Done(self.steps + 1, self.skipped)
        return Done(self.steps + 1, self.skipped + 1, self.in_row + 1)


def state(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.AdamW, average: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, possibly sharded. `average` is empty without `ema`."""
    tensors: dict[str, torch.Tensor] = {f"weight.{name}": parameter for name, parameter in parameters.items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in average.items()}
    for name, parameter in parameters.items():
        moments = optimizer.state[parameter]  # empty if every step was skipped
        tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS if moments}
    return tensors


def save(folder: Path, done: Done, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write a checkpoint; a collective call where several processes train.

    Args:
        folder: of all checkpoints of the run.
        done: the steps so far.
        tensors: as `state` returns them.
        facts: JSON-able; what identifies the run, compared by `changes`.

    Raises:
        RunError: it cannot be written. Earlier checkpoints are kept.
    """
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    part, final = folder / f".part-{done.steps:08}", folder / f"step-{done.steps:08}"
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    earlier = [path.name for path in _all(folder) if path.name < final.name]
    after = f"{earlier[-1]} is kept" if earlier else "There is no earlier checkpoint"
    with writing(final / STATE, num_bytes, f"{after}; free disk space, and continue with --resume.", part):
        if is_first:
            shutil.rmtree(part, ignore_errors=True)
        _barrier()
        with _one_process_or_all():
            dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(part), save_distributed=True))
        if is_first:
            shards = sorted(part.glob("shard-*"))
            names = [_file_name(number, len(shards)) for number in range(len(shards))]
            for path, name in zip(shards, names, strict=True):
                path.rename(part / name)
            content = {"done": asdict(done), "facts": facts, "files": names}
            (part / FACTS).write_text(json.dumps(content, indent=1, sort_keys=True))
            sync(part / FACTS)
            sync(part)
            shutil.rmtree(
                final, ignore_errors=True
            )  # a damaged one, from before the run was resumed at an earlier step
            part.rename(final)
            sync(folder)
            _remove_old(folder, final)
    _barrier()


def _file_name(number: int, count: int) -> str:
    return STATE if count == 1 else STATE.replace(".", f"-{number + 1:05}-of-{count:05}.")


def _remove_old(folder: Path, newest: Path) -> None:
    kept = [path for path in _all(folder) if path.name <= newest.name][-KEPT:]
    for old in folder.iterdir():
        if old not in kept:
            shutil.rmtree(old)


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def _one_process_or_all() -> Iterator[None]:
    """Raise the error of the process that failed, and be silent about a run of one process, which needs no group."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
            yield
    except CheckpointException as failed:
        ((error, _), *_) = failed.failures.values()
        raise error from failed


def latest(folder: Path, note: Callable[[str], None]) -> Path | None:
    """The newest undamaged checkpoint; None if there is none at all. `note` gets a line for each damaged one.

    Raises:
        RunError: all are damaged.
    """
    paths = _all(folder)[::-1]
    for path in paths:
        damage = _damage(path)
        if damage is None:
            return path
        note(f"checkpoint {path} is damaged ({damage}); the previous one is used")
    if paths:
        raise RunError(f"{folder}: no checkpoint can be read. Remove {folder.parent}, or train into another --out.")
    return None


def _all(folder: Path) -> list[Path]:
    """Checkpoints, the oldest first."""
    return sorted(folder.glob("step-*"))


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint: a missing, truncated or empty file. None if it can be read."""
    try:
        content = _content(path)
        Done(**content["done"]), dict(content["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{FACTS}: {error}"
    for name in content["files"]:
        try:
            with safe_open(path / name, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{name}: {error}"
    return None


def _content(path: Path) -> dict[str, Any]:
    """state.json; checkpoints of earlier versions do not list their only file of tensors."""
    return {"files": [STATE]} | json.loads((path / FACTS).read_text())


def changes(path: Path, facts: dict[str, Any], *, allowed: bool) -> list[str]:
    """Differences between this run and the one that wrote a checkpoint, one sentence each.

    Raises:
        RunError: there are differences, and they are not `allowed`.
    """
    before, now = _flat(_content(path)["facts"]), _flat(facts)
    differ = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    sentences = [f"{key} was {_short(before.get(key))}, is {_short(now.get(key))}" for key in differ]
    if sentences and not allowed:
        raise RunError(
            f"{path.parent.parent}: cannot resume, it was another run: {'; '.join(sentences)}. Train into another "
            "--out, or resume nevertheless with --resume-changed."
        )
    return sentences


def load(
    path: Path,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.AdamW,
    average: dict[str, torch.Tensor],
) -> Done:
    """Restore weights, optimizer state and EMA; of sharded tensors this process's part. A collective call.

    An `average` that the checkpoint does not have starts from the weights.

    Returns:
        The steps that the run had done.

    Raises:
        RunError: the checkpoint has other parameters than are trained.
    """
    reader = dcp.HuggingFaceStorageReader(str(path))
    sizes = {name: entry.size for name, entry in reader.read_metadata().state_dict_metadata.items()}
    weights = {name.removeprefix("weight."): size for name, size in sizes.items() if name.startswith("weight.")}
    if weights != {name: parameter.shape for name, parameter in parameters.items()}:
        raise RunError(f"{path.parent.parent}: cannot resume, other weights were trained. Train into another --out.")
    done = Done(**_content(path)["done"])
    if done.steps > done.skipped:
        for parameter in parameters.values():
            # A fused AdamW needs its step count beside the weights.
            device = parameter.device if optimizer.defaults["fused"] else "cpu"
            taken = torch.tensor(float(done.steps - done.skipped), device=device)
            moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
            optimizer.state[parameter] = {"step": taken, **moments}
    tensors = state(parameters, optimizer, average)
    with _one_process_or_all(), torch.no_grad():
        dcp.load({name: tensor.detach() for name, tensor in tensors.items() if name in sizes}, storage_reader=reader)
        for name, tensor in average.items():
            if f"ema.{name}" not in sizes:
                tensor.copy_(parameters[name])
    return done


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """Nested facts by dotted names, such as "config.lr"."""
    parts = (value.items() if isinstance(value, dict) else [("", value)] for value in facts.values())
    return {f"{key}.{name}".rstrip("."): value for key, part in zip(facts, parts, strict=True) for name, value in part}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 42 else f"{text[:39]}..."  # long enough for a commit

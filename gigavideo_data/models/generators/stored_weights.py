"""The weights of transformers in pipeline folders: in which dtype they are stored, and what rounding them would lose.

A fine-tune with a small learning rate changes most weights by less than a step of bfloat16. So a model whose weights
are stored in float32 is evaluated with them, not rounded as a pipeline is usually loaded on an accelerator.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import safe_open


class Rounding(TypedDict):
    """Numbers of weights: all, those that a fine-tune changed, and of these those that still differ in bfloat16."""

    weights: int
    changed: int
    kept: int


def stored_in_float32(pipeline_folder: Path) -> bool:
    """Whether all weights of a pipeline's transformer are stored in float32."""
    with ExitStack() as stack:
        tensors = _tensors(pipeline_folder, stack)
        return bool(tensors) and all(file.get_slice(name).get_dtype() == "F32" for name, file in tensors.items())


def rounding(base_folder: Path, tuned_folder: Path) -> Rounding | None:
    """What of a fine-tune is left when all weights are rounded to bfloat16; None if the models have other weights."""
    found = Rounding(weights=0, changed=0, kept=0)
    with ExitStack() as stack:
        base, tuned = (_tensors(folder, stack) for folder in (base_folder, tuned_folder))
        if base.keys() != tuned.keys():
            return None
        for name in base:
            before, after = base[name].get_tensor(name), tuned[name].get_tensor(name)
            if before.shape != after.shape:
                return None
            found["weights"] += after.numel()
            found["changed"] += int((before.float() != after.float()).sum())
            found["kept"] += int((before.to(torch.bfloat16) != after.to(torch.bfloat16)).sum())
    return found


def _tensors(pipeline_folder: Path, stack: ExitStack) -> dict[str, Any]:
    """The open file of each tensor of the transformer, which may be in several."""
    files = sorted((pipeline_folder / "transformer").glob("*.safetensors"))
    opened = [stack.enter_context(safe_open(file, "pt")) for file in files]
    return {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - the file is no mapping

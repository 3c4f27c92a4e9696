"""How many bytes of tensors are alive, by what they are, at the fullest moment of each phase."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GRANULE = 512  # bytes; torch's allocators round up to it
OTHER = "activations"

Kinds = dict[str, float]  # bytes by what they are


class Live(TorchDispatchMode):
    """Counts the storages of all tensors that operations return while it is on. Fake tensors count as real ones.

    Args:
        shares: of a kind, the bytes that count per byte; 1 if a kind is not there.
    """

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self._shares = shares or {}
        self._storages: dict[int, tuple[str, int]] = {}  # by address: kind and bytes
        self._now: Kinds = {}
        self._phase: Hashable = None
        self.peaks: dict[Hashable, Kinds] = {None: {}}  # by phase

    def __torch_dispatch__(
        self, op: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = op(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf)
        return result

    def label(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """Say what tensors are; before, they are `OTHER`."""
        for tensor in tensors:
            self._add(tensor)
            key = tensor.untyped_storage()._cdata
            before, size = self._storages[key]
            self._storages[key] = kind, size
            self._count(before, -size)
            self._count(kind, size)

    def start(self, phase: Hashable) -> None:
        """Begin a phase; one that was there before begins anew."""
        self._phase = phase
        self.peaks[phase] = dict(self._now)

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        size = -(-storage.nbytes() // GRANULE) * GRANULE
        self._storages[key] = OTHER, size
        self._count(OTHER, size)
        weakref.finalize(storage, self._drop, key)
        if sum(self._now.values()) > sum(self.peaks[self._phase].values()):
            self.peaks[self._phase] = dict(self._now)

    def _drop(self, key: int) -> None:
        kind, size = self._storages.pop(key)
        self._count(kind, -size)

    def _count(self, kind: str, size: int) -> None:
        self._now[kind] = self._now.get(kind, 0.0) + self._shares.get(kind, 1.0) * size

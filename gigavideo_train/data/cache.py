"""What is kept is encoded once: latents and text embeddings as safetensors, named by content and encoder.

    cache/<ab>/<sha256 of encoder, settings and clip or prompt>.safetensors

Written whole or not at all, so runs may share a cache and a killed one leaves nothing broken behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.disk import writing


class Cache:
    """A folder of tensors; `encoder` names whatever decides a tensor besides its source."""

    def __init__(self, root: Path, encoder: str) -> None:
        self.root, self.encoder = root, encoder

    def _path(self, source: str) -> Path:
        name = hashlib.sha256(f"{self.encoder}\n{source}".encode()).hexdigest()
        return self.root / name[:2] / f"{name}.safetensors"

    def has(self, source: str) -> bool:
        """Whether there is a tensor; a damaged file counts as none and is made again."""
        try:
            self.shape(source)
        except (OSError, SafetensorError):
            return False
        return True

    def shape(self, source: str) -> tuple[int, ...]:
        """Shape of a tensor, by the head of its file."""
        with safe_open(self._path(source), "pt") as file:
            return tuple(file.get_slice("x").get_shape())

    def get(self, source: str) -> torch.Tensor:
        return load_file(self._path(source))["x"]

    def size(self, sources: Iterable[str]) -> int:
        """Bytes on disk that sources take."""
        return sum(self._path(source).stat().st_size for source in sources)

    def make(self, source: str, encode: Callable[[], torch.Tensor]) -> None:
        """Encode and keep.

        Raises:
            RunError: it cannot be written.
        """
        path, data = self._path(source), save({"x": encode().contiguous()})
        with writing(path, len(data), "What was encoded before is kept; make room, and run the same command again."):
            write_durably(path, data)

"""The encoding cache: latents and text embeddings as safetensors, named by content and encoder.

    cache/<ab>/<sha256 of encoder, settings and clip or prompt>.safetensors

A file is written completely or not at all, so several runs may share a cache, and a killed run leaves no broken file.
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
    """A folder of tensors, by the name of their source.

    Args:
        root: of all caches.
        encoder: names whatever decides a tensor besides its source.
    """

    def __init__(self, root: Path, encoder: str) -> None:
        self.root, self.encoder = root, encoder

    def _path(self, source: str) -> Path:
        name = hashlib.sha256(f"{self.encoder}\n{source}".encode()).hexdigest()
        return self.root / name[:2] / f"{name}.safetensors"

    def has(self, source: str) -> bool:
        """Whether the tensor is cached; a damaged file does not count and is written again."""
        try:
            self.shape(source)
        except (OSError, SafetensorError):
            return False
        return True

    def shape(self, source: str) -> tuple[int, ...]:
        """Shape of a cached tensor, from the header of its file."""
        with safe_open(self._path(source), "pt") as file:
            return tuple(file.get_slice("x").get_shape())

    def get(self, source: str) -> torch.Tensor:
        return load_file(self._path(source))["x"]

    def size(self, sources: Iterable[str]) -> int:
        """Bytes of the files of these sources."""
        return sum(self._path(source).stat().st_size for source in sources)

    def make(self, source: str, encode: Callable[[], torch.Tensor]) -> None:
        """Encode a source and write the tensor.

        Raises:
            RunError: it cannot be written.
        """
        path, data = self._path(source), save({"x": encode().contiguous()})
        with writing(path, len(data), "Earlier encodings are kept; free disk space, and run the same command again."):
            write_durably(path, data)

"""What one section gets: a device, a size, a folder for its files, a deadline, and where to record figures."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.measure import Recorder


@dataclass(frozen=True)
class Job:
    """One section's run.

    Attributes:
        device: `cuda` or `cpu`.
        tiny: whether the smallest models are used; their figures mean nothing.
        latents: a dataset with latents, for section `correctness`.
        scratch: an empty folder for models and datasets.
        deadline: of `time.monotonic()`; the parent ends the section then.
        record: takes figures.
    """

    device: torch.device
    tiny: bool
    latents: Path | None
    scratch: Path
    deadline: float
    record: Recorder

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()

    def has_time(self, name: str, needed_s: float) -> bool:
        """Whether a part still fits; if not, that is recorded."""
        fits = self.tiny or self.left_s > needed_s
        if not fits:
            self.record.note(name, f"left out: needs about {needed_s:.0f} s, {max(0, self.left_s):.0f} s are left")
        return fits

    def free_memory(self) -> None:
        """Return GPU memory that nothing uses and start a new peak.

        A block whose `forward` was replaced refers to itself, so a model that is done with waits for the collector.
        """
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gb(self) -> float | None:
        """Most memory allocated since `free_memory`, 10^9 bytes; None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else None

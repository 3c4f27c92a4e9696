"""What a pass through the model takes: clips at their noise levels, and what is told of them; made ahead of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.data.dataset import Row
from gigavideo_train.data.encode import Tensors
from gigavideo_train.data.samples import Unit
from gigavideo_train.losses import flow
from gigavideo_train.models.base import Condition

CPU = torch.device("cpu")
SOURCES = ("synthetic", "twin")  # of units; a real clip comes with its twin

Item = TypeVar("Item")
Made = TypeVar("Made")


class Noised(NamedTuple):
    """Clips of one shape on the way from clean latents to noise, float32.

    Attributes:
        clean_BCFHW, noise_BCFHW: the ends.
        noisy_BCFHW: the point at sigma.
        sigma_B: in (0, 1).
        told: of these clips.
    """

    clean_BCFHW: torch.Tensor
    noise_BCFHW: torch.Tensor
    noisy_BCFHW: torch.Tensor
    sigma_B: torch.Tensor
    told: Condition

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Noised:
        """The same with every tensor changed."""
        return Noised(
            change(self.clean_BCFHW),
            change(self.noise_BCFHW),
            change(self.noisy_BCFHW),
            change(self.sigma_B),
            Condition(*map(change, self.told)),
        )


@dataclass(frozen=True)
class Inputs:
    """One pass.

    Attributes:
        units: of one shape, so all have a real clip, or a loser, or none has.
        counts: False for a pass that is made only because other processes make theirs: its loss is 0.
        clip: of the units' own rows.
        real: of their real clips, where the realism term wants them.
        loser: of the worse clips of preferences, at the noise level and with the noise of the better ones.
        weight_B, scale_B: of the units, see `units`.
        source_B: the place of each row's source in `SOURCES`.
    """

    units: list[Unit]
    counts: bool
    clip: Noised
    real: Noised | None
    loser: Noised | None
    weight_B: torch.Tensor
    scale_B: torch.Tensor
    source_B: torch.Tensor

    @classmethod
    def of(
        cls,
        units: list[Unit],
        epoch: int,
        tensors: Tensors,
        schedule: flow.Schedule,
        config: TrainConfig,
        *,
        counts: bool = True,
    ) -> Inputs:
        """Put together from the cache, on the CPU; all randomness is a function of (seed, epoch, id)."""
        own = [unit.id for unit in units]

        def noised(rows: list[Row], names: list[str]) -> Noised:
            clean_BCFHW = tensors.latents(rows)
            sigma_B, noise_BCFHW = flow.draws(names, clean_BCFHW.shape[1:], config.seed, epoch, schedule)
            noisy_BCFHW = flow.interpolate(clean_BCFHW, noise_BCFHW, sigma_B)
            return Noised(clean_BCFHW, noise_BCFHW, noisy_BCFHW, sigma_B, tensors.told(rows, CPU))

        realism = config.lambda_kl > 0 and config.strategy != "dpo"
        real = [unit.real for unit in units if unit.real is not None and realism]
        loser = [unit.loser for unit in units if unit.loser is not None]
        return cls(
            units,
            counts,
            noised([unit.row for unit in units], own),
            noised(real, [row["id"] for row in real]) if real else None,
            noised(loser, own) if loser else None,
            torch.tensor([unit.weight for unit in units]),
            torch.tensor([counts * unit.scale for unit in units]),
            torch.tensor([SOURCES.index(unit.row["source"]) for unit in units]),
        )

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
        """The same with every tensor changed: put into pinned memory, or on a device."""
        return replace(
            self,
            clip=self.clip.each(change),
            real=self.real and self.real.each(change),
            loser=self.loser and self.loser.each(change),
            weight_B=change(self.weight_B),
            scale_B=change(self.scale_B),
            source_B=change(self.source_B),
        )


def ahead(items: Iterable[Item], make: Callable[[Item], Made], *, threaded: bool = True) -> Iterator[tuple[Item, Made]]:
    """Each item with what is made of it: by another thread while the one before is in use, or when it is wanted."""
    if not threaded:
        yield from ((item, make(item)) for item in items)
        return
    with ThreadPoolExecutor(1, "inputs") as thread:
        coming: tuple[Item, Future[Made]] | None = None
        for item in items:
            before, coming = coming, (item, thread.submit(make, item))
            if before:
                yield before[0], before[1].result()
        if coming:
            yield coming[0], coming[1].result()

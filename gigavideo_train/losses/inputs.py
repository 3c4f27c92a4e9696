"""The inputs of a forward pass: noised clips and their conditioning, prepared by another thread one batch ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch

from gigavideo_data.rows import DatasetRow
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.encode import NO_PROMPT, Conditioning, EncodedRows
from gigavideo_train.data.samples import Sample
from gigavideo_train.losses import flow
from gigavideo_train.models.base import Condition

CPU = torch.device("cpu")
VALIDATION_EPOCH = -1  # in the seed of noise and sigma: no epoch of training has this number
SOURCES = ("synthetic", "twin")  # of samples; a real clip belongs to the sample of its twin

Item = TypeVar("Item")
Result = TypeVar("Result")


class Noised(NamedTuple):
    """Clips of one shape at their noise levels, float32.

    Attributes:
        clean_BCFHW: latents.
        noise_BCFHW: standard normal noise.
        noisy_BCFHW: the interpolation of both at sigma.
        sigma_B: noise level in (0, 1).
        condition: of these clips.
        unconditional: the same with the empty prompt; only with `loss_guidance`.
    """

    clean_BCFHW: torch.Tensor
    noise_BCFHW: torch.Tensor
    noisy_BCFHW: torch.Tensor
    sigma_B: torch.Tensor
    condition: Condition
    unconditional: Condition | None = None

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Noised:
        """A copy with every tensor changed."""
        clean, noise, noisy, sigma, condition, unconditional = self
        return Noised(
            change(clean),
            change(noise),
            change(noisy),
            change(sigma),
            Condition(*map(change, condition)),
            unconditional and Condition(*map(change, unconditional)),
        )


@dataclass(frozen=True)
class Inputs:
    """One forward pass.

    Attributes:
        samples: of one shape, so either all have a real clip or none has; the same for losers.
        counts: False for a pass that only keeps this process in step with the others; its loss is 0.
        clip: the samples' own rows.
        real: their real clips, where the realism term needs a forward pass or a target.
        loser: the worse clips of preferences, with the sigma and noise of the better ones.
        weight_B: w of each sample, see `samples`.
        scale_B: factor of the branch of each sample, see `samples`; 0 for a pass that does not count.
        source_B: index of each row's source in `SOURCES`.
        advantage_B: for `nft`; 0 elsewhere.
    """

    samples: list[Sample]
    counts: bool
    clip: Noised
    real: Noised | None
    loser: Noised | None
    weight_B: torch.Tensor
    scale_B: torch.Tensor
    source_B: torch.Tensor
    advantage_B: torch.Tensor

    @classmethod
    def of(
        cls,
        samples: list[Sample],
        epoch: int,
        encoded: EncodedRows,
        schedule: flow.Schedule,
        config: TrainConfig,
        *,
        counts: bool = True,
    ) -> Inputs:
        """Inputs on the CPU, read from the cache; all randomness is a function of (seed, epoch, id)."""
        share = 0.0 if epoch == VALIDATION_EPOCH else config.prompt_dropout
        dropped = [flow.drops_prompt(sample.id, config.seed, epoch, share) for sample in samples]

        def noised(rows: list[DatasetRow], names: list[str]) -> Noised | None:
            return _noised(rows, names, dropped, epoch, encoded, schedule, config) if rows else None

        uses_real = config.lambda_kl > 0 and config.strategy != "dpo"
        real = [sample.real for sample in samples if sample.real is not None and uses_real]
        loser = [sample.loser for sample in samples if sample.loser is not None]
        names = [sample.id for sample in samples]
        clip = noised([sample.row for sample in samples], names)
        assert clip is not None, "a pass without samples"
        return cls(
            samples,
            counts,
            clip,
            noised(real, [row["id"] for row in real]),
            noised(loser, names),
            torch.tensor([sample.weight for sample in samples]),
            torch.tensor([counts * sample.scale for sample in samples]),
            torch.tensor([SOURCES.index(sample.row["source"]) for sample in samples]),
            torch.tensor([sample.advantage or 0.0 for sample in samples]),
        )

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
        """A copy with every tensor changed, such as moved to pinned memory or to a device."""
        return replace(
            self,
            clip=self.clip.map(change),
            real=self.real and self.real.map(change),
            loser=self.loser and self.loser.map(change),
            weight_B=change(self.weight_B),
            scale_B=change(self.scale_B),
            source_B=change(self.source_B),
            advantage_B=change(self.advantage_B),
        )


def _noised(
    rows: list[DatasetRow],
    names: list[str],
    dropped: list[bool],
    epoch: int,
    encoded: EncodedRows,
    schedule: flow.Schedule,
    config: TrainConfig,
) -> Noised:
    """Clips with noise and sigma by `names`, and without their prompts where these are `dropped`."""
    clean_BCFHW = encoded.latents(rows)
    sigma_B, noise_BCFHW = flow.draws(names, clean_BCFHW.shape[1:], config.seed, epoch, schedule)
    noisy_BCFHW = flow.interpolate(clean_BCFHW, noise_BCFHW, sigma_B)
    without: list[Conditioning] = [{"prompt": NO_PROMPT, "fps": row["fps"]} for row in rows]
    conditions: list[Conditioning] = [
        no_prompt if drop else row for row, no_prompt, drop in zip(rows, without, dropped, strict=True)
    ]
    condition = encoded.condition(conditions, CPU)
    unconditional = encoded.condition(without, CPU) if config.loss_guidance is not None else None
    return Noised(clean_BCFHW, noise_BCFHW, noisy_BCFHW, sigma_B, condition, unconditional)


def prefetch(
    items: Iterable[Item], compute: Callable[[Item], Result], *, threaded: bool = True
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, computed by another thread while the previous one is in use.

    Without `threaded` a result is computed when it is requested.
    """
    if not threaded:
        yield from ((item, compute(item)) for item in items)
        return
    with ThreadPoolExecutor(1, "inputs") as thread:
        pending: tuple[Item, Future[Result]] | None = None
        for item in items:
            previous, pending = pending, (item, thread.submit(compute, item))
            if previous:
                yield previous[0], previous[1].result()
        if pending:
            yield pending[0], pending[1].result()

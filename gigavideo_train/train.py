"""The training loop.

    gv-train --dataset runs/quickstart

Weights are float32, and AdamW's with them; on a GPU the forward pass computes in bfloat16. What a step computes depends
on (seed, step) alone, not on the number of processes or on where an earlier run stopped. All processes make the same
passes through the model in the same order, whatever their rows: it is put together for each of them.
"""

from __future__ import annotations

import copy
import math
import time
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from gigavideo_data.errors import RunError
from gigavideo_train.checkpoint import checkpoint, ema
from gigavideo_train.checkpoint.checkpoint import Done
from gigavideo_train.checkpoint.export import save_model
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.batches import Batch, batches, num_steps, portions
from gigavideo_train.data.encode import Tensors, encode
from gigavideo_train.distributed.signals import Stop
from gigavideo_train.distributed.world import World, whole
from gigavideo_train.judging.online import Scorer
from gigavideo_train.losses import flow
from gigavideo_train.losses import metrics as tally
from gigavideo_train.losses.inputs import Inputs, ahead
from gigavideo_train.losses.losses import Losses, Velocity, losses
from gigavideo_train.models import attention
from gigavideo_train.models.base import Condition
from gigavideo_train.models.loading import load
from gigavideo_train.models.registry import family_of
from gigavideo_train.monitoring import samples, validation
from gigavideo_train.monitoring.jsonl import Metrics, read
from gigavideo_train.plan import Plan
from gigavideo_train.step import Flops, adamw, backward, make_trainable, prepare, velocity_of

if TYPE_CHECKING:
    from gigavideo_data.io.progress import Progress


def train(
    plan: Plan,
    out: Path,
    cache_root: Path,
    world: World,
    progress: Progress,
    *,
    resume: bool,
    resume_changed: bool = False,
) -> Path:
    """Fine-tune on a plan's units.

    Args:
        plan: dataset, units, settings and model, all checked.
        out: folder of the run: metrics.jsonl, checkpoints/, model/, samples/ and samples.html.
        cache_root: latents and text embeddings, shared by runs.
        world: this process among its like.
        progress: where to show how far it is.
        resume: go on from the newest checkpoint in `out`, if there is one.
        resume_changed: even if dataset or settings are others now.

    Returns:
        The folder of the tuned model, or of its LoRA adapter.

    Raises:
        RunError: the folder holds another run, or `max_skips` steps in a row had no finite loss and gradient.
        KeyboardInterrupt: it was told to stop; a checkpoint of the last step is there.
    """
    config = plan.config
    family = family_of(plan.model_folder)
    torch.manual_seed(config.seed)  # only a LoRA's first weights are drawn from it
    pipeline = load(plan.model_folder)
    chosen = samples.chosen(plan, progress)
    tensors = encode(plan, pipeline, family, cache_root, world, progress, samples.texts(chosen))
    pipeline.register_modules(text_encoder=None)  # the largest part of some, and done with
    torch.cuda.empty_cache()
    transformer = pipeline.transformer.train()
    make_trainable(transformer, config, family)
    frozen = _frozen(transformer, config)
    for one in (transformer, frozen) if frozen else (transformer,):
        prepare(one, config, family, world)
    parameters = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
    optimizer = adamw(parameters.values(), config, world.device)
    mean = ema.copied(parameters) if config.ema else {}
    schedule = flow.Schedule(config.density, config.logit_mean, config.logit_std, plan.shift)

    total = num_steps(plan.units, config.epochs, config.batch_size, config.max_steps)
    flops: Flops = {}
    model = velocity_of(transformer, family, pipeline, world.device, flops)
    if frozen:
        reference = velocity_of(frozen, family, pipeline, world.device, flops)
    else:
        reference = _without_adapter(transformer, model)
    checkpoints = out / "checkpoints"
    newest = world.agreed(lambda: checkpoint.latest(checkpoints, progress.note)) if resume else None
    for change in checkpoint.changes(newest, plan.identity, allowed=resume_changed) if newest else ():
        progress.note(f"going on with another run: {change}")
    done = checkpoint.load(newest, parameters, optimizer, mean) if newest else Done()
    scorer = Scorer(plan.scoring, family, pipeline, world.device, config.decode_batch) if plan.scoring else None

    inputs = partial(Inputs.of, tensors=tensors, schedule=schedule, config=config)

    def passes(batch: Batch) -> list[Inputs]:
        """What this process computes of a batch. Who has nothing left passes the first unit, and it does not count."""
        mine = portions(batch.units, world.rank, world.size, config.micro_batch)
        found = [inputs(units or batch.units[:1], batch.epoch, counts=bool(units)) for units in mine]
        if world.device.type != "cuda":
            return found
        torch.cuda.set_device(world.device)  # another thread begins with the first one
        return [one.each(torch.Tensor.pin_memory) for one in found]

    def here(one: Inputs) -> Inputs:
        return one.each(lambda tensor: tensor.to(world.device, non_blocking=True))

    def loss_of(one: Inputs) -> Losses:
        return losses(one, model, reference, scorer, config)

    def held_out_loss() -> float:
        with ema.in_place(mean, parameters):  # of what would be the model now
            return validation.mean_loss(plan.held_out, config, world, passes, lambda one: loss_of(here(one)))

    def show(step: int, metrics: Metrics) -> None:
        with ema.in_place(mean, parameters):
            judged = samples.write(chosen, out, step, plan, tensors, pipeline, family, model, world)
        if judged:
            metrics.write(step=step, **judged)

    order = world.agreed(lambda: _kernels(plan, tensors, transformer, family, world))
    if order:
        progress.note(f"attention by {order[0]}, the fastest of those that run here")
    with (
        attention.preferred(order),  # the way back is inside too: what is recomputed there must be what was computed
        Metrics(out / "metrics.jsonl", done.steps, config.report_to, enabled=world.is_first) as metrics,
        Stop() as stop,
    ):
        if plan.held_out and not done.steps:
            metrics.write(step=0, held_out=held_out_loss())
        if chosen and not done.steps:
            show(0, metrics)
        progress.start("train", total=total, cached=done.steps)
        todo = islice(enumerate(batches(plan.units, config.epochs, config.batch_size, config.seed)), done.steps, total)
        began = time.perf_counter()
        on_gpu = world.device.type == "cuda"  # else another thread would take the cores that compute
        for (step, batch), made in ahead(todo, lambda numbered: passes(numbered[1]), threaded=on_gpu):
            lr = config.lr * _lr_share(step, total, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            sums = backward(map(here, made), loss_of, config, flops, world.device)
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
            # Summed over processes, so all of them decide alike; here, once a step, the device is waited for.
            asked, *summed = world.sum(torch.cat([sums.new_full((1,), stop.asked), sums]))
            loss, grad_norm = summed[0], float(whole(norm))
            finite = math.isfinite(loss) and math.isfinite(grad_norm)
            done = done.after(finite=finite)
            if finite:
                optimizer.step()
                ema.update(mean, parameters, config.ema, done.steps - done.skipped)
            optimizer.zero_grad(set_to_none=True)
            seconds = time.perf_counter() - began
            weights = [unit.weight for unit in batch.units]
            validates = plan.held_out and _due(step, total, config.validate_every)
            metrics.write(
                step=step + 1,
                epoch=batch.epoch,
                **tally.told(summed, len(batch.units), config.batch_size, seconds, online=config.online),
                s_per_step=seconds,
                mean_weight=sum(weights) / len(weights),
                effective_size=sum(weights) ** 2 / sum(w * w for w in weights),
                lr=lr,
                grad_norm=grad_norm,
                skipped=done.skipped,
                **({"held_out": held_out_loss()} if validates and not asked else {}),
            )
            if not finite:
                told = _not_finite(done, loss, grad_norm, batch)
                if done.in_row >= config.max_skips:
                    raise RunError(f"{told} It was so {done.in_row} times in a row. Lower lr, or look at these clips.")
                progress.note(told)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == total or asked:
                state = world.gathered(checkpoint.state(parameters, optimizer, mean))
                if world.is_first:
                    checkpoint.save(checkpoints, done, state, plan.identity)
                world.wait()
            if chosen and _due(step, total, config.sample_every) and not asked:
                show(step + 1, metrics)
            progress.advance()
            if asked:
                progress.note(f"stopped after step {done.steps} of {total}; --resume goes on from there")
                raise KeyboardInterrupt
            began = time.perf_counter()
        progress.finish()
    untuned = {name for name, p in transformer.named_parameters() if not p.requires_grad}
    with ema.in_place(mean, parameters):
        tuned = world.gathered({name: x for name, x in transformer.state_dict().items() if name not in untuned})
    if world.is_first:
        save_model(plan, pipeline, tuned, out / "model", total, read(out / "metrics.jsonl"))
    world.wait()
    return out / "model"


def _not_finite(done: Done, loss: float, grad_norm: float, batch: Batch) -> str:
    first = ", ".join(unit.id for unit in batch.units[:3])
    return (
        f"step {done.steps}: loss {loss} and gradient norm {grad_norm} are not both finite; the weights were not "
        f"touched. First units: {first}."
    )


def _due(step: int, total: int, every: int | None) -> bool:
    """Whether something that is done every so many steps, and after the last, is done after a step (from 0)."""
    return every is not None and ((step + 1) % every == 0 or step + 1 == total)


def _lr_share(step: int, total: int, config: TrainConfig) -> float:
    """The share of the learning rate that a step (from 0) uses: up over the warm-up, then level or down."""
    rising = (step + 1) / (config.warmup_steps + 1)
    falling = (total - step) / max(1, total - config.warmup_steps) if config.decay == "linear" else 1.0
    return min(1.0, rising, falling)


def _frozen(transformer: torch.nn.Module, config: TrainConfig) -> torch.nn.Module | None:
    """A copy of the model as it is before training; only `dpo` of all weights asks for it."""
    if config.strategy != "dpo" or config.tune == "lora":
        return None
    return copy.deepcopy(transformer).requires_grad_(False)


def _kernels(plan: Plan, tensors: Tensors, transformer: torch.nn.Module, family: ModuleType, world: World) -> list[str]:
    """Kernels for attention over the largest clip, the fastest first; on a CPU torch has its own."""
    if world.device.type != "cuda":
        return []
    largest = max((unit.row for unit in plan.units), key=lambda row: row["num_frames"] * row["height"] * row["width"])
    num_tokens = family.num_tokens(transformer, tensors.latents([largest]).shape[1:])
    heads, width = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    return attention.kernels(heads, num_tokens, width, world.device)


def _without_adapter(transformer: torch.nn.Module, velocity: Velocity) -> Velocity:
    """The model as it was before its LoRA."""

    def without_adapter(noisy: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        transformer.disable_adapters()
        try:
            return velocity(noisy, sigma, condition)
        finally:
            transformer.enable_adapters()

    return without_adapter

"""The training loop.

    gv-train --dataset runs/quickstart

Weights and AdamW's state are float32; on a GPU the forward pass computes in bfloat16. The result of a step depends on
(seed, step) only, not on the number of processes or on where an earlier part of the run stopped. All processes run the
same forward passes in the same order, whatever their rows, because each pass gathers the sharded model.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from gigavideo_data.errors import RunError
from gigavideo_data.models import attention
from gigavideo_data.scoring.training_weights import effective_size
from gigavideo_train.checkpoint import checkpoint, ema
from gigavideo_train.checkpoint.checkpoint import Done
from gigavideo_train.checkpoint.export import save_model
from gigavideo_train.data.batches import Batch, batches, num_steps, portions
from gigavideo_train.data.encode import NO_PROMPT, EncodedRows, encode
from gigavideo_train.distributed.signals import Stop
from gigavideo_train.distributed.world import World, full_tensor
from gigavideo_train.judging.online import Scorer
from gigavideo_train.losses import flow
from gigavideo_train.losses import metrics as tally
from gigavideo_train.losses.inputs import Inputs, prefetch
from gigavideo_train.losses.losses import Losses, combined, loss_parts
from gigavideo_train.models.base import Family
from gigavideo_train.models.loading import load_autoencoder, load_pipeline
from gigavideo_train.models.registry import load_family
from gigavideo_train.monitoring import samples
from gigavideo_train.monitoring.jsonl import Metrics, read
from gigavideo_train.monitoring.validation import ValidationSchedule, validation_loss
from gigavideo_train.plan import Plan
from gigavideo_train.step import TrainedModel, backward, clip_gradients, learning_rate, set_up_model, update_weights

if TYPE_CHECKING:
    from gigavideo_data.io.progress import Progress


def run_training(
    plan: Plan,
    out: Path,
    cache_root: Path,
    world: World,
    progress: Progress,
    *,
    resume: bool,
    resume_changed: bool = False,
) -> Path:
    """Fine-tune on the samples of a plan.

    Args:
        plan: dataset, samples, settings and model, all checked.
        out: folder of the run: metrics.jsonl, checkpoints/, model/, samples/ and samples.html.
        cache_root: latents and text embeddings, shared by runs.
        world: this process among all.
        progress: shows the stages and steps.
        resume: continue from the newest checkpoint in `out`, if there is one.
        resume_changed: also if dataset or settings have changed.

    Returns:
        The folder of the tuned model, or of its LoRA adapter.

    Raises:
        RunError: the folder holds another run, or `max_skips` steps in a row had no finite loss and gradient.
        KeyboardInterrupt: the run was stopped, after a checkpoint of its last step.
    """
    if not resume and (out / "checkpoints").is_dir():
        raise RunError(f"{out}: holds a run already. --resume continues it; another --out leaves it as it is.")
    run = _set_up(plan, out, cache_root, world, progress)
    config = plan.config
    done = _restore(run, allow_changes=resume_changed) if resume else Done()
    total = num_steps(plan.samples, config.epochs, config.batch_size, config.max_steps)
    steps = islice(enumerate(batches(plan.samples, config.epochs, config.batch_size, config.seed)), done.steps, total)
    on_gpu = world.device.type == "cuda"  # on a CPU a second thread would only take cores from the model
    num_groups = plan.num_groups
    validations = ValidationSchedule(total, done.steps, config.validate_share)
    with (
        attention.use_kernels(_choose_kernels(run)),  # in the backward too: recomputed activations must be equal
        Metrics(out / "metrics.jsonl", done.steps, config.report_to, enabled=world.is_first) as metrics,
        Stop() as stop,
    ):
        if not done.steps:
            _measure_base(run, metrics, validations)
        progress.start("train", total=total, cached=done.steps)
        began = time.perf_counter()
        for (step, batch), passes in prefetch(steps, lambda numbered: run.make_passes(numbered[1]), threaded=on_gpu):
            lr = learning_rate(step, total, config)
            sums = backward(passes, run.loss_parts, config, run.model.flops, world.device)
            outcome = _update(run, lr, sums, done, stop_requested=stop.requested)
            done = outcome.done
            seconds = time.perf_counter() - began
            validations.add_step(seconds)
            validates = plan.held_out and not outcome.stopping and _is_due(step, total, config.validate_every)
            validates = validates and world.broadcast_from_rank0(partial(validations.allows, done.steps))
            metrics.write(
                step=step + 1,
                epoch=batch.epoch,
                **_loss_metrics(run, batch, outcome, seconds),
                s_per_step=seconds,
                **_weight_metrics(batch, config.group_by, num_groups),
                lr=lr,
                grad_norm=outcome.grad_norm,
                skipped=done.skipped,
                **({"held_out": validations.measure(done.steps, partial(_validation_loss, run))} if validates else {}),
            )
            if done.in_row:
                _report_skipped(run, outcome, batch)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == total or outcome.stopping:
                _save_checkpoint(run, done)
            if run.sample_writer and not outcome.stopping and _is_due(step, total, config.sample_every):
                _write_samples(run, step + 1, metrics)
            progress.advance()
            if outcome.stopping:
                progress.note(f"stopped after step {done.steps} of {total}; --resume continues from there")
                raise KeyboardInterrupt
            began = time.perf_counter()
        progress.finish()
    return _save_model(run, total)


@dataclass(frozen=True)
class _Run:
    """What a run sets up before its first step; `identity` is that of the plan, for which rank 0 hashes the models."""

    plan: Plan
    out: Path
    world: World
    progress: Progress
    pipeline: Any
    family: Family
    encoded: EncodedRows
    schedule: flow.Schedule
    model: TrainedModel
    scorer: Scorer | None
    sample_writer: samples.SampleWriter | None
    identity: dict[str, Any]

    def make_passes(self, batch: Batch) -> list[Inputs]:
        """The passes that this process computes of a batch, on the CPU; in pinned memory for a GPU.

        A process with fewer samples than others passes the first sample once more, without counting it.
        """
        config, world = self.plan.config, self.world
        passes = [
            Inputs.of(
                portion or batch.samples[:1], batch.epoch, self.encoded, self.schedule, config, counts=bool(portion)
            )
            for portion in portions(batch.samples, world.rank, world.size, config.micro_batch)
        ]
        if world.device.type != "cuda":
            return passes
        torch.cuda.set_device(world.device)  # the device of another thread is the first one by default
        return [inputs.map(torch.Tensor.pin_memory) for inputs in passes]

    def loss_parts(self, inputs: Inputs) -> Iterator[Losses]:
        """Move a pass to the device and compute its losses, part by part."""
        on_device = inputs.map(lambda tensor: tensor.to(self.world.device, non_blocking=True))
        model = self.model
        return loss_parts(on_device, model.velocity, model.reference, self.scorer, self.plan.config, model.first)


def _set_up(plan: Plan, out: Path, cache_root: Path, world: World, progress: Progress) -> _Run:
    """Load the model, encode clips and prompts, and prepare the transformer for training."""
    config = plan.config
    family = load_family(plan.model_folder)
    torch.manual_seed(config.seed)  # only the initial weights of a LoRA are drawn from it
    pipeline = load_pipeline(plan.model_folder)
    prompts = samples.choose_prompts(plan, progress)
    encoded = EncodedRows.open(plan.model_folder, plan.profile.max_tokens, plan.latents, cache_root, world)
    texts = [*samples.texts(prompts), *([NO_PROMPT] if config.needs_no_prompt else [])]
    encode(encoded, plan.dataset, plan.rows, texts, pipeline, family, world, progress)
    if plan.scoring or prompts:
        load_autoencoder(pipeline, plan.model_folder, torch.float32)  # it decodes, for gradients too
    torch.cuda.empty_cache()
    model = set_up_model(pipeline, family, config, world, plan.adapter, plan.first_folder)
    schedule = flow.Schedule(config.density, config.logit_mean, config.logit_std, plan.shift)
    scorer = Scorer(plan.scoring, family, pipeline, world.device, config.decode_batch) if plan.scoring else None
    writer = None
    if prompts:
        writer = samples.SampleWriter(prompts, out, plan, encoded, pipeline, family, model.velocity, world)
    identity = world.broadcast_from_rank0(lambda: plan.identity)
    return _Run(plan, out, world, progress, pipeline, family, encoded, schedule, model, scorer, writer, identity)


def _restore(run: _Run, *, allow_changes: bool) -> Done:
    """Load the newest checkpoint, if there is one."""
    folder, model = run.out / "checkpoints", run.model
    newest = run.world.broadcast_from_rank0(lambda: checkpoint.latest(folder, run.progress.note))
    if newest is None:
        return Done()
    for change in checkpoint.changes(newest, run.identity, allowed=allow_changes):
        run.progress.note(f"resumed with a change: {change}")
    return checkpoint.load(newest, model.parameters, model.optimizer, model.average)


def _choose_kernels(run: _Run) -> list[str]:
    """Attention kernels for the largest clip, the fastest first, chosen by rank 0; none on a CPU."""
    transformer: Any = run.model.transformer

    def choose() -> attention.Choice:
        rows = (sample.row for sample in run.plan.samples)
        largest = max(rows, key=lambda row: row["num_frames"] * row["height"] * row["width"])
        num_tokens = run.family.num_tokens(transformer, run.encoded.latents([largest]).shape[1:])
        heads, width = transformer.config.num_attention_heads, transformer.config.attention_head_dim
        num_texts, masked = run.plan.profile.max_tokens, run.family.MASKS_TEXT
        return attention.choose(
            attention.shapes_of(heads, width, num_tokens, num_texts, masked=masked), run.world.device
        )

    if run.world.device.type != "cuda":
        return []
    choice = run.world.broadcast_from_rank0(choose)
    run.progress.note(choice.note)
    return choice.order


@dataclass(frozen=True)
class _Outcome:
    """The result of one optimizer step, equal on all processes.

    Attributes:
        sums: of `tally`, over all processes.
        grad_norm: before clipping.
        done: the steps so far.
        stopping: whether any process was asked to stop.
    """

    sums: list[float]
    grad_norm: float
    done: Done
    stopping: bool

    @property
    def loss(self) -> float:
        return self.sums[0]


def _update(run: _Run, lr: float, sums: torch.Tensor, done: Done, *, stop_requested: bool) -> _Outcome:
    """Clip the gradients and update weights and EMA, unless loss or gradient are not finite."""
    config, model = run.plan.config, run.model
    for group in model.optimizer.param_groups:
        group["lr"] = lr
    norm = clip_gradients(model.parameters, config)
    # Summed over processes, so that all decide alike. Only here does a step wait for the device.
    stopping, *totals = run.world.sum(torch.cat([sums.new_full((1,), stop_requested), sums]))
    grad_norm = float(full_tensor(norm))
    done = done.after(finite=math.isfinite(totals[0]) and math.isfinite(grad_norm))
    if not done.in_row:
        update_weights(model.parameters, model.optimizer, model.average, config, done.steps - done.skipped)
    model.optimizer.zero_grad(set_to_none=True)
    return _Outcome(totals, grad_norm, done, bool(stopping))


def _measure_base(run: _Run, metrics: Metrics, validations: ValidationSchedule) -> None:
    """The validation loss and the sample clips before the first step."""
    if run.plan.held_out:
        metrics.write(step=0, held_out=validations.measure(0, lambda: _validation_loss(run)))
    if run.sample_writer:
        _write_samples(run, 0, metrics)


def _validation_loss(run: _Run) -> float:
    with ema.swap_weights(run.model.average, run.model.parameters):  # the weights that would be published
        return validation_loss(
            run.plan.held_out,
            run.plan.config.batch_size,
            run.world,
            run.make_passes,
            lambda inputs: combined(run.loss_parts(inputs)),
        )


def _write_samples(run: _Run, step: int, metrics: Metrics) -> None:
    assert run.sample_writer
    with ema.swap_weights(run.model.average, run.model.parameters):
        rewards = run.sample_writer.write(step)
    if rewards:
        metrics.write(step=step, **rewards)


def _loss_metrics(run: _Run, batch: Batch, outcome: _Outcome, seconds: float) -> dict[str, Any]:
    config = run.plan.config
    return tally.step_metrics(
        outcome.sums,
        len(batch.samples),
        config.batch_size,
        seconds,
        online=config.online,
        nft=config.strategy == "nft",
        first=run.model.first is not None,
    )


def _weight_metrics(batch: Batch, group_by: Literal["prompt_id", "prompt"], num_groups: int) -> dict[str, float]:
    """Weights and advantages of a batch, and the number of compared groups in it and in the whole run."""
    weights = [sample.weight for sample in batch.samples]
    metrics = {"mean_weight": sum(weights) / len(weights), "effective_size": effective_size(weights)}
    compared = [(sample.advantage, sample.row[group_by]) for sample in batch.samples if sample.advantage is not None]
    if compared:
        advantages = [advantage for advantage, _ in compared]
        metrics["mean_advantage"] = sum(advantages) / len(advantages)
        metrics["advantage_std"] = statistics.pstdev(advantages)
        metrics["groups"] = len({group for _, group in compared})
        metrics["groups_in_run"] = num_groups
    return metrics


def _report_skipped(run: _Run, outcome: _Outcome, batch: Batch) -> None:
    """Report a skipped step, or end the run after too many of them."""
    done, first = outcome.done, ", ".join(sample.id for sample in batch.samples[:3])
    message = (
        f"step {done.steps}: loss {outcome.loss} and gradient norm {outcome.grad_norm} are not both finite; the "
        f"weights were not changed. First samples: {first}."
    )
    if done.in_row >= run.plan.config.max_skips:
        raise RunError(f"{message} This happened {done.in_row} times in a row. Lower lr, or inspect these clips.")
    run.progress.note(message)


def _is_due(step: int, total: int, every: int | None) -> bool:
    """Whether an action that is done every so many steps, and after the last, is due after a step (from 0)."""
    return every is not None and ((step + 1) % every == 0 or step + 1 == total)


def _save_checkpoint(run: _Run, done: Done) -> None:
    model = run.model
    state = checkpoint.state(model.parameters, model.optimizer, model.average)
    checkpoint.save(run.out / "checkpoints", done, state, run.identity)


def _save_model(run: _Run, steps: int) -> Path:
    """Write the tuned model; its folder."""
    model, folder = run.model, run.out / "model"
    untrained = {name for name, _ in model.transformer.named_parameters()} - model.parameters.keys()
    with ema.swap_weights(model.average, model.parameters):
        state = {name: tensor for name, tensor in model.transformer.state_dict().items() if name not in untrained}
        tensors = run.world.gather_to_rank0(state)
    if run.world.is_first:
        save_model(run.plan, run.pipeline, tensors, folder, steps, read(run.out / "metrics.jsonl"))
    run.world.barrier()
    return folder

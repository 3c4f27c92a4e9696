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
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType

import torch
from torch.utils.flop_counter import FlopCounterMode

from gigavideo_data.errors import RunError
from gigavideo_data.progress import Progress
from gigavideo_train import attention, blocks, breakdown, checkpoint, ema, flow, held_out, objective, samples
from gigavideo_train.batches import Batch, batches, num_steps, portions
from gigavideo_train.checkpoint import Done
from gigavideo_train.config import TrainConfig
from gigavideo_train.dataset import Row
from gigavideo_train.distributed import World, whole
from gigavideo_train.encode import Tensors, encode
from gigavideo_train.families.condition import Condition
from gigavideo_train.families.pipeline import load
from gigavideo_train.families.table import family_of
from gigavideo_train.log import Metrics, read
from gigavideo_train.online import Scorer
from gigavideo_train.output import save_model
from gigavideo_train.plan import Plan
from gigavideo_train.stop import Stop
from gigavideo_train.units import Unit

Velocity = Callable[[torch.Tensor, torch.Tensor, Condition], torch.Tensor]  # of noisy latents, sigma, what is told


@dataclass(frozen=True)
class Losses:
    """Per-sample losses (B,) of one batch, where they were found, and the shapes of what was passed forward.

    `match_B` is the preference loss for `dpo`, and online the reward is in it; `kl_B` is 0 where there is no real clip.
    `sigma_B` is the noise level of the match. `forwards`: samples by the shape of their latents. `rewards` are those
    found online, of the clips that could be scored.
    """

    match_B: torch.Tensor
    kl_B: torch.Tensor
    sigma_B: torch.Tensor
    forwards: dict[torch.Size, int]
    rewards: list[float] = field(default_factory=list)


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
    transformer = pipeline.transformer.train()
    _make_trainable(transformer, config, family)
    frozen = _frozen(transformer, config)
    for model in (transformer, frozen) if frozen else (transformer,):
        _prepare(model, config, family, world)
    parameters = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True if world.device.type == "cuda" else None,
    )
    mean = ema.copied(parameters) if config.ema else {}
    schedule = flow.Schedule(config.density, config.logit_mean, config.logit_std, plan.shift)
    autocast = torch.autocast("cuda", torch.bfloat16) if world.device.type == "cuda" else nullcontext()

    total = num_steps(plan.units, config.epochs, config.batch_size, config.max_steps)
    flops: dict[torch.Size, int] = {}  # of one sample's forward pass, by the shape of its latents

    def velocity(model: torch.nn.Module, noisy: torch.Tensor, sigma: torch.Tensor, told: Condition) -> torch.Tensor:
        with autocast:
            if noisy.shape[1:] not in flops:
                with FlopCounterMode(display=False) as counter, torch.no_grad():
                    family.velocity(pipeline, model, noisy, sigma, told)
                flops[noisy.shape[1:]] = counter.get_total_flops() // len(noisy)
            return family.velocity(pipeline, model, noisy, sigma, told).float()

    model = partial(velocity, transformer)
    reference = partial(velocity, frozen) if frozen else _without_adapter(transformer, velocity)
    checkpoints = out / "checkpoints"
    newest = checkpoint.latest(checkpoints) if resume else None
    for change in checkpoint.changes(newest, plan.identity, allowed=resume_changed) if newest else ():
        progress.note(f"going on with another run: {change}")
    done = checkpoint.load(newest, parameters, optimizer, mean) if newest else Done()
    scorer = Scorer(plan.scoring, family, pipeline, world.device) if plan.scoring else None

    def held_out_loss() -> float:
        def loss(units: list[Unit], epoch: int) -> torch.Tensor:
            found = _losses(units, epoch, tensors, model, reference, scorer, schedule, plan, world)
            return _weighted(units, found, config)

        with ema.in_place(mean, parameters):  # of what would be the model now
            return held_out.mean_loss(plan.held_out, config, world, loss)

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
        for step, batch in enumerate(islice(batches(plan.units, config.epochs, config.batch_size, config.seed), total)):
            if step < done.steps:
                continue
            began = time.perf_counter()
            lr = config.lr * _lr_share(step, total, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            sums: list[float | torch.Tensor] = [0.0] * 6
            passed = []  # what is told of apart
            for mine in portions(batch.units, world.rank, world.size, config.micro_batch):
                # Who has nothing left passes the first unit for nothing: the others need its part of the weights.
                units, counts = (mine, 1.0) if mine else (batch.units[:1], 0.0)
                losses = _losses(units, batch.epoch, tensors, model, reference, scorer, schedule, plan, world)
                loss_B = counts * _weighted(units, losses, config)
                (loss_B.sum() / config.batch_size).backward()
                if mine:
                    work = 3.0 * sum(flops[shape] * number for shape, number in losses.forwards.items())
                    found = [loss_B.detach().sum(), losses.match_B.detach().sum(), losses.kl_B.detach().sum()]
                    found += [work, sum(losses.rewards), len(losses.rewards)]
                    sums = [total_so_far + more for total_so_far, more in zip(sums, found, strict=True)]
                    passed.append((losses.match_B.detach(), losses.sigma_B, [unit.row["source"] for unit in mine]))
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
            parts = breakdown.NOTHING
            for one in passed:
                parts = [a + b for a, b in zip(parts, breakdown.sums(*one), strict=True)]
            # Summed over processes, so all of them decide alike; here, once a step, the device is waited for.
            loss, match, kl, work, reward, num_scored, asked, *parts = world.sum([*sums, float(stop.asked), *parts])
            grad_norm = float(whole(norm))
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
                loss=loss / config.batch_size,
                match=match / len(batch.units),
                kl=kl / len(batch.units),
                s_per_step=seconds,
                mean_weight=sum(weights) / len(weights),
                effective_size=sum(weights) ** 2 / sum(w * w for w in weights),
                lr=lr,
                grad_norm=grad_norm,
                skipped=done.skipped,
                **breakdown.means(parts),
                model_tflops=work / seconds / 1e12,
                **({"reward": reward / num_scored if num_scored else None} if scorer else {}),
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


def _weighted(units: list[Unit], losses: Losses, config: TrainConfig) -> torch.Tensor:
    """Each unit's part of Eq. 5, (B,)."""
    weight_B = losses.match_B.new_tensor([unit.weight for unit in units])
    scale_B = losses.match_B.new_tensor([unit.scale for unit in units])
    return scale_B * (weight_B * losses.match_B + config.lambda_kl * losses.kl_B)


def _lr_share(step: int, total: int, config: TrainConfig) -> float:
    """The share of the learning rate that a step (from 0) uses: up over the warm-up, then level or down."""
    rising = (step + 1) / (config.warmup_steps + 1)
    falling = (total - step) / max(1, total - config.warmup_steps) if config.decay == "linear" else 1.0
    return min(1.0, rising, falling)


def _losses(
    units: list[Unit],
    epoch: int,
    tensors: Tensors,
    velocity: Velocity,
    reference: Velocity,
    scorer: Scorer | None,
    schedule: flow.Schedule,
    plan: Plan,
    world: World,
) -> Losses:
    """Losses of one process's share of a batch."""
    config, device = plan.config, world.device
    told = tensors.told([unit.row for unit in units], device)

    def noised(rows: list[Row], names: list[str]) -> tuple[torch.Tensor, ...]:
        clean_BCFHW = tensors.latents(rows)
        sigma_B, noise_BCFHW = flow.draws(names, clean_BCFHW.shape[1:], config.seed, epoch, schedule)
        noisy_BCFHW = flow.interpolate(clean_BCFHW, noise_BCFHW, sigma_B)
        return tuple(x.to(device) for x in (clean_BCFHW, noise_BCFHW, noisy_BCFHW, sigma_B))

    names = [unit.id for unit in units]
    clean, noise, noisy, sigma_B = noised([unit.row for unit in units], names)
    predicted = velocity(noisy, sigma_B, told)
    match_B = objective.matching(predicted, flow.target(clean, noise))
    forwards = Counter({clean.shape[1:]: len(units)})

    if config.strategy == "dpo":
        loser_clean, loser_noise, loser_noisy, _ = noised([unit.loser or unit.row for unit in units], names)
        loser_target = flow.target(loser_clean, loser_noise)
        loser_B = objective.matching(velocity(loser_noisy, sigma_B, told), loser_target)
        with torch.no_grad():
            kept_B = objective.matching(reference(noisy, sigma_B, told), flow.target(clean, noise))
            kept_loser_B = objective.matching(reference(loser_noisy, sigma_B, told), loser_target)
        return Losses(
            objective.preference(match_B, loser_B, kept_B, kept_loser_B, config.dpo_beta),
            torch.zeros_like(match_B),
            sigma_B,
            forwards + Counter({loser_clean.shape[1:]: len(units)}),
        )

    rewards: list[float] = []
    if scorer:  # at the sample's own noise level, or the highest that can be judged, on the same line to the same noise
        judged_B = sigma_B.clamp(max=objective.ONLINE_MAX_SIGMA)
        judged = flow.interpolate(clean, noise, judged_B)
        with torch.set_grad_enabled(config.strategy == "backprop-online" and torch.is_grad_enabled()):
            estimate = flow.tweedie(velocity(judged, judged_B, told), judged, judged_B)
            reward_B, known_B = scorer.rewards(estimate, [unit.row for unit in units])
            # Every process goes the way back through this pass, also where no clip of it could be scored.
            reward_B = reward_B + 0.0 * estimate.flatten(1).sum(1)
        if config.strategy == "backprop-online":
            match_B = objective.backprop(match_B, reward_B, config.backprop_eta)
            forwards[judged.shape[1:]] += len(units)
        else:
            match_B = objective.reweighted(match_B, reward_B)
        rewards = reward_B[known_B].tolist()

    at = [i for i, unit in enumerate(units) if unit.real is not None and config.lambda_kl > 0]
    kl_B = torch.zeros_like(match_B)
    if not at:
        return Losses(match_B, kl_B, sigma_B, forwards, rewards)
    rows = [real for unit in units if (real := unit.real) is not None]
    if config.kl == "moment":  # on the twin's own forward pass
        real = tensors.latents(rows).to(device)
        found_B = objective.kl_moment(flow.tweedie(predicted, noisy, sigma_B)[at], real, sigma_B[at])
    else:
        real, real_noise, real_noisy, real_sigma_B = noised(rows, [row["id"] for row in rows])
        real_velocity = velocity(real_noisy, real_sigma_B, tensors.told(rows, device))
        forwards[real.shape[1:]] += len(at)
        if config.estimate == "endpoint":
            estimate = flow.endpoint(real_velocity, real_noise)
        else:
            estimate = flow.tweedie(real_velocity, real_noisy, real_sigma_B)
        if config.kl == "gaussian":
            found_B = objective.kl_gaussian(estimate, real)
        else:
            found_B = objective.kl_softmax(estimate, real, config.temperature)
    kl_B = kl_B.index_copy(0, torch.tensor(at, device=device), found_B)
    return Losses(match_B, kl_B, sigma_B, forwards, rewards)


def _make_trainable(transformer: torch.nn.Module, config: TrainConfig, family: ModuleType) -> None:
    """All weights, or a fresh LoRA beside them."""
    if config.tune == "full":
        transformer.requires_grad_(True)
        return
    from peft import LoraConfig

    transformer.add_adapter(
        LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=family.LORA_TARGETS)
    )


def _frozen(transformer: torch.nn.Module, config: TrainConfig) -> torch.nn.Module | None:
    """A copy of the model as it is before training; only `dpo` of all weights asks for it."""
    if config.strategy != "dpo" or config.tune == "lora":
        return None
    return copy.deepcopy(transformer).requires_grad_(False)


def _prepare(transformer: torch.nn.Module, config: TrainConfig, family: ModuleType, world: World) -> None:
    """Bring a model to where it is trained, divided where there are several processes or little memory."""
    its_blocks = list(transformer.get_submodule(family.BLOCKS))
    blocks.recompute(its_blocks, config.checkpointing)
    if config.compile_blocks if config.compile_blocks is not None else world.device.type == "cuda":
        blocks.compiled(its_blocks)
    if world.size > 1 or config.offload:
        blocks.shard(transformer, its_blocks, world.mesh(), offload=config.offload)
    else:
        transformer.to(world.device)


def _kernels(plan: Plan, tensors: Tensors, transformer: torch.nn.Module, family: ModuleType, world: World) -> list[str]:
    """Kernels for attention over the largest clip, the fastest first; on a CPU torch has its own."""
    if world.device.type != "cuda":
        return []
    largest = max((unit.row for unit in plan.units), key=lambda row: row["num_frames"] * row["height"] * row["width"])
    num_tokens = family.num_tokens(transformer, tensors.latents([largest]).shape[1:])
    heads, width = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    return attention.kernels(heads, num_tokens, width, world.device)


def _without_adapter(transformer: torch.nn.Module, velocity: Callable[..., torch.Tensor]) -> Velocity:
    """The model as it was before its LoRA."""

    def without_adapter(*inputs: torch.Tensor) -> torch.Tensor:
        transformer.disable_adapters()
        try:
            return velocity(transformer, *inputs)
        finally:
            transformer.enable_adapters()

    return without_adapter

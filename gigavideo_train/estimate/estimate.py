"""The GPU memory and FLOPs of a run, before anything is loaded: its own step on tensors without contents, on the CPU.

The modules are built from the configuration files of the pipeline. One step of the trainer runs on fake tensors (shapes
and dtypes only), and the storages that are alive are counted. Blocks run eagerly: compiled ones keep less.

Two blocks and three blocks are run, and the rest follows: blocks are equal, so what is in memory at the first and at
the last block of a pass, forward or back, is a linear function of their number, and in between it is between the two.

Several processes are calculated from one: its weights are stored in bfloat16, as a process gathers them, and count with
its share of the float32 shards, as gradients and the state of AdamW do.

Not counted: the judge of an online strategy or of sample clips.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gigavideo_data.rows import DatasetRow
from gigavideo_train.checkpoint import ema
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.samples import Sample
from gigavideo_train.estimate.configured import configured_pipeline
from gigavideo_train.estimate.live import OTHER, Kinds, Live
from gigavideo_train.losses.inputs import Inputs, Noised
from gigavideo_train.losses.losses import Losses, loss_parts
from gigavideo_train.models import blocks
from gigavideo_train.models.base import Condition, Family, Velocity
from gigavideo_train.models.loading import encoder_dtype
from gigavideo_train.models.registry import load_family
from gigavideo_train.step import backward, clip_gradients, make_trainable, update_weights, velocity_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")
# Sizes that fake tensors do not have: cuDNN's workspaces of the autoencoder took 0.21 of its activations on an H100.
CONVOLUTION_WORKSPACE = 0.25
STATES = ("weights", "references", "optimizer", "average")  # what is there between two steps, gradients aside
FSDP_BLOCKS = 2  # gathered at once: the one that computes, and the next one

FEW, MORE = 2, 3  # blocks

ClipShape = tuple[int, int, int]  # frames, height and width in px
Bytes = dict[str, int]  # by part


@dataclass(frozen=True)
class Unit:
    """The largest pass of a process.

    Attributes:
        clip: of the samples.
        number: of samples.
        max_tokens: of a prompt.
        real: their real clips, if they have any.
        loser: their worse clips, if they have any.
        passes: of a step; the second one finds the gradients of the first.
    """

    clip: ClipShape
    number: int
    max_tokens: int
    real: ClipShape | None = None
    loser: ClipShape | None = None
    passes: int = 1


@dataclass(frozen=True)
class Estimate:
    """Bytes of one GPU, estimated.

    Attributes:
        num_parameters: of the transformer.
        num_trained: of them and of a LoRA.
        stages: of a run, one after the other -> what is in memory at its fullest moment.
        flops: of the forward pass of one sample, by the shape of its latents.
    """

    num_parameters: int
    num_trained: int
    stages: dict[str, Bytes]
    flops: dict[torch.Size, int] = field(default_factory=dict)

    def peak(self, stage: str) -> int:
        return sum(self.stages[stage].values())


def estimate(folder: Path, config: TrainConfig, unit: Unit, processes: int = 1, *, encodes: bool = True) -> Estimate:
    """Estimate a run.

    Args:
        folder: of the pipeline; only its configuration files are read.
        config: of the run.
        unit: its largest pass.
        processes: GPUs over which the model is sharded.
        encodes: whether clips are encoded.
    """
    family, pipeline = load_family(folder), configured_pipeline(folder)
    num_parameters = sum(p.numel() for p in pipeline.transformer.parameters())
    training = _training(folder, config, unit, processes)
    in_text_dtype = pipeline.text_encoder.to(encoder_dtype(folder, "text_encoder", GPU))
    stages = {"prompts": _texts(in_text_dtype, unit.max_tokens)}
    if encodes:
        stages["clips"] = _encoding(pipeline, family, unit.clip)
    stages["training"] = training.fullest
    if config.sample_every:
        states = {kind: size for kind, size in training.fullest.items() if kind in STATES}
        stages["sample clips"] = states | _decoding(pipeline, family, unit.clip)
    return Estimate(num_parameters, training.num_trained, stages, training.flops)


def training_bytes(folder: Path, config: TrainConfig, unit: Unit, processes: int = 1) -> Bytes:
    """The stage `training` alone, as `estimate` has it."""
    return _training(folder, config, unit, processes).fullest


def _training(folder: Path, config: TrainConfig, unit: Unit, processes: int) -> _Step:
    """A step with all blocks, from steps with `FEW` and `MORE` of them."""
    family = load_family(folder)
    number = len(configured_pipeline(folder).transformer.get_submodule(family.BLOCKS))

    def step(num_blocks: int) -> _Step:
        return _Training(configured_pipeline(folder), family, config, unit, processes, num_blocks).run()

    if number <= MORE:
        return step(number)
    return step(FEW).extended(step(MORE), (number - FEW) / (MORE - FEW))


@contextmanager
def _faked(live: Live, *modules: torch.nn.Module) -> Iterator[None]:
    """Run on fake tensors, counted; modules on the meta device move to the fake CPU."""
    with FakeTensorMode(allow_non_fake_inputs=True), live:
        for module in modules:
            module.to_empty(device="cpu")
            if hasattr(module, "tie_weights"):  # of a text encoder: the embeddings of tokens have two names
                module.tie_weights()
            live.label((*module.parameters(), *module.buffers()), "weights")
        yield


def _texts(encoder: Any, max_tokens: int) -> Bytes:
    live = Live()
    with _faked(live, encoder), torch.no_grad():
        live.start("prompts")
        ids_1L = torch.zeros((1, max_tokens), dtype=torch.long)
        encoder(ids_1L, torch.ones_like(ids_1L))
    return _rounded(live.peaks["prompts"])


def _encoding(pipeline: Any, family: Family, clip: ClipShape) -> Bytes:
    frames_THWC = np.zeros((*clip, 3), np.uint8)
    return _autoencoder(pipeline, lambda copied: family.encode_video(copied, frames_THWC))


def _decoding(pipeline: Any, family: Family, clip: ClipShape) -> Bytes:
    shape_CFHW = family.latents_shape(pipeline, *clip)
    with torch.no_grad():
        return _autoencoder(pipeline, lambda copied: family.decode(copied, torch.zeros((1, *shape_CFHW))))


def _autoencoder(pipeline: Any, run: Callable[[Any], object]) -> Bytes:
    """Bytes while the autoencoder works, with a copy of the pipeline that has its own."""
    copied, live = copy.copy(pipeline), Live()
    copied.vae = copy.deepcopy(pipeline.vae)
    with _faked(live, copied.vae):
        live.label((*copied.vae.parameters(), *copied.vae.buffers()), "autoencoder")
        live.start("clips")
        run(copied)
    found = _rounded(live.peaks["clips"])
    return found | {"workspace": round(CONVOLUTION_WORKSPACE * found[OTHER])}


def _rounded(peak: Kinds) -> Bytes:
    return {kind: round(size) for kind, size in peak.items() if round(size)}


class _Decoder:
    """In the place of `online.Scorer`: decodes as it does, and has the mean of the frames as the reward."""

    def __init__(self, pipeline: Any, family: Family, decode_batch: int) -> None:
        self.pipeline, self.family, self.decode_batch = pipeline, family, decode_batch

    def rewards(self, latents_BCFHW: torch.Tensor, _rows: list[DatasetRow]) -> tuple[torch.Tensor, torch.Tensor]:
        rewards = []
        for part_BCFHW in latents_BCFHW.split(self.decode_batch):
            leaf_BCFHW = part_BCFHW.detach().requires_grad_(part_BCFHW.requires_grad)
            reward_B = self.family.decode(self.pipeline, leaf_BCFHW).flatten(1).mean(1)
            if reward_B.requires_grad:
                (grad_BCFHW,) = torch.autograd.grad(reward_B.sum(), leaf_BCFHW)
                reward_B = (part_BCFHW * grad_BCFHW).flatten(1).sum(1)
            rewards.append(reward_B)
        reward_B = torch.cat(rewards)
        return reward_B, torch.ones_like(reward_B, dtype=torch.bool)


@dataclass(frozen=True)
class _Step:
    """What a step of a model with some blocks needs.

    Attributes:
        peaks: bytes by phase.
        extra: bytes that fake tensors do not have, in every phase.
        num_trained: parameters.
        flops: as in `Estimate`.
    """

    peaks: dict[Hashable, Kinds]
    extra: Bytes
    num_trained: int
    flops: dict[torch.Size, int]

    @property
    def fullest(self) -> Bytes:
        """The bytes of the phase with most."""
        return _rounded(max(self.peaks.values(), key=lambda kinds: sum(kinds.values()))) | self.extra

    def extended(self, more: _Step, times: float) -> _Step:
        """The step that differs from this one by `times` as much as `more` does."""

        def along(here: float, there: float) -> float:
            return here + times * (there - here)

        peaks = {
            phase: {kind: along(kinds.get(kind, 0.0), size) for kind, size in more.peaks[phase].items()}
            for phase, kinds in self.peaks.items()
        }
        flops = {shape: round(along(number, more.flops[shape])) for shape, number in self.flops.items()}
        return _Step(peaks, self.extra, round(along(self.num_trained, more.num_trained)), flops)


class _Training:
    """The transformer as `step.set_up_model` sets it up, with its first blocks only, and one step of it."""

    def __init__(
        self, pipeline: Any, family: Family, config: TrainConfig, unit: Unit, processes: int, num_blocks: int
    ) -> None:
        self.pipeline, self.family, self.config, self.unit = pipeline, family, config, unit
        self.sharded = processes > 1 or config.offload
        self.share = 0.0 if config.offload else 1 / processes
        self.flops: dict[torch.Size, int] = {}
        self.num_blocks, self.num_passes = num_blocks, 0
        transformer = pipeline.transformer.train()
        setattr(transformer, family.BLOCKS, transformer.get_submodule(family.BLOCKS)[:num_blocks])
        make_trainable(transformer, config, family)
        if self.sharded:
            torch.nn.Module.to(transformer, torch.bfloat16)  # as FSDP2 gathers it, what diffusers keeps in float32 too
        self.transformer = transformer
        self.frozen = [copy.deepcopy(transformer) for _ in range(self._num_frozen)]
        for model in self.frozen:
            if not self.sharded:
                blocks.store_as_bfloat16(model.get_submodule(family.BLOCKS).children())
        for model in (transformer, *self.frozen):
            blocks.checkpoint_activations(model.get_submodule(family.BLOCKS), config.checkpointing)

    @property
    def _num_frozen(self) -> int:
        """Copies beside the trained model: the one before training, and the first one of several rounds."""
        before = self.config.compares_with_start and self.config.tune == "full"
        return before + (self.config.anchor_model is not None)

    def run(self) -> _Step:
        """One step, with the state of AdamW that the step before has made."""
        as_float32 = 2.0 * self.share  # of a shard, for each byte of its bfloat16 copy
        sharded = ("weights", "references", "gradients", "optimizer", "average")
        live = Live(dict.fromkeys(sharded, as_float32) if self.sharded else {})
        online = [self.pipeline.vae] if self.config.online else []
        with _faked(live, self.transformer, *self.frozen, *online):
            for model in self.frozen:
                live.label((*model.parameters(), *model.buffers()), "references")
            for vae in online:
                live.label((*vae.parameters(), *vae.buffers()), "autoencoder")
            parameters = {name: p for name, p in self.transformer.named_parameters() if p.requires_grad}
            optimizer = torch.optim.AdamW(parameters.values(), lr=self.config.lr, fused=True)  # as on a GPU
            for parameter in parameters.values():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average = ema.copy_weights(parameters) if self.config.ema else {}
            live.label(average.values(), "average")
            live.label((x for state in optimizer.state.values() for x in state.values()), "optimizer")
            for parameter in parameters.values():
                parameter.register_post_accumulate_grad_hook(lambda p: live.label([p.grad], "gradients"))
            passes = [self._inputs()] * min(self.unit.passes, 2)  # a third one finds what the second does
            for model in (self.transformer, *self.frozen):
                self._mark_phases(model, live)
            live.start("inputs")
            backward(passes, self._loss_parts, self.config, self.flops, CPU)
            live.start("update")
            clip_gradients(parameters, self.config)
            update_weights(parameters, optimizer, average, self.config, num_taken=2)
        del live.peaks[None]
        num_trained = sum(p.numel() for p in parameters.values())
        extra = {"workspace": self._workspace()} | self._gathered()
        if online:
            extra["workspace"] += round(CONVOLUTION_WORKSPACE * max(peak[OTHER] for peak in live.peaks.values()))
        return _Step(live.peaks, extra, num_trained, self.flops)

    def _mark_phases(self, model: torch.nn.Module, live: Live) -> None:
        """Begin a phase with each block, forward and back; the last block has number -1."""
        for number, block in enumerate(model.get_submodule(self.family.BLOCKS)):
            block.forward = self._marked(block.forward, number if number < self.num_blocks - 1 else -1, live)

    def _marked(self, forward: Callable[..., Any], number: int, live: Live) -> Callable[..., Any]:
        def run(*inputs: Any, **named: Any) -> Any:
            self.num_passes += number == 0
            this_pass = self.num_passes
            live.start((this_pass, "forward", number))
            output = forward(*inputs, **named)
            if output.requires_grad:
                output.register_hook(lambda _grad: live.start((this_pass, "back", number)))
            return output

        return run

    def _loss_parts(self, inputs: Inputs) -> Iterator[Losses]:
        velocity = self._velocity(self.transformer)
        reference, first = velocity, None
        if self.frozen:
            reference, *others = map(self._velocity, self.frozen)
            first = others[0] if others else None
        scorer: Any = _Decoder(self.pipeline, self.family, self.config.decode_batch) if self.config.online else None
        return loss_parts(inputs, velocity, reference, scorer, self.config, first)

    def _velocity(self, transformer: torch.nn.Module) -> Velocity:
        return velocity_of(transformer, self.family, self.pipeline, CPU, self.flops, bfloat16=True)

    def _inputs(self) -> Inputs:
        unit, number = self.unit, self.unit.number
        row: Any = {"source": "twin" if unit.real else "synthetic"}
        one_B, text_dim = torch.ones(number), self._text_width()

        def noised(shape: ClipShape | None) -> Noised | None:
            if shape is None:
                return None
            size_BCFHW = (number, *self.family.latents_shape(self.pipeline, *shape))
            clean, noise, noisy = (torch.zeros(size_BCFHW) for _ in range(3))
            text_BLD = torch.zeros((number, unit.max_tokens, text_dim))
            condition = Condition(text_BLD, torch.ones((number, unit.max_tokens), dtype=torch.bool), one_B)
            unconditional = condition if self.config.loss_guidance is not None else None
            return Noised(clean, noise, noisy, one_B / 2, condition, unconditional)

        clip = noised(unit.clip)
        real = noised(unit.real) if self.config.lambda_kl > 0 and self.config.strategy != "dpo" else None
        assert clip is not None
        source_B = torch.zeros(number, dtype=torch.long)
        return Inputs([Sample(row)] * number, True, clip, real, noised(unit.loser), one_B, one_B, source_B, one_B)

    def _text_width(self) -> int:
        sizes = self.pipeline.transformer.config
        return int(sizes.get("text_dim") or sizes.get("caption_channels"))

    def _workspace(self) -> int:
        """Of the attention's backward pass: the gradient of the queries, summed in float32."""
        sizes = self.transformer.config
        tokens = max(
            self.family.num_tokens(self.transformer, self.family.latents_shape(self.pipeline, *shape))
            for shape in (self.unit.clip, self.unit.real, self.unit.loser)
            if shape
        )
        width = int(sizes.num_attention_heads * sizes.attention_head_dim)
        return 4 * width * tokens * self.unit.number

    def _gathered(self) -> Bytes:
        """What sharding adds: gathered blocks, and the gradients of one block before they are reduced, in float32."""
        if not self.sharded:
            return {}
        its_blocks = self.transformer.get_submodule(self.family.BLOCKS)
        block = max(sum(p.numel() for p in each.parameters()) for each in its_blocks)
        in_blocks, everywhere = (sum(p.numel() for p in each.parameters()) for each in (its_blocks, self.transformer))
        trained = max(sum(p.numel() for p in each.parameters() if p.requires_grad) for each in its_blocks)
        return {"gathered": 2 * (FSDP_BLOCKS * block + everywhere - in_blocks) + (2 + 4) * trained}

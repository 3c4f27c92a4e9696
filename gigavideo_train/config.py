"""Every setting of a training run, checked once, strictly; flat values are passed inward.

Defaults are the paper's where it names one. A model that needs others has a line in `PRESETS`; a preset for a GPU's
memory, a file (`--config`) and `--set key=value` come on top, in this order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from gigavideo_data.recipe.recipe import Model, published_name
from gigavideo_data.recipe.yaml_config import Document, override, read, validate

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

PRESETS: dict[str, dict[str, Any]] = {
    # Thousandths of the paper's model: it needs, and bears, larger steps.
    "miniature": {
        "lr": 1e-4,
        "warmup_steps": 5,
        "decay": "linear",
        "batch_size": 16,
        "epochs": 6,
        "logit_std": 1.5,
        "decode_batch": 16,
    },
}


class TrainConfig(BaseModel):
    """One run.

    `reward`: of a row, `own` is its column `reward`, `mean` the mean over the dimensions trained that could be scored,
    weighed by `dimension_weights`. `tau`: units with a reward above it are kept; null is 0.5 for soft rewards and 0 for
    hard ones. `shift`: null is the model's scheduler's. `lambda_*`: Eq. 4 and 5. `batch_size`: units per optimiser
    step, over all processes. `judge`: who scores online, and samples; null is the dataset's judge. `validate_every`:
    steps between two losses on the validation split; null is never. `sample_every`: the same of clips of held-out
    prompts, which `judge_samples` has scored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    strategy: Literal["sft", "sft-filtered", "reweight", "reweight-online", "backprop-online", "dpo"] = "reweight"
    dimensions: Annotated[tuple[str, ...], Field(strict=False)] | None = None  # null: the dataset's targets
    reward: Literal["own", "mean"] = "own"
    dimension_weights: dict[str, Positive] = {}
    tau: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_map: Literal["linear", "exp", "group"] = "linear"
    normalize: Literal["mean1", "none"] = "mean1"
    weight_beta: Positive = 1.0
    weight_clip: Positive = 3.0  # of the z-scored reward over beta, `exp` only
    lambda_ps: Positive = 0.5
    lambda_pr: Positive = 0.5
    lambda_kl: NotNegative = 0.3
    kl: Literal["gaussian", "moment", "softmax"] = "gaussian"
    estimate: Literal["endpoint", "tweedie"] = "endpoint"
    temperature: Positive = 1.0  # of the softmax reading
    dpo_beta: Positive = 100.0
    dpo_margin: Positive = 0.2
    judge: Model | None = None  # Hub id or folder of a transformers model
    backprop_eta: NotNegative = 0.1  # of the reward, against the matching term

    tune: Literal["full", "lora"] = "full"
    lora_rank: Count = 16
    lora_alpha: Positive = 16.0
    lr: Positive = 1e-6
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay: Literal["none", "linear"] = "none"  # of the learning rate, after the warm-up, to 0 at the last step
    weight_decay: NotNegative = 0.01
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    max_grad_norm: Positive = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # share of the old mean of the weights in the new one
    max_skips: Count = 3  # steps in a row without a finite loss and gradient that end a run
    batch_size: Count = 4
    epochs: Count = 1
    max_steps: Count | None = None

    density: Literal["logit_normal", "uniform"] = "logit_normal"
    logit_mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    logit_std: Positive = 1.0
    shift: Positive | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    checkpoint_every: Count = 100  # optimiser steps
    validate_every: Count | None = 100
    validate_units: Count = 64  # at most
    sample_every: Count | None = None
    sample_prompts: Count = 4
    judge_samples: bool = False
    report_to: Literal["tensorboard"] | None = None

    # How it is computed, not what: these may change when a run goes on.
    micro_batch: Count | None = None  # units a process passes at a time; null: its whole share of a batch
    checkpointing: Literal["none", "selective", "full"] = "none"  # of activations
    decode_batch: Count = 1  # clips that an online strategy decodes at a time
    offload: bool = False  # weights and optimiser state stay in the CPU's memory
    compile_blocks: bool | None = None  # null: on a GPU

    @model_validator(mode="after")
    def _has_what_it_judges(self) -> TrainConfig:
        if self.judge_samples and self.sample_every is None:
            raise ValueError("judge_samples: there are none to judge; say how often with sample_every")
        return self

    @model_validator(mode="after")
    def _weighs_what_it_averages(self) -> TrainConfig:
        if self.dimension_weights and self.reward != "mean":
            raise ValueError("dimension_weights: used only with reward=mean, the mean over several dimensions")
        return self

    @property
    def online(self) -> bool:
        """Whether rewards are those of what the model makes while it trains."""
        return self.strategy in ("reweight-online", "backprop-online")

    @field_serializer("judge")
    def _published(self, judge: str | None) -> str | None:
        return judge and published_name(judge)


def load(profile: str, path: Path | None, overrides: list[str], memory: dict[str, Any] | None = None) -> TrainConfig:
    """Put together presets, of the model and of a GPU's `memory`, file and overrides.

    Raises:
        RecipeError: with file and line, or the override, and the nearest valid key.
    """
    preset = PRESETS.get(profile, {}) | (memory or {})
    written = read(path) if path else Document({}, "--set")
    if not isinstance(written.data, dict):
        return validate(TrainConfig, written)  # says what is wrong
    document = Document({**preset, **written.data}, written.source, written.origins)
    for text in overrides:
        document = override(document, text)
    return validate(TrainConfig, document)

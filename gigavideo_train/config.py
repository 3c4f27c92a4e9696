"""Every setting of a training run, validated once and strictly; the trainer passes flat values inward.

Defaults are those of the paper where it names one. On top of them come the tables of `presets`, a YAML file
(`--config`), and `--set key=value`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_serializer, model_validator

from gigavideo_data.errors import RecipeError
from gigavideo_data.recipe.recipe import Model, published_name
from gigavideo_data.recipe.yaml_config import Document, override, read, validate
from gigavideo_train.presets import preset

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Threshold = Annotated[float, Field(ge=0, lt=1)]
Thresholds = Annotated[  # the tags stand in error messages
    Annotated[Threshold, Tag("number")] | Annotated[dict[str, Threshold], Tag("by dimension")],
    Discriminator(lambda value: "by dimension" if isinstance(value, dict) else "number"),
]
Count = Annotated[int, Field(ge=1)]
TrackerName = Literal["tensorboard", "wandb", "trackio"]


class TrainConfig(BaseModel):
    """The settings of one run; `docs/training.md` says what each does.

    `reward`: the reward of a row; `own` is its column `reward`, `mean` the mean over the trained dimensions that could
    be scored, weighted by `dimension_weights`. `tau`: samples with a reward above it are kept, one number or one for
    each named dimension; null is 0.5 for soft rewards and 0 for hard ones. `tau_quantile`: the share of the samples of
    each dimension, those with the lowest rewards, that is left out in place of `tau`. `shift`: null is that of the
    model's scheduler. `lambda_*`: Eq. 4 and 5. `batch_size`: samples per optimizer step, over all processes. `judge`:
    scores during training; null is the dataset's judge. `validate_every`: steps between two validation losses; null is
    never. `sample_every`: steps between two sets of clips of held-out prompts, which `judge_samples` has scored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    strategy: Literal["sft", "sft-filtered", "reweight", "reweight-online", "backprop-online", "dpo", "nft"] = (
        "reweight"
    )
    dimensions: Annotated[tuple[str, ...], Field(strict=False)] | None = None  # null: all with rows
    reward: Literal["own", "mean"] = "own"
    dimension_weights: dict[str, Positive] = {}
    skip_unchecked: bool = False  # leave out dimensions whose judge sanity check failed
    tau: Thresholds | None = None
    tau_quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    weight_map: Literal["linear", "exp", "group"] = "linear"
    normalize: Literal["mean1", "none"] = "mean1"
    weight_beta: Positive = 1.0
    weight_clip: Positive = 3.0  # of the z-scored reward over weight_beta; only for `exp`
    lambda_ps: Positive = 0.5
    lambda_pr: Positive = 0.5
    lambda_kl: NotNegative = 0.3
    kl: Literal["gaussian", "moment", "softmax"] = "gaussian"
    estimate: Literal["endpoint", "tweedie"] = "endpoint"
    temperature: Positive = 1.0  # only for kl=softmax
    dpo_beta: Positive = 100.0
    dpo_margin: Positive = 0.2
    nft_beta: Annotated[float, Field(ge=0.05, allow_inf_nan=False)] = 0.3  # inverse step size
    nft_kappa: NotNegative = 0.1  # factor of the squared distance to the first model
    anchor_model: Model | None = None  # the first model; null: the model to start from, without its adapter
    group_by: Literal["prompt_id", "prompt"] = "prompt_id"  # samples of a base prompt with its variants, or of one text
    latents: Literal["own", "encoded"] = "encoded"  # of generated clips; own: the sampler's, where the dataset has them
    judge: Model | None = None  # Hub id or folder of a transformers model
    backprop_eta: NotNegative = 0.1  # factor of the reward in the loss of backprop-online

    tune: Literal["full", "lora"] = "full"
    lora_rank: Count = 16
    lora_alpha: Positive = 16.0
    lr: Positive = 1e-6
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay: Literal["none", "linear"] = "none"  # of the learning rate: from the warm-up to 0 at the last step
    weight_decay: NotNegative = 0.01
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    max_grad_norm: Positive = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of the moving average of the weights
    max_skips: Count = 3  # this many skipped steps in a row end the run
    batch_size: Count = 4
    epochs: Count = 1
    max_steps: Count | None = None

    density: Literal["logit_normal", "uniform"] = "logit_normal"
    logit_mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    logit_std: Positive = 1.0
    shift: Positive | None = None
    prompt_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of samples trained without their prompt
    loss_guidance: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None  # null: the conditional branch
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    checkpoint_every: Count = 100  # optimizer steps
    validate_every: Count | None = 100
    validate_samples: Count = 64  # at most
    validate_share: Annotated[float, Field(gt=0, le=1)] | None = 0.01  # of the run's time, at most; null: no limit
    sample_every: Count | None = None
    sample_prompts: Count = 4
    judge_samples: bool = False
    report_to: TrackerName | None = None

    # How a step is computed, not its result: these may change when a run is resumed.
    micro_batch: Count | None = None  # samples per forward pass of a process; null: its whole share of a batch
    checkpointing: Literal["none", "matmuls", "selective", "full"] = "none"  # of activations
    decode_batch: Count = 1  # clips that an online strategy decodes together
    offload: bool = False  # weights and optimizer state stay in CPU memory
    compile_blocks: bool | None = None  # null: on a GPU

    @model_validator(mode="after")
    def _has_samples_to_judge(self) -> TrainConfig:
        if self.judge_samples and self.sample_every is None:
            raise ValueError("judge_samples needs sample clips; set sample_every to a number of steps")
        return self

    @model_validator(mode="after")
    def _uses_dimension_weights(self) -> TrainConfig:
        if self.dimension_weights and self.reward != "mean":
            raise ValueError("dimension_weights are used only with reward=mean, the mean over several dimensions")
        return self

    @model_validator(mode="after")
    def _has_one_threshold(self) -> TrainConfig:
        if self.tau is not None and self.tau_quantile is not None:
            raise ValueError("tau and tau_quantile are two ways to choose the kept samples; leave one of them out")
        if self.tau == {}:
            raise ValueError("tau names no dimension; give each its threshold, as in {mechanics: 0.6}")
        return self

    @model_validator(mode="after")
    def _uses_anchor_model(self) -> TrainConfig:
        if self.anchor_model and (self.strategy != "nft" or not self.nft_kappa):
            raise ValueError("anchor_model is used only with strategy=nft and nft_kappa above 0")
        return self

    @model_validator(mode="after")
    def _can_guide_the_loss(self) -> TrainConfig:
        if self.loss_guidance is None:
            return self
        if self.online or self.strategy == "dpo":
            raise ValueError(f"loss_guidance cannot be used with {self.strategy}; leave it out")
        if self.lambda_kl > 0 and self.kl != "gaussian":
            raise ValueError(f"loss_guidance cannot be used with kl={self.kl}; use kl=gaussian")
        if self.prompt_dropout:
            raise ValueError(
                "loss_guidance takes the unconditional velocity of the start model, which prompt_dropout would change; "
                "set prompt_dropout=0"
            )
        return self

    @property
    def compares_with_start(self) -> bool:
        """Whether the loss uses the velocity of the model before training."""
        return self.strategy in ("dpo", "nft") or self.loss_guidance is not None

    @property
    def needs_no_prompt(self) -> bool:
        """Whether some forward passes have the empty prompt."""
        return self.prompt_dropout > 0 or self.loss_guidance is not None

    @property
    def uses_tau(self) -> bool:
        """Whether samples are kept by their stored reward."""
        return self.strategy in ("sft-filtered", "reweight")

    @property
    def online(self) -> bool:
        """Whether rewards are computed during training, on what the model predicts."""
        return self.strategy in ("reweight-online", "backprop-online")

    @property
    def compares(self) -> bool:
        """Whether the samples of a group are compared, so that groups need rewards that differ."""
        return self.strategy in ("dpo", "nft") or (self.strategy == "reweight" and self.weight_map == "group")

    @field_serializer("judge", "anchor_model")
    def _published(self, model: str | None) -> str | None:
        return model and published_name(model)


def load(
    profile: str, path: Path | None, overrides: list[str], memory: int | None = None, processes: int = 1
) -> TrainConfig:
    """Combine presets, file and overrides.

    Args:
        profile: of the model, a key of `presets.MODEL_PRESETS` or not.
        path: a YAML file.
        overrides: "key=value" each.
        memory: one of `presets.GPU_SIZES`.
        processes: that share the model.

    Raises:
        RecipeError: with file and line, or the override, and the nearest valid key.
    """
    written = read(path) if path else Document({}, "--set")
    if not isinstance(written.data, dict):
        return validate(TrainConfig, written)  # raises the error that names the file
    for text in overrides:
        written = override(written, text)
    strategy = str(written.data.get("strategy", TrainConfig.model_fields["strategy"].default))
    tune = str(written.data["tune"]) if "tune" in written.data else None
    replaced = preset(profile, strategy, memory, processes, tune)
    return validate(TrainConfig, Document({**replaced, **written.data}, written.source, written.origins))


def check_tracker(name: TrackerName | None) -> None:
    """Check that the package of a tracker is installed.

    Raises:
        RecipeError: it is not.
    """
    if name and importlib.util.find_spec(name) is None:
        raise RecipeError(f"--report-to {name}: the package is not installed; run pip install {name}")

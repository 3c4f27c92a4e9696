"""Plan a run before anything heavy is loaded: which samples, with which weights, for how many steps."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gigavideo_data.dataset.cost import cost_per_sample
from gigavideo_data.dataset.cost import read as read_cost
from gigavideo_data.dataset.manifest import others_of
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.hub import download
from gigavideo_data.io import video
from gigavideo_data.models.generators.profile_table import Profile
from gigavideo_data.models.generators.profiles import (
    Base,
    base_of,
    model_revision,
    profile_of,
    sampler_of,
)
from gigavideo_data.recipe.recipe import on_the_hub
from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring import judge_verdict
from gigavideo_data.scoring.rewards import CAPTIONS
from gigavideo_train import config as settings
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.advantages import Spread
from gigavideo_train.data.batches import num_steps
from gigavideo_train.data.dataset import Dataset, ShippedLatents, usable_latents
from gigavideo_train.data.samples import Sample, Selection, held_out, select, spread
from gigavideo_train.data.start import (
    adapter_revision,
    check_adapter,
    check_generator,
    content_hash,
    first_model,
    locate,
)
from gigavideo_train.judging.judges import SampleJudge, Scoring, sample_judges, scoring
from gigavideo_train.presets import GPU_SIZES, MODEL_PRESETS, memory_preset, memory_settings

NUM_BINS = 10
NOTHING_TO_COMPARE = (
    "no group of samples has different rewards. Build more samples per prompt (samples_per_prompt), or other prompts."
)
RESUMABLE = {  # settings that may change when a run is resumed
    "epochs",
    "max_steps",
    "max_skips",
    "checkpoint_every",
    "validate_every",
    "validate_samples",
    "validate_share",
    "sample_every",
    "sample_prompts",
    "judge_samples",
    "report_to",
    "micro_batch",
    "checkpointing",
    "decode_batch",
    "offload",
    "compile_blocks",
}
LENGTH = {"epochs", "max_steps"}  # with a decay they decide the learning rate of every step
Facts = dict[str, Any]  # JSON-able


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        dataset: as published.
        selection: samples of the train split.
        config: all settings.
        base: the model to start from, without its adapter.
        model_folder: where it is on disk.
        profile: its size, length, steps and guidance.
        shift: of the draw of sigma.
        scoring: how an online strategy scores; None for the others.
        held_out: samples of the validation split.
        memory: one of `presets.GPU_SIZES`, GB; None if no preset is used.
        processes: that share the model.
        sample_judges: how sample clips are scored, by dimension.
        spread: what the groups of each trained dimension offer to learn from.
        adapter: folder of the LoRA that the run starts from and continues.
        first_folder: where the first model is, see `start.first_model`.
        latents: sha256 of a clip -> its latents in the dataset, where the run uses them; other clips are encoded.
    """

    dataset: Dataset
    selection: Selection
    config: TrainConfig
    base: Base
    model_folder: Path
    profile: Profile
    shift: float
    scoring: Scoring | None = None
    held_out: list[Sample] = field(default_factory=list)
    memory: int | None = None
    sample_judges: dict[str, SampleJudge] = field(default_factory=dict)
    spread: list[Spread] = field(default_factory=list)
    adapter: Path | None = None
    first_folder: Path | None = None
    latents: dict[str, ShippedLatents] = field(default_factory=dict)
    processes: int = 1

    @property
    def samples(self) -> list[Sample]:
        return self.selection.samples

    @property
    def rows(self) -> list[DatasetRow]:
        """All rows whose clips and prompts are used, of both splits."""
        samples = (*self.samples, *self.held_out)
        return [row for sample in samples for row in (sample.row, sample.real, sample.loser) if row is not None]

    @property
    def num_latents(self) -> dict[str, int]:
        """Number of clips trained on the sampler's own latents, and of clips that are encoded."""
        clips = {row["video_sha256"] for row in self.rows}
        own = len(clips & self.latents.keys())
        return {"own": own, "encoded": len(clips) - own}

    @property
    def dimensions(self) -> list[str]:
        """The trained dimensions."""
        return _trained(self.dataset, self.config)

    @property
    def others(self) -> list[str]:
        """The trained dimensions that are not to be improved, but must not get worse."""
        others = others_of(self.dataset.manifest)
        return [name for name in self.dimensions if name in others]

    @property
    def targets(self) -> list[str]:
        """The trained dimensions that are to be improved."""
        return [name for name in self.dimensions if name not in self.others]

    @property
    def unreliable(self) -> dict[str, str]:
        """The requested dimensions whose judge sanity check failed, each with the reason."""
        return unreliable(self.dataset, self.config)

    @property
    def num_groups(self) -> int:
        """Number of groups whose samples are compared by `nft`; 0 for other strategies."""
        compared = [sample.row for sample in self.samples if sample.advantage is not None]
        return len({(row["dimension"], row[self.config.group_by]) for row in compared})

    @property
    def identity(self) -> Facts:
        """What must be equal when a run is resumed."""
        free = RESUMABLE if self.config.decay == "none" else RESUMABLE - LENGTH
        free = free if self.config.online else free | {"judge"}  # it judges only sample clips
        return {
            "dataset": self.dataset.identity,
            "model": self.base.commit or model_revision(self.base.model),
            "config": self.config.model_dump(mode="json", exclude=free),
            **({"judge": self.scoring.judge} if self.scoring else {}),
            **({"adapter": adapter_revision(self.adapter)} if self.adapter else {}),
            **({"first_model": model_revision(str(self.first_folder))} if self.first_folder else {}),
        }


def make(
    dataset: Dataset,
    base: Base | None,
    config_file: Path | None,
    overrides: list[str],
    memory: int | None = None,
    gpu_bytes: int | None = None,
    adapter: Path | None = None,
    processes: int = 1,
) -> Plan:
    """Check everything that can be checked without loading the model.

    Args:
        dataset: as `dataset.read` returns it.
        base: as `base_of` returns it, once for all processes; None is the dataset's target.
        config_file: settings on top of the model's preset.
        overrides: "key=value" on top of those.
        memory: one of `presets.GPU_SIZES`, GB; None is the one of `gpu_bytes`, unless the model has a preset of its
            own.
        gpu_bytes: memory of a GPU; None without one.
        adapter: folder of a LoRA of `base`, which the run continues.
        processes: that share the model.

    Raises:
        DatasetError: no sample is kept, or a strategy that compares samples has no group with different rewards.
        RecipeError: a setting or a model is unknown, `nft` would start from a model that generated none of the videos,
            an online strategy or sample clips have no judge, or a tracker is not installed.
        RunError: clips must be written or judged, and the packages for that are not installed.
    """
    base = base or base_of(None, dataset.manifest)
    folder = locate(base, dataset)
    profile = profile_of(base.model)
    if memory is not None and memory not in GPU_SIZES:
        raise RecipeError(f"--preset {memory}: there are presets for {', '.join(map(str, GPU_SIZES))} GB")
    if memory is None and gpu_bytes and profile.name not in MODEL_PRESETS:
        memory = memory_preset(gpu_bytes)
    config = settings.load(profile.name, config_file, overrides, memory, processes)
    settings.check_tracker(config.report_to)
    if config.sample_every:
        video.check_installed("sample_every: writing clips")
    if config.online:
        video.check_installed(f"{config.strategy}: judging clips")
    if adapter:
        check_adapter(adapter, config)
    if config.strategy == "nft":
        check_generator(dataset, base, adapter)
    model, with_rows = content_hash(base, adapter), _with_rows(dataset)
    trained = _trained(dataset, config)
    unchecked = set(_requested(dataset, config)) - set(trained)
    groups = spread(dataset.rows, with_rows, config, model, unchecked)
    if config.compares and not any(each.with_spread for each in groups):
        raise DatasetError(f"strategy {config.strategy} compares the samples of a prompt, and {NOTHING_TO_COMPARE}")
    selection = select(dataset.rows, with_rows, config, model, unchecked)
    rows = [sample.row for sample in selection.samples]
    return Plan(
        dataset,
        selection,
        config,
        base,
        folder,
        profile,
        config.shift or profile.shift or sampler_of(base.model, base.commit)["shift"] or 1.0,
        scoring(rows, dataset.manifest, config, trained) if config.online else None,
        held_out(dataset.held_out, with_rows, config, model, unchecked) if config.validate_every else [],
        memory,
        sample_judges(dataset.manifest, config, trained),
        groups,
        adapter,
        first_model(config, base, folder, dataset),
        usable_latents(dataset, folder / "vae") if config.latents == "own" else {},
        processes,
    )


def on_this_machine(plan: Plan) -> Plan:
    """A plan of rank 0, for another process: models and files of the Hub are in the cache of its own machine.

    Raises:
        HubError: they cannot be downloaded.
    """
    dataset, first = plan.dataset, plan.first_folder
    if dataset.version:
        dataset = replace(dataset, folder=download.list_files(dataset.version)[0])
    if first and plan.config.anchor_model and on_the_hub(plan.config.anchor_model):
        first = first_model(plan.config, plan.base, plan.model_folder, dataset)
    return replace(plan, dataset=dataset, model_folder=locate(plan.base, dataset), first_folder=first)


def facts(plan: Plan) -> Facts:
    """The plan as JSON: kept and dropped samples, weights, steps, settings."""
    config, version = plan.config, plan.dataset.version
    weights = [sample.weight for sample in plan.samples]
    return {
        "dataset": plan.dataset.identity,
        "version": str(version) if version else None,
        "commit": version.sha if version else None,
        "recipe": plan.dataset.manifest["recipe_hash"],
        "model": Path(plan.base.model).name,
        "model_commit": plan.base.commit,
        "adapter": plan.adapter and f"{plan.adapter.name}@{adapter_revision(plan.adapter)}",
        "shift": plan.shift,
        "judge": plan.scoring.judge if plan.scoring else None,
        "sample_judges": {name: judge.engine["model"] for name, judge in plan.sample_judges.items()},
        "memory": plan.memory,
        "processes": plan.processes,
        "preset": list(memory_settings(plan.profile.name, plan.memory, plan.processes)),
        "config": json.loads(config.model_dump_json()),
        "targets": plan.targets,
        "others": plan.others,
        "samples": _kept_and_dropped(plan.selection),
        "tau": plan.selection.tau,
        "latents": plan.num_latents,
        "spread": [asdict(each) for each in plan.spread],
        "unreliable": plan.unreliable,
        "kept": len(plan.samples),
        "weights": {"least": min(weights), "most": max(weights), "histogram": _histogram(weights)},
        "held_out": len(plan.held_out),
        "effective_size": plan.selection.effective_size,
        "cost_per_sample": cost_per_sample(
            read_cost(plan.dataset.folder),
            {"kept": len(plan.samples), "effective": plan.selection.effective_size},
        ),
        "groups": plan.num_groups,
        "passes_per_epoch": _passes_per_epoch(plan),
        "steps": num_steps(plan.samples, config.epochs, config.batch_size, config.max_steps),
    }


def _kept_and_dropped(selection: Selection) -> list[Facts]:
    """Numbers of samples by source and dimension."""
    kept = Counter((sample.row["source"], sample.row["dimension"] or CAPTIONS) for sample in selection.samples)
    dropped: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (source, dimension, reason), number in selection.dropped.items():
        dropped[source, dimension][reason] += number
    return [
        {"source": key[0], "dimension": key[1], "kept": kept[key], "dropped": dict(dropped[key])}
        for key in sorted({*kept, *dropped})
    ]


def _histogram(weights: list[float]) -> list[int]:
    """Number of weights in each of `NUM_BINS` equal ranges from 0 to the largest."""
    most = max(weights)
    counts = Counter(min(int(NUM_BINS * w / most), NUM_BINS - 1) for w in weights) if most else Counter()
    return [counts[i] for i in range(NUM_BINS)]


def _passes_per_epoch(plan: Plan) -> int:
    """Forward passes of an epoch, counted per sample."""
    config = plan.config
    passes_real = config.lambda_kl > 0 and config.kl != "moment"
    passes = sum(2 if sample.loser or (sample.real and passes_real) else 1 for sample in plan.samples)
    return passes + len(plan.samples) * config.online  # the estimate that is judged takes another pass


def _trained(dataset: Dataset, config: TrainConfig) -> list[str]:
    left_out = unreliable(dataset, config) if config.skip_unchecked else {}
    return [name for name in _requested(dataset, config) if name not in left_out]


def _requested(dataset: Dataset, config: TrainConfig) -> list[str]:
    return list(config.dimensions or _with_rows(dataset))


def _with_rows(dataset: Dataset) -> list[str]:
    """The target dimensions, and the others that rows were written for."""
    written = {row["dimension"] for row in dataset.rows}
    others = others_of(dataset.manifest)
    return [name for name in dataset.manifest["dimensions"] if name not in others or name in written]


def unreliable(dataset: Dataset, config: TrainConfig) -> dict[str, str]:
    """The requested dimensions whose judge sanity check failed, each with the reason."""
    requested = _requested(dataset, config)
    checks = [check for check in dataset.manifest["judge_check"] if check["dimension"] in requested]
    verdicts = [(check["dimension"], *judge_verdict.verdict(check)) for check in checks]
    return {name: why for name, verdict, why in verdicts if verdict == "failed"}

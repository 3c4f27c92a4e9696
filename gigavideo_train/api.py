"""The public API: one function that trains, and the two steps that it shares with the command line.

gigavideo_train.train("runs/quickstart", settings={"max_steps": 50})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from gigavideo_data.hub import download
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.run_log import run_log
from gigavideo_data.models.generators.profiles import base_of
from gigavideo_train import plan as planning
from gigavideo_train import plan_output
from gigavideo_train.data.dataset import read, read_version
from gigavideo_train.distributed.world import World, world
from gigavideo_train.plan import Facts, Plan
from gigavideo_train.presets import MODEL_PRESETS

CACHE = Path("runs/latents")


def train(
    dataset: str | Path,
    *,
    model: str | None = None,
    adapter: str | Path | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    preset: int | None = None,
    cache: str | Path = CACHE,
    resume: bool = False,
    resume_changed: bool = False,
    show_progress: bool = False,
) -> Path:
    """Fine-tune a text-to-video model on a dataset, in this process; under torchrun, in all its processes.

    Args:
        dataset: a folder, or owner/name[@version] on the Hub.
        model: a shipped name, a folder, or owner/name[@commit] on the Hub; None is the dataset's target model.
        adapter: folder of a LoRA of that model, which the run continues with tune=lora; None is no or a new one.
        out: folder of the run; None is runs/train/<name of the dataset>.
        settings: fields of `gigavideo_train.config.TrainConfig`, such as {"strategy": "dpo", "lr": 1e-5}.
        config: a YAML file of settings; `settings` take precedence.
        preset: settings for the memory of one GPU in GB, one of `gigavideo_train.presets.GPU_SIZES`; None is the size
            of the GPU of this process.
        cache: folder for latents and text embeddings, shared by runs.
        resume: continue from the newest checkpoint in `out`, if there is one.
        resume_changed: also if dataset or settings have changed.
        show_progress: show the plan and the progress on stderr.

    Returns:
        The folder of the tuned model, which diffusers loads, or of its LoRA adapter.

    Raises:
        DatasetError: the dataset breaks its contract, or no sample is kept.
        HubError: the Hub refuses, or cannot be reached.
        RecipeError: a setting or the model is unknown, `nft` would start from a model that generated none of the
            videos, or the run does not fit the GPU.
        RunError: the folder holds another run, the disk is full, or losses are not finite.
        UnexpectedError: a fault of the program; the traceback is in log.<rank>.txt in `out`.
        KeyboardInterrupt: the run was stopped, after a checkpoint of its last step.
    """
    overrides = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    console = Console(stderr=True, markup=False, highlight=False, emoji=False, quiet=not show_progress)
    with world() as joined, Progress(console) as progress:
        config_file, start = Path(config) if config else None, Path(adapter) if adapter else None
        plan = make_plan(str(dataset), joined, model, config_file, overrides, preset, start)
        show_plan(plan, joined, console, progress)
        folder = Path(out) if out else default_out(str(dataset))
        return run_plan(plan, folder, Path(cache), joined, progress, resume=resume, resume_changed=resume_changed)


def default_out(dataset: str) -> Path:
    """The folder of a run on a dataset."""
    return Path("runs/train") / Path(dataset.partition("@")[0]).name


def make_plan(
    dataset: str,
    joined: World,
    model: str | None,
    config: Path | None,
    overrides: list[str],
    preset: int | None,
    adapter: Path | None,
    gpu_bytes: int | None = None,
    processes: int | None = None,
) -> Plan:
    """Read a dataset and plan the run. Rank 0 reads, hashes and asks the Hub, for all.

    Arguments as for `train`; `gpu_bytes` and `processes` are those of this run, unless another one is only planned.
    """

    def plan() -> Plan:
        folder = download.local_folder(dataset)
        content = read(folder) if folder else read_version(download.resolve(dataset))
        base = base_of(model, content.manifest)
        memory, size = gpu_bytes or joined.memory_bytes(), processes or joined.size
        return planning.make(content, base, config, overrides, preset, memory, adapter, size)

    made = joined.broadcast_from_rank0(plan)
    return made if joined.is_first else planning.on_this_machine(made)


def show_plan(
    plan: Plan,
    joined: World,
    console: Console,
    progress: Progress,
    gpu_bytes: int | None = None,
    *,
    dry_run: bool = False,
) -> Facts:
    """Print a plan and its warnings, and refuse a run that does not fit the GPU.

    The memory is estimated by rank 0 for all processes: of the miniature only for a GPU that was named, and on a CPU
    only in a dry run.

    Args:
        plan: as `make_plan` returns it.
        joined: this process among all.
        console: for the plan.
        progress: for the warnings.
        gpu_bytes: memory of a GPU that was named; None is the one of this process.
        dry_run: whether the run ends here.

    Returns:
        The plan as JSON.

    Raises:
        RecipeError: the run does not fit.
    """
    facts = planning.facts(plan)
    limit = gpu_bytes or joined.broadcast_from_rank0(joined.memory_bytes)
    estimates = bool(gpu_bytes or (plan.profile.name not in MODEL_PRESETS and (limit or dry_run)))
    if estimates:
        from gigavideo_train.estimate import fit  # imports diffusers, which the plan of the miniature does not need

        estimated = joined.broadcast_from_rank0(lambda: fit.estimate_plan(plan))
        facts["estimate"] = fit.facts(estimated)
    plan_output.show(facts, console)
    for warning in plan_output.warnings(facts):
        progress.note(f"warning: {warning}")
    if estimates and limit:
        joined.broadcast_from_rank0(lambda: fit.check(plan, estimated, limit))
    return facts


def run_plan(
    plan: Plan, out: Path, cache: Path, joined: World, progress: Progress, *, resume: bool, resume_changed: bool
) -> Path:
    """Train as planned; unexpected exceptions keep their traceback in the run's folder. Arguments as for `train`."""
    from gigavideo_train.training import run_training  # imports diffusers, which a plan does not need

    out.mkdir(parents=True, exist_ok=True)
    with run_log(out / f"log.{joined.rank}.txt"):
        return run_training(
            plan, out, cache, joined, progress, resume=resume or resume_changed, resume_changed=resume_changed
        )

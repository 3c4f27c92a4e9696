"""What a run would do, known before anything heavy is loaded: which units, with what weights, for how many steps."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.io import video
from gigavideo_data.models.generators.profiles import (
    Base,
    Profile,
    base_of,
    model_folder,
    model_revision,
    profile_of,
    sampler_of,
)
from gigavideo_data.scoring import judge_verdict
from gigavideo_train import config as settings
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.batches import num_steps
from gigavideo_train.data.dataset import Dataset
from gigavideo_train.data.samples import Selection, Unit, held_out, select
from gigavideo_train.judging.judges import SampleJudge, Scoring, sample_judges, scoring
from gigavideo_train.memory import PRESETS, fitting
from gigavideo_train.models.registry import family_name
from gigavideo_train.monitoring import trackers

if TYPE_CHECKING:
    from rich.console import Console

NUM_BINS = 10
RESUMABLE = {  # may differ when a run goes on
    "epochs",
    "max_steps",
    "max_skips",
    "checkpoint_every",
    "validate_every",
    "validate_units",
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
LENGTH = {"epochs", "max_steps"}  # decide the learning rate of every step where it decays


@dataclass(frozen=True)
class Plan:
    """A checked run."""

    dataset: Dataset
    selection: Selection
    config: TrainConfig
    base: Base
    model_folder: Path
    profile: Profile
    shift: float
    scoring: Scoring | None = None  # of the online strategies
    held_out: list[Unit] = field(default_factory=list)  # of the validation split, to be asked while training
    memory: int | None = None  # the preset of `memory.py` that settings come from, GB
    sample_judges: dict[str, SampleJudge] = field(default_factory=dict)  # by dimension

    @property
    def units(self) -> list[Unit]:
        return self.selection.units

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal when a run goes on."""
        free = RESUMABLE if self.config.decay == "none" else RESUMABLE - LENGTH
        free = free if self.config.online else free | {"judge"}  # of samples alone
        return {
            "dataset": self.dataset.identity,
            "model": self.base.commit or model_revision(self.base.model),
            "config": self.config.model_dump(mode="json", exclude=free),
            **({"judge": self.scoring.judge} if self.scoring else {}),
        }


def make(
    dataset: Dataset,
    base: Base | None,
    config_file: Path | None,
    overrides: list[str],
    memory: int | None = None,
    found_bytes: int | None = None,
) -> Plan:
    """Check everything that can be checked without loading the model.

    Args:
        dataset: as `dataset.read` gives it.
        base: as `base_of` finds it, once for all processes; None is the dataset's target, found here.
        config_file: settings on top of the model's preset.
        overrides: "key=value" on top of those.
        memory: a preset of `memory.py`, GB; None is what fits `found_bytes`, unless the model has settings of its own.
        found_bytes: memory of a GPU; None without one.

    Raises:
        DatasetError: the dataset leaves nothing to train on.
        RecipeError: a setting or the model is not known, an online strategy or samples have no judge to ask, or a
            tracker is not installed.
        RunError: clips are asked for, and what writes them is not installed.
    """
    base = base or base_of(None, dataset.manifest)
    folder = model_folder(base.model, base.commit)
    family_name(folder)
    profile = profile_of(base.model)
    if memory is not None and memory not in PRESETS:
        raise RecipeError(f"--preset {memory}: there are presets for {', '.join(map(str, PRESETS))} GB")
    if memory is None and found_bytes and profile.name not in settings.PRESETS:
        memory = fitting(found_bytes)
    config = settings.load(profile.name, config_file, overrides, PRESETS[memory] if memory else None)
    trackers.check(config.report_to)
    if config.sample_every:
        video.check_installed("sample_every: writing clips")
    if config.online:
        video.check_installed(f"{config.strategy}: judging clips")
    selection = select(dataset.rows, dataset.manifest["dimensions"], config)
    shift = config.shift or profile.shift or sampler_of(base.model, base.commit)["shift"] or 1.0
    scored = scoring([unit.row for unit in selection.units], dataset.manifest, config) if config.online else None
    asked = held_out(dataset.held_out, dataset.manifest["dimensions"], config) if config.validate_every else []
    judges = sample_judges(dataset.manifest, config)
    return Plan(dataset, selection, config, base, folder, profile, shift, scored, asked, memory, judges)


def facts(plan: Plan) -> dict[str, Any]:
    """JSON-able: what is kept and dropped, weights, steps."""
    weights = [unit.weight for unit in plan.units]
    kept = Counter((unit.row["source"], unit.row["dimension"] or "captions") for unit in plan.units)
    dropped: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (source, dimension, reason), number in plan.selection.dropped.items():
        dropped[source, dimension][reason] += number
    most = max(weights)
    histogram = Counter(min(int(NUM_BINS * w / most), NUM_BINS - 1) for w in weights) if most else Counter()
    config = plan.config
    passes_real = config.lambda_kl > 0 and config.kl != "moment"
    forwards = sum(2 if unit.loser or (unit.real and passes_real) else 1 for unit in plan.units)
    forwards += len(plan.units) * config.online  # the estimate that is judged is a pass of its own
    return {
        "dataset": plan.dataset.identity,
        "version": str(plan.dataset.version) if plan.dataset.version else None,
        "commit": plan.dataset.version.sha if plan.dataset.version else None,
        "recipe": plan.dataset.manifest["recipe_hash"],
        "model": Path(plan.base.model).name,
        "model_commit": plan.base.commit,
        "shift": plan.shift,
        "judge": plan.scoring.judge if plan.scoring else None,
        "sample_judges": {name: judge.engine["model"] for name, judge in plan.sample_judges.items()},
        "memory": plan.memory,
        "config": json.loads(config.model_dump_json()),
        "units": [
            {
                "source": source,
                "dimension": dimension,
                "kept": kept[source, dimension],
                "dropped": dict(dropped[source, dimension]),
            }
            for source, dimension in sorted({*kept, *dropped})
        ],
        "unreliable": unreliable(plan),
        "kept": len(plan.units),
        "weights": {"least": min(weights), "most": most, "histogram": [histogram[i] for i in range(NUM_BINS)]},
        "held_out": len(plan.held_out),
        "effective_size": plan.selection.effective_size,
        "passes_per_epoch": forwards,
        "steps": num_steps(plan.units, config.epochs, config.batch_size, config.max_steps),
    }


def unreliable(plan: Plan) -> dict[str, str]:
    """The dimensions trained whose judge check failed, each with the reason."""
    wanted = plan.config.dimensions or plan.dataset.manifest["dimensions"]
    checks = [check for check in plan.dataset.manifest["judge_check"] if check["dimension"] in wanted]
    verdicts = [(check["dimension"], *judge_verdict.verdict(check)) for check in checks]
    return {name: why for name, verdict, why in verdicts if verdict == "cannot tell"}


def show(facts: dict[str, Any], console: Console) -> None:
    """Print a plan's facts."""
    from rich.table import Table
    from rich.text import Text

    config, weights = facts["config"], facts["weights"]
    model = facts["model"] + (f" at {facts['model_commit'][:12]}" if facts["model_commit"] else "")
    what = f"{config['strategy']} of {model} ({config['tune']})"
    what += f", judged by {facts['judge']['model']}" if facts["judge"] else ""
    name = f"{facts['version']} ({facts['commit'][:12]})" if facts["version"] else facts["dataset"]
    console.print(Text(f"{what} on dataset {name}, recipe {facts['recipe']}"))
    if facts["memory"]:
        ways = ", ".join(f"{key} {config[key]}" for key in PRESETS[facts["memory"]])
        console.print(Text(f"preset for {facts['memory']} GB of GPU memory: {ways}"))
    table = Table("source", "dimension", "kept", "dropped", title="Units", title_justify="left")
    for line in facts["units"]:
        why = ", ".join(f"{number} {reason}" for reason, number in line["dropped"].items())
        table.add_row(*(Text(str(cell)) for cell in (line["source"], line["dimension"], line["kept"], why)))
    console.print(table)
    means = "mean over the dimensions trained" if config["reward"] == "mean" else "column `reward` of the dataset"
    console.print(Text(f"reward of a unit: {means}"))
    for name, why in facts["unreliable"].items():
        told = f"the judge check failed ({why}), so its rewards may be noise. --dimensions without it leaves it out"
        console.print(Text(f"warning: {name}: {told}"))
    bars = "".join(" ▁▂▃▄▅▆▇█"[-(-8 * n // max(weights["histogram"]))] for n in weights["histogram"])
    worth = f"as good as {facts['effective_size']:.0f} equal units of {facts['kept']}"
    console.print(Text(f"weights {weights['least']:.2f} to {weights['most']:.2f} |{bars}|, {worth}"))
    steps = f"{facts['steps']} steps of {config['batch_size']} units at learning rate {config['lr']:g}"
    console.print(Text(f"{steps}; {facts['passes_per_epoch']} forward passes an epoch"))
    if facts["held_out"]:
        console.print(Text(f"{facts['held_out']} held-out units asked every {config['validate_every']} steps"))
    if facts["sample_judges"]:
        judges = ", ".join(sorted(set(facts["sample_judges"].values())))
        console.print(Text(f"clips of held-out prompts judged by {judges} every {config['sample_every']} steps"))

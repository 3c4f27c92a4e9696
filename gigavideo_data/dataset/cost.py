"""What a dataset cost per useful sample, from cost.json.

cost.json has an entry per stage, with what its rows took in the workers (`spent`, see `pipeline.execution.meter`),
whichever run made them; and how many samples gv-train keeps by default. It is not part of a dataset's identity. It may
come from anybody, so it is validated; what it does not say is not shown.

    cost = read(Path("runs/quickstart"));  figure = cost_per_sample(cost);  figure and sentence(figure)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from gigavideo_data.rows import DatasetRow
from gigavideo_data.scoring.training_weights import default_weights, effective_size

FILE: Final = "cost.json"
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Samples(TypedDict):
    """How many samples gv-train keeps by default, and their effective sample size."""

    kept: NonNegativeInt
    effective: Seconds


class StageCost(TypedDict):
    """One stage: its rows, and their seconds by device; null if some were made by a version that did not measure."""

    stage: str
    rows: NonNegativeInt
    spent: dict[Literal["gpu", "cpu", "endpoint"], Seconds] | None


class Cost(TypedDict):
    """The parts of cost.json that are read again."""

    stages: list[StageCost]
    samples: NotRequired[Samples]


class CostPerSample(TypedDict):
    """What the useful samples of a dataset took, in seconds of one kind of device.

    Attributes:
        device: "GPU", or "CPU" where no stage held a GPU.
        seconds: over all stages.
        kept: number of clips.
        effective: sample size.
        per_kept, per_effective: seconds.
        stages: seconds of each.
        elsewhere: stages that a service did, on devices that are not known.
    """

    device: str
    seconds: float
    kept: int
    effective: float
    per_kept: float
    per_effective: float
    stages: dict[str, float]
    elsewhere: list[str]


_COST = TypeAdapter(Cost)


def samples_of(rows: Iterable[DatasetRow], dimensions: Collection[str]) -> Samples:
    """The entry `samples` of cost.json.

    Args:
        rows: of the dataset.
        dimensions: of the dataset.
    """
    weights = default_weights(rows, dimensions)
    return {"kept": len(weights), "effective": round(effective_size(weights), 3)}


def read(folder: Path) -> dict[str, Any] | None:
    """The content of a dataset's cost.json; None without a readable one."""
    return parse(folder / FILE)


def parse(file: Path | None) -> dict[str, Any] | None:
    """The content of a cost.json; None if it is missing or damaged."""
    try:
        content = json.loads(file.read_text("utf-8")) if file else None
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def cost_per_sample(cost: dict[str, Any] | None, samples: Samples | None = None) -> CostPerSample | None:
    """The seconds per kept clip and per effective sample.

    Args:
        cost: the content of cost.json.
        samples: by default those of cost.json.

    Returns:
        None if the seconds of some rows are not known, or no sample is kept.
    """
    try:
        known = _COST.validate_python(cost)
    except ValidationError:
        return None
    samples = samples or known.get("samples")
    if samples is None or not samples["kept"] or not samples["effective"]:
        return None
    by_stage = [(line["stage"], line["spent"]) for line in known["stages"]]
    if any(spent is None for _, spent in by_stage):
        return None
    held = {name for _, spent in by_stage if spent for name in spent}
    key: Literal["gpu", "cpu"] = "gpu" if "gpu" in held else "cpu"
    stages: dict[str, float] = {}
    for stage, spent in by_stage:
        if spent and key in spent:
            stages[stage] = stages.get(stage, 0.0) + spent[key]
    seconds = sum(stages.values())
    return {
        "device": key.upper(),
        "seconds": seconds,
        **samples,
        "per_kept": seconds / samples["kept"],
        "per_effective": seconds / samples["effective"],
        "stages": stages,
        "elsewhere": list(dict.fromkeys(stage for stage, spent in by_stage if spent and "endpoint" in spent)),
    }


def sentence(cost: CostPerSample) -> str:
    """The cost in words: "0.62 CPU-seconds per kept clip, 0.7 per effective sample"."""
    per_kept, per_effective = number(cost["per_kept"]), number(cost["per_effective"])
    return f"{per_kept} {cost['device']}-seconds per kept clip, {per_effective} per effective sample{_without(cost)}"


def per_effective_sample(cost: CostPerSample) -> str:
    """The cost of an effective sample in words: "0.7 CPU-seconds per effective sample"."""
    return f"{number(cost['per_effective'])} {cost['device']}-seconds per effective sample{_without(cost)}"


def _without(cost: CostPerSample) -> str:
    return (
        f", without {', '.join(stage.replace('_', ' ') for stage in cost['elsewhere'])} behind an endpoint"
        if cost["elsewhere"]
        else ""
    )


def number(seconds: float) -> str:
    """Seconds with three digits, or without decimals."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"

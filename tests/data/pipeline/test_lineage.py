"""What ties the datasets of several rounds together: the models that generated them, and the seed of their videos."""

from collections.abc import Iterable
from pathlib import Path

from gigavideo_data.commands.plan import DryRunRunner
from gigavideo_data.pipeline import steps
from gigavideo_data.pipeline.assemble import generating_models
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.stages import Item, Record
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from tests.support.rows import make_row


class Recorder(DryRunRunner):
    """Notes the seeds of videos."""

    def records(self, items: Iterable[Item], label: str | None = None) -> list[Record]:
        items = list(items)
        self.seeds = [int(item.inputs["seed"]) for item in items]
        return super().records(items, label)


def video_seeds(store: Path, *overrides: str) -> list[int]:
    """The seeds of the videos of one prompt."""
    runner = Recorder(Store(store))
    recipe = load("quickstart", ["samples_per_prompt=3", *overrides])
    steps.synthesize(
        steps.Context(recipe, runner), [Row("synthetic", "a ball rolls", "mechanics", prompt="a ball rolls")]
    )
    return runner.seeds


def test_video_seed_replaces_the_seed_for_videos_alone(tmp_path: Path) -> None:
    plain, same, other = (
        video_seeds(tmp_path, *changes) for changes in ((), ("video_seed=0",), ("video_seed=7", "seed=0"))
    )
    assert len(set(plain)) == 3
    assert same == plain
    assert not set(plain) & set(other)
    assert video_seeds(tmp_path, "seed=7") == other
    assert load("quickstart").hash != load("quickstart", ["video_seed=0"]).hash


def test_the_manifest_names_each_generating_model_once_by_content() -> None:
    rows = [make_row(number) for number in range(3)]
    models = [("model", "b" * 16, None), ("model", "a" * 16, None), ("model", "b" * 16, None)]
    for row, (model, revision, adapter) in zip(rows, models, strict=True):
        row["generator"] |= {"model": model, "revision": revision, "adapter": adapter}
    real = make_row(9) | {"generator": None}
    imported = make_row(10)
    imported["generator"] = imported["generator"] | {"backend": "files"}
    assert generating_models([*rows, real, imported]) == [
        {"model": "model", "revision": revision * 16, "adapter": None} for revision in "ab"
    ]

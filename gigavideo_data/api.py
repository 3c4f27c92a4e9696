"""The public Python API: `import gigavideo_data`. Each function is what the command of that name does.

    dataset = gigavideo_data.build("quickstart")
    scored = gigavideo_data.score(dataset, "./other-judge.yaml", out="runs/scored")
    result = gigavideo_data.evaluate("runs/train/quickstart/model", dataset)

Errors that a user can act on are a `GigaVideoError`; its subclasses are in `gigavideo_data.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gigavideo_data.commands import rejudge
from gigavideo_data.commands import score_videos as scoring
from gigavideo_data.commands.build import build as build_dataset
from gigavideo_data.commands.evaluate import evaluate as run_evaluation
from gigavideo_data.commands.evaluation import candidates, output
from gigavideo_data.commands.evaluation.setting import read_setting
from gigavideo_data.commands.score_videos import VideoScores
from gigavideo_data.dataset import summary
from gigavideo_data.dataset.manifest import Manifest
from gigavideo_data.dataset.reader import read_manifest, read_rows
from gigavideo_data.dataset.report.page import write_report
from gigavideo_data.hub import download
from gigavideo_data.io import terminal
from gigavideo_data.io.progress import Progress
from gigavideo_data.recipe.loading import load as load_recipe
from gigavideo_data.recipe.recipe import Recipe
from gigavideo_data.rows import DatasetRow

STORE = Path("runs/store")


@dataclass(frozen=True)
class Dataset:
    """A finished dataset in a local folder, which `datasets.load_dataset(str(folder))` reads too, videos included."""

    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The validated content of manifest.json.

        Raises:
            DatasetError: the folder is no finished dataset of a format that this code reads.
        """
        return read_manifest(self.folder)

    def rows(self) -> list[DatasetRow]:
        """All rows of train and validation as dicts with the columns of the format, without the column `video`.

        Raises:
            DatasetError: a file is missing or damaged.
        """
        return read_rows(self.folder)

    def summary(self) -> dict[str, Any]:
        """Counts, rows per stage, rewards and judge sanity check, as `gv-data inspect --json` prints them."""
        return summary.summarize(self.folder)


def build(
    recipe: str | Path | Recipe,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    store: str | Path = STORE,
    retry_rejected: bool = False,
    latents: bool | None = None,
    show_progress: bool = False,
) -> Dataset:
    """Build a dataset. Finished rows are in the store, so the same call resumes an interrupted build.

    Args:
        recipe: YAML file, name of a shipped recipe, or a `Recipe`.
        out: folder of the dataset; by default runs/<name of the recipe>.
        overrides: changes such as "prompts.variants=2"; not with a `Recipe`.
        store: folder of finished rows of every stage, shared by all builds.
        retry_rejected: try rows again that earlier builds rejected after all attempts.
        latents: whether the dataset holds the final latents of generated videos, which training reads; None is yes,
            unless a generator's autoencoder cannot be identified on this machine.
        show_progress: show bars on stderr.

    Raises:
        RecipeError: the recipe or an override is wrong.
        RejectedError: more rows were rejected than `limits.max_rejected` allows; the dataset is written nevertheless.
        RunError: another build uses the folder, or a worker failed.
        DatasetError: `out` cannot take a dataset.
        HubError: a model of the recipe cannot be found on the Hub.
    """
    resolved = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe), list(overrides))
    folder = Path(out or Path("runs") / resolved.name)
    with _progress(show_progress) as progress:
        build_dataset(resolved, folder, Path(store), progress, retry_rejected=retry_rejected, with_latents=latents)
    return Dataset(folder)


def load(name: str | Path, *, show_progress: bool = False) -> Dataset:
    """Load a dataset from a folder, or download it from the Hub into the cache.

    Args:
        name: folder, or "owner/name" or "owner/name@v1.0.0" on the Hub; without a version, the newest one.
        show_progress: show the download on stderr.

    Raises:
        DatasetError: there is no such folder, or it is no dataset of a format that this code reads.
        HubError: there is no such dataset or version, or the Hub cannot be reached.
    """
    folder = download.local_folder(str(name))
    if folder is None:
        version = download.resolve(str(name))
        with _progress(show_progress) as progress:
            folder = download.fetch(version, progress)
    read_manifest(folder)
    return Dataset(folder)


def score(
    dataset: Dataset | str | Path,
    recipe: str | Path | Recipe,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    store: str | Path = STORE,
    show_progress: bool = False,
) -> Dataset:
    """Score the videos of a dataset again by another judge. Ids, videos and questions stay.

    Args:
        dataset: a `Dataset`, or a name as for `load`.
        recipe: as for `build`; names the judge, and the writer of questions that are missing.
        out: folder of the result; may be that of the dataset.
        overrides: changes such as "judge.readout=text"; not with a `Recipe`.
        store: folder of finished rows of every stage, shared by all builds.
        show_progress: show bars on stderr.

    Raises:
        RecipeError: the recipe or an override is wrong.
        DatasetError: the videos of the dataset are withheld or damaged, or `out` cannot take a dataset.
        RejectedError: too many rows could not be judged; the result is written nevertheless.
        RunError: another build uses the folder, or a worker failed.
    """
    source = _dataset(dataset)
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(str(recipe), list(overrides), dataset_dimensions=source.manifest["dimensions"])
    with _progress(show_progress) as progress:
        rejudge.rejudge(source.folder, recipe, Path(out), Path(store), progress)
    return Dataset(Path(out))


def score_videos(
    videos: str | Path,
    recipe: str | Path | Recipe,
    *,
    overrides: Sequence[str] = (),
    dimensions: Sequence[str] | None = None,
    prompts: str | Path | None = None,
    names_are_prompts: bool = False,
    questions: str | Path | None = None,
    store: str | Path = STORE,
    show_progress: bool = False,
) -> VideoScores:
    """Score videos that are not a dataset of our format. The files are only read.

    Args:
        videos: a folder, a table beside its videos, or one video.
        recipe: as for `build`; only its judge and its writer are used, and it needs no others.
        overrides: changes such as "judge.frames=8"; not with a `Recipe`.
        dimensions: to score; by default those of the table or the questions, or else those of the recipe.
        prompts: a table with the prompts of the videos of a folder.
        names_are_prompts: the prompt of a video without one is the name of its file.
        questions: a YAML file with questions for all videos; no writer is needed then.
        store: folder of finished rows of every stage, shared by all builds; gets copies of the videos.
        show_progress: show bars on stderr.

    Raises:
        RecipeError: there is nothing to score, or a table or an argument is wrong.
        RunError: another run scores this folder, or a worker failed.
        HubError: a model of the recipe cannot be found on the Hub.
    """
    with _progress(show_progress) as progress:
        return scoring.score_videos(
            Path(videos),
            recipe if isinstance(recipe, Recipe) else str(recipe),
            Path(store),
            progress,
            overrides=overrides,
            dimensions=dimensions,
            prompts=Path(prompts) if prompts else None,
            names_are_prompts=names_are_prompts,
            questions=Path(questions) if questions else None,
        )


def evaluate(
    tuned: str | Path,
    prompts: Dataset | str | Path,
    *,
    base: str | Path | None = None,
    adapter: str | Path | None = None,
    split: Literal["dev", "test"] = "test",
    overrides: Sequence[str] = (),
    judge_endpoint: str | None = None,
    second_judge: Sequence[str] = (),
    measures: bool = True,
    features: str = "vae",
    out: str | Path | None = None,
    store: str | Path = STORE,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Compare a tuned model with its base on held-out prompts, with the same seeds, on every dimension.

    Args:
        tuned: folder or Hub id of the tuned model; with `adapter`, of its base.
        prompts: a `Dataset`, a name as for `load`, or a Parquet file of held-out prompts.
        base: name, folder or Hub id[@commit]; by default the dataset's target model.
        adapter: folder of a LoRA that is loaded into the tuned model.
        split: "dev" to choose settings, "test" to report.
        overrides: changes of generators, judge, specialists or scale, such as "generators.0.steps=10".
        judge_endpoint: base URL of a judge behind an HTTP endpoint.
        second_judge: keys of the recipe's part `judge`, such as "backend=http", for a second judge of the same videos.
        measures: whether to measure realism, motion and spread.
        features: what realism and spread are measured with: "vae", the base's autoencoder, or folder or Hub id[@commit]
            of an image or video encoder of transformers.
        out: folder of the result; by default runs/eval/<tuned model>.
        store: folder of finished rows of every stage, shared by all builds.
        show_progress: show bars on stderr.

    Returns:
        The content of eval.json: both models, the dataset's others, the judge, per dimension the mean rewards of both
        models in [0, 1], their paired difference with its 95 % confidence interval and verdict, the largest gains
        and losses, the measures beside the reward, and what the second judge says.

    Raises:
        RecipeError: a model is unknown, or base and tuned model are of different families or sizes.
        DatasetError: there are no held-out prompts.
        HubError: a model cannot be found on the Hub.
        RunError: another evaluation uses the folder, or a worker failed.
    """
    is_file = not isinstance(prompts, Dataset) and Path(prompts).is_file()
    source = Path(str(prompts)) if is_file else _dataset(prompts).folder
    setting = read_setting(
        source,
        split,
        overrides,
        judge_endpoint=judge_endpoint,
        second_judge=second_judge,
        measures=measures,
        features=features,
    )
    lora = Path(adapter) if adapter else None
    first, second = candidates.candidates(str(base) if base else None, str(tuned), lora, setting)
    folder = Path(out or Path("runs/eval") / (lora.name if lora else second.name))
    with _progress(show_progress) as progress:
        facts = run_evaluation(first, second, setting, folder, Path(store), progress)
    output.write_scores(lora or Path(tuned), facts)
    if not is_file:
        write_report(source, folder / "report.html", folder)
    return facts


def _dataset(dataset: Dataset | str | Path) -> Dataset:
    return dataset if isinstance(dataset, Dataset) else load(dataset)


def _progress(show: bool) -> Progress:
    return Progress(terminal.console(stderr=True, quiet=not show))

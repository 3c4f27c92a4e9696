"""The command line `gv-data`.

    gv-data build --recipe quickstart

Results go to stdout: tables on a terminal, one line per row in a pipe, JSON with --json. Progress, messages and
warnings go to stderr. Exit codes: 0 ok, 1 failure, 2 usage or recipe, 3 more rows rejected than the recipe allows,
4 Hub, 130 interrupted. Slow imports are inside the commands that need them, so that --help is fast.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gigavideo_data.command_line import Private, StoreFolder, print_json, run_and_exit, version_option
from gigavideo_data.errors import RecipeError, RejectedError, RunError

if TYPE_CHECKING:
    from rich.console import Console

    from gigavideo_data.commands.planning.rates import Gpu
    from gigavideo_data.hub.repo import Repository
    from gigavideo_data.hub.upload import Published
    from gigavideo_data.io.progress import Progress

app = typer.Typer(
    name="gv-data",
    epilog="Example: gv-data build --recipe quickstart",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # rich help would load a Markdown parser: twice the time
    pretty_exceptions_enable=False,
)


def _complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Shipped recipes for the shell's completion, each with its description."""
    from gigavideo_data.recipe.loading import description, shipped

    return [(name, description(path)) for name, path in shipped().items() if name.startswith(incomplete)]


def _complete_dimensions(incomplete: str) -> list[str]:
    """Dimensions for the shell's completion, after those of the list so far."""
    from gigavideo_data.recipe.dimensions import catalogue

    given, comma, last = incomplete.rpartition(",")
    names = (name for name in catalogue.names() if name not in given.split(","))
    return [f"{given}{comma}{name}" for name in names if name.startswith(last)]


RecipeName = Annotated[
    str,
    typer.Option(
        metavar="RECIPE",
        help="YAML file, or name of a shipped recipe (see `gv-data recipes`).",
        autocompletion=_complete_recipe,
    ),
]
Dimensions = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="Dimensions to improve (see `gv-data dimensions`).  [default: those of the recipe]",
        autocompletion=_complete_dimensions,
    ),
]


def _set(text: str) -> Any:
    return typer.Option("--set", metavar="KEY=VALUE", help=text)


Overrides = Annotated[list[str] | None, _set("Change one value of the recipe, such as prompts.variants=2.")]
Dataset = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Folder of a dataset, or owner/name[@version] on the Hub.")
]
InPlace = Annotated[bool, typer.Option("--in-place", help="Replace DATASET by the result.")]
Push = Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Publish the result as this dataset on the Hub.")]
Tag = Annotated[
    str | None, typer.Option(metavar="vX.Y.Z", help="Version of the published dataset.  [default: the next version]")
]
SecondJudge = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Key of the recipe's part judge, for a second judge of the same videos; repeat it for several keys.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result, or the error, as one JSON object on stdout.")]


def main() -> None:
    """Run the command line and exit with its exit code."""
    run_and_exit(partial(app, standalone_mode=False))


@app.callback()
def _root(_version: Annotated[bool, version_option("gigavideo")] = False) -> None:
    """Build, check, score and publish datasets of generated videos with rewards, and evaluate tuned models."""


@app.command(epilog="Example: gv-data build --recipe quickstart --set prompts.per_dimension=4")
def build(
    recipe: RecipeName,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the dataset.  [default: runs/<name of the recipe>]")
    ] = None,
    store: StoreFolder = Path("runs/store"),
    dimensions: Dimensions = None,
    overrides: Overrides = None,
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Try rows again that earlier builds rejected after all attempts.")
    ] = False,
    push: Push = None,
    tag: Tag = None,
    private: Private = False,
    latents: Annotated[
        bool | None,
        typer.Option(
            "--latents/--no-latents",
            help="Store the final latents of generated videos in the dataset too; with --latents, --push uploads "
            "them.  [default: stored, not uploaded]",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a dataset with prompts, videos, rewards and a report.

    The same command resumes an interrupted build.
    """
    from gigavideo_data.recipe.loading import load

    resolved = load(recipe, overrides or [], dimensions=_split(dimensions))
    out = out or Path("runs") / resolved.name

    from gigavideo_data.dataset import summary
    from gigavideo_data.dataset.writer import check_out
    from gigavideo_data.io import terminal
    from gigavideo_data.io.progress import Progress

    check_out(out)  # before the slow imports
    uploader = None
    if repo := _preflight(push, tag, out, private=private):
        from gigavideo_data.hub.upload import BackgroundUploader

        uploader = BackgroundUploader(repo)

    from gigavideo_data.commands.build import build as build_dataset

    console = terminal.console(stderr=True)
    _stop_on_sigterm()
    try:
        with Progress(console) as progress:
            result = build_dataset(
                resolved, out, store, progress, retry_rejected=retry_rejected, uploader=uploader, with_latents=latents
            )
    except KeyboardInterrupt:
        _message("interrupted; finished work is kept, and the same command resumes the build")
        raise
    except RejectedError:
        summary.show(summary.summarize(out), console)  # the dataset is complete, with all its rejects
        raise
    summary.show(summary.summarize(out), console)
    report = out / "report.html"
    for line in result.reasons:
        _message(f"rejected: {line}")
    _message(f"{result.rows} rows, {result.rejected} rejected, in {out}; the report is {report}")
    facts = {"out": out, "report": report, "rows": result.rows, "rejected": result.rejected, "recipe": resolved.hash}
    if repo:
        facts |= _push(out, repo, tag, verified=True, with_latents=latents is True)
    _print(facts, as_json)


@app.command(epilog="Example: gv-data push runs/quickstart owner/name")
def push(
    dataset: Dataset,
    repo: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub, which is created if it is missing.")
    ],
    tag: Tag = None,
    private: Private = False,
    model: Annotated[
        bool, typer.Option("--model", help="Publish a model: DATASET is the folder `model` of a gv-train run.")
    ] = False,
    scores_only: Annotated[
        bool,
        typer.Option("--scores-only", help="Withhold the generated videos; gv-data remake restores them."),
    ] = False,
    latents: Annotated[
        bool, typer.Option("--latents", help="Upload the latents too, in this version and in all later ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a dataset or model on the Hub as one commit.

    A dataset gets a version. The same command resumes an interrupted upload.
    """
    if model and scores_only:
        raise RecipeError("push: --model and --scores-only exclude each other; give one")
    if latents and (model or scores_only):
        raise RecipeError("push: --latents cannot be combined with --model or --scores-only; leave it out")

    from gigavideo_data.hub import upload

    if model:
        with _progress() as progress:
            published = upload.push_model(dataset, repo, progress, private=private, tag=tag)
        _print(_published(published), as_json)
        return
    found = upload.preflight(repo, private=private, tag=tag)
    folder = _existing(dataset)
    if not scores_only:
        _print(_push(folder, found, tag, with_latents=latents), as_json)
        return

    from gigavideo_data.commands.remake import withhold

    with TemporaryDirectory() as scratch:
        with _progress() as progress:
            withhold(folder, Path(scratch), progress)
        _print(_push(Path(scratch), found, tag, verified=True), as_json)


@app.command(epilog="Example: gv-data plan --recipe physics")
def plan(
    recipe: RecipeName,
    store: StoreFolder = Path("runs/store"),
    dimensions: Dimensions = None,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="GPU to count hours for: h100, h200, rtx4090.  [default: those of this machine]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the rows that a build needs, with hours, disk and cost.

    Nothing is built. Rows that are in the store already cost nothing.
    """
    from gigavideo_data.recipe.loading import load

    resolved = load(recipe, overrides or [], dimensions=_split(dimensions))

    from gigavideo_data.commands import plan as planning
    from gigavideo_data.commands.planning import rates
    from gigavideo_data.pipeline.store import Store

    chosen = rates.gpu_named(gpu) if gpu else _gpu_here() if rates.needs_gpu(resolved) else None
    _print(planning.plan(resolved, Store(store), chosen), as_json, planning.show)


def _gpu_here() -> Gpu | None:
    """The GPUs of this machine, if their rates are known."""
    import torch

    from gigavideo_data.commands.planning import rates

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = rates.gpu_among(names)
    if names and found is None:
        _message(f"the rates of {names[0]} are not known; --gpu counts the hours of {', '.join(rates.GPUS)}")
    return found


@app.command(epilog="Example: gv-data doctor")
def doctor(store: StoreFolder = Path("runs/store"), as_json: Json = False) -> None:
    """Show what this machine can run, and what is missing."""
    from gigavideo_data.commands import doctor as checks

    findings = checks.examine(store)
    _print(findings, as_json, checks.show)
    if not checks.healthy(findings):
        raise RunError("something that every build needs is broken; the table says what to do")


@app.command(epilog="Example: gv-data inspect runs/quickstart")
def inspect(dataset: Dataset, as_json: Json = False) -> None:
    """Show rows per stage, rewards and judge sanity check of a dataset."""
    from gigavideo_data.dataset import summary

    _print(summary.summarize(_existing(dataset)), as_json, summary.show)


@app.command(epilog="Example: gv-data verify owner/name@v1.0.0")
def verify(dataset: Dataset, as_json: Json = False) -> None:
    """Check files, values and videos of a dataset.

    Every frame of every video is decoded.
    """
    from gigavideo_data.dataset.verify import verify_folder

    folder = _existing(dataset)
    with _progress() as progress:
        verified = verify_folder(folder, progress)
    _message(f"ok: {dataset} ({', '.join(f'{name} {rows}' for name, rows in verified.rows.items())})")
    _print({"rows": verified.rows}, as_json)


@app.command(epilog="Example: gv-data report runs/quickstart --eval runs/eval/quickstart")
def report(
    dataset: Dataset,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.  [default: report.html in the folder of DATASET, or here]")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--eval", help="Folder written by gv-data eval, which adds base and tuned model.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the HTML report of a dataset.

    It is one file that needs no server and no network.
    """
    from gigavideo_data.dataset.report.page import write_report

    if not dataset.is_dir():
        out = out or Path("report.html")  # the Hub cache is not changed
    page = write_report(_existing(dataset), out, evaluation)
    _message(f"the report is {page}")
    _print({"report": page}, as_json)


@app.command(epilog="Example: gv-data score clips --recipe ./judge.yaml --prompts clips.csv --out scores.csv")
def score(
    videos: Annotated[
        Path,
        typer.Argument(metavar="VIDEOS", help="Folder of videos, a table beside its videos, one video, or a dataset."),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(metavar="RECIPE", help="Path or name of the recipe that names the judge.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    dimensions: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Dimensions to score videos on.  [default: those of the table, or else those of the recipe]",
            autocompletion=_complete_dimensions,
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Table with the prompts of the videos: CSV, TSV, JSON lines or Parquet.")
    ] = None,
    names_are_prompts: Annotated[
        bool, typer.Option("--names-are-prompts", help="The prompt of a video is the name of its file.")
    ] = False,
    questions: Annotated[
        Path | None, typer.Option(help="YAML file with the questions for all videos, by dimension.")
    ] = None,
    store: StoreFolder = Path("runs/store"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the scores of videos (.csv, .jsonl, .parquet), or folder of a new dataset.  "
            "[default: CSV on stdout]"
        ),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace the dataset by the result.")] = False,
    push: Push = None,
    tag: Tag = None,
    private: Private = False,
    recompute: Annotated[bool, typer.Option("--recompute", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Score videos, or a dataset again by another judge.

    Videos are only read; the result is a table. Of a dataset, ids, videos and questions stay, and the result is a
    dataset. The recipe names the judge. For other rules without a judge, see gv-data rescore.
    """
    if recompute:
        raise RecipeError(f"score: --recompute is a command of its own now: gv-data rescore {videos}")
    if recipe is None:
        raise RecipeError("score: --recipe is missing; it names the judge. `gv-data rescore` uses the stored answers")
    from gigavideo_data.pipeline.sources import video_list

    if video_list.is_list(videos):
        given = {"--in-place": in_place, "--push": bool(push), "--tag": bool(tag), "--private": private}
        _refuse("score", "only for a dataset", given)
        _score_videos(
            videos,
            recipe,
            out,
            store,
            as_json=as_json,
            overrides=overrides or [],
            dimensions=_split(dimensions),
            prompts=prompts,
            names_are_prompts=names_are_prompts,
            questions=questions,
        )
    else:
        given = {"--dimensions": bool(dimensions), "--prompts": bool(prompts), "--questions": bool(questions)}
        _refuse("score", "only for videos, not for a dataset", given | {"--names-are-prompts": names_are_prompts})
        facts = _score_again(
            videos, recipe, overrides or [], store, out, in_place=in_place, push=push, tag=tag, private=private
        )
        _print(facts, as_json)


def _refuse(command: str, why: str, options: dict[str, bool]) -> None:
    """Refuse options that do not go with the arguments."""
    if wrong := [name for name, value in options.items() if value]:
        raise RecipeError(f"{command}: {', '.join(wrong)}: {why}; leave it out")


def _score_videos(
    videos: Path,
    recipe: str,
    out: Path | None,
    store: Path,
    *,
    as_json: bool,
    **options: Any,  # of `score_videos`
) -> None:
    from gigavideo_data.commands import score_videos as scoring

    if out:
        scoring.check_output(out)
    _stop_on_sigterm()
    with _progress() as progress:
        scores = scoring.score_videos(videos, recipe, store, progress, **options)
    summary = scores.summary()
    if out:
        scoring.write(scores, out)
    elif not as_json:
        typer.echo(scoring.as_csv(scores), nl=False)
    _show_scores(summary)
    if as_json:
        print_json(summary | ({} if out else {"rows": scores.rows}))
    scoring.check_limit(scores, out)


def _show_scores(summary: dict[str, Any]) -> None:
    """Numbers and means on stderr, where they do not disturb the table on stdout."""
    from gigavideo_data.io import terminal

    table = terminal.Table("Scores", "dimension", ">videos", ">mean", ">standard error")
    for name, one in summary["dimensions"].items():
        table.add(terminal.words(name), one["scored"], terminal.number(one["mean"]), terminal.number(one["sem"]))
    terminal.console(stderr=True).print(table)
    _message(f"{summary['videos']} videos, {summary['rejected']} rejected")


def _score_again(
    dataset: Path,
    recipe: str,
    overrides: list[str],
    store: Path,
    out: Path | None,
    *,
    in_place: bool,
    push: str | None,
    tag: str | None,
    private: bool,
) -> dict[str, Any]:
    written = _destination("score", dataset, out, in_place=in_place)
    if written is None:
        raise RecipeError("score: say where to write the result: --out DIR or --in-place")
    repo = _preflight(push, tag, written, private=private)

    from gigavideo_data.commands.rejudge import rejudge
    from gigavideo_data.dataset.reader import read_manifest
    from gigavideo_data.recipe.loading import load

    folder = _existing(dataset)
    resolved = load(recipe, overrides, dataset_dimensions=read_manifest(folder)["dimensions"])
    _stop_on_sigterm()
    with _progress() as progress:
        facts = rejudge(folder, resolved, written, store, progress)
    rejected = facts["rejected"]
    _message(f"{facts['judged']} of {facts['rows']} rows judged, {rejected} rejected, in {written}")
    return facts | (_push(written, repo, tag, verified=True) if repo else {})


@app.command(epilog="Example: gv-data calibrate people.csv --scores scores.csv")
def calibrate(
    people: Annotated[
        Path, typer.Argument(metavar="PEOPLE", help="Table of people's ratings of videos, or choices between two.")
    ],
    scores: Annotated[Path, typer.Option(help="Table of the judge's scores, as `gv-data score` writes it.")],
    column: Annotated[
        str | None,
        typer.Option(help="Column of the scores.  [default: that of the dimension, or else reward]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the scores of a judge with the judgement of people."""
    from gigavideo_data.commands.calibrate import calibrate as compare_with_people

    facts = compare_with_people(people, scores, column)
    unmatched = facts["unmatched"]
    if unmatched["rows"]:
        _message(
            f"warning: {unmatched['rows']} rows have videos without a score, the first one: {unmatched['first'][0]}"
        )
    _print(facts, as_json, _show_calibration)


def _show_calibration(facts: dict[str, Any], console: Console) -> None:
    from gigavideo_data.io import terminal

    table = terminal.Table(
        "Judge against people", "dimension", ">pairs", ">agreement", "95 %", ">Spearman", ">tau", "verdict"
    )
    for name, one in facts["dimensions"].items():
        agreement, ranking = one["agreement"], one.get("ranking")
        table.add(
            terminal.words(name),
            one["pairs"],
            terminal.number(agreement["value"]),
            "-" if agreement["low"] is None else f"{agreement['low']:.2f} to {agreement['high']:.2f}",
            terminal.number(ranking["spearman"]["value"] if ranking else None),
            terminal.number(ranking["tau"]["value"] if ranking else None),
            one["verdict"],
        )
    console.print(table)
    for name, one in facts["dimensions"].items():
        ties = f"ties of people {one['human_ties']}, of the judge {one['judge_ties']} of {one['pairs']} pairs"
        console.print(f"{terminal.words(name)}: {one['prompts']} prompts; {ties}")


@app.command(epilog="Example: gv-data rescore runs/quickstart --combine mechanics=mean --min-mass 0.6")
def rescore(
    dataset: Dataset,
    min_mass: Annotated[
        float | None, typer.Option(help="Least P(yes) + P(no) of an answer.  [default: judge.min_mass of the recipe]")
    ] = None,
    combine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIMENSION=RULE", help="Combine the answers on a dimension by mean, all (minimum), gate or prefix."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of a new dataset with the result.  [default: only show it]")
    ] = None,
    in_place: InPlace = False,
    push: Push = None,
    tag: Tag = None,
    private: Private = False,
    as_json: Json = False,
) -> None:
    """Compute the rewards of a dataset again from stored answers.

    No judge runs. For another judge, see gv-data score.
    """
    rules = dict(_pair(text, "--combine", "mechanics=mean") for text in combine or [])
    written = _destination("rescore", dataset, out, in_place=in_place)
    if push and written is None:
        raise RecipeError("rescore: --push needs --out DIR or --in-place")
    repo = _preflight(push, tag, written, private=private)

    from gigavideo_data.commands import rescore as rescoring
    from gigavideo_data.io import terminal

    facts = rescoring.recompute(_existing(dataset), written, min_mass=min_mass, combine=rules)
    if not as_json:
        rescoring.show(facts, terminal.console())
    _message(f"written to {written}" if written else "nothing written; --out DIR or --in-place writes the result")
    if repo and written:
        facts |= _push(written, repo, tag, verified=True)
    _print(facts, as_json)


@app.command(epilog="Example: gv-data remake owner/name@v1.0.0 --out runs/remade --model Wan2.1=models/Wan2.1")
def remake(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="Folder of the dataset with its videos.")],
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME=FOLDER", help="Local folder of a model or adapter of the dataset."),
    ] = None,
    store: StoreFolder = Path("runs/store"),
    overrides: Annotated[list[str] | None, _set("Change one value of scale or limits, as limits.replicas=2.")] = None,
    as_json: Json = False,
) -> None:
    """Generate the withheld videos of a dataset again.

    The same command resumes an interrupted run.
    """
    pairs = (_pair(text, "--model", "Wan2.1=models/Wan2.1") for text in models or [])
    folders = {name: str(Path(given).expanduser().absolute()) for name, given in pairs}  # never the name of a Hub model
    folder = _existing(dataset)

    from gigavideo_data.commands.remake import remake as generate_again
    from gigavideo_data.dataset.reader import read_manifest
    from gigavideo_data.recipe.loading import load

    recipe = load(None, overrides or [], dataset_dimensions=read_manifest(folder)["dimensions"])
    _stop_on_sigterm()
    with _progress() as progress:
        facts = generate_again(folder, out, folders, recipe, store, progress)
    made, differ, rejected = facts["made"], facts["others"], facts["rejected"]
    _message(f"{made} videos generated again, {differ} of them differ from the original, {rejected} rejected, in {out}")
    _print(facts, as_json)


@app.command(epilog="Example: gv-data merge runs/physics owner/name@v1.0.0 --out runs/merged")
def merge(
    datasets: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET...", help="Folders, or owner/name[@version] on the Hub."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the merged dataset.")],
    as_json: Json = False,
) -> None:
    """Merge datasets for one target model.

    Duplicates, and prompts that one of the datasets holds out for evaluation, are rejected.
    """
    if len(datasets) < 2:
        raise RecipeError("merge: name at least two datasets")

    from gigavideo_data.commands import merge as merging

    facts = merging.merge([_existing(dataset) for dataset in datasets], out)
    rejected = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in facts["rejected"].items())
    _message(f"{facts['rows']} rows in {out}; rejected: {rejected or 'none'}")
    _print(facts, as_json)


@app.command("eval", epilog="Example: gv-data eval --tuned runs/train/quickstart/model --prompts runs/quickstart")
def evaluate(
    tuned: Annotated[
        str, typer.Option(metavar="MODEL", help="Folder or Hub id of the tuned model; with --adapter, of its base.")
    ],
    prompts: Annotated[
        Path, typer.Option(metavar="DATASET", help="Dataset with held-out prompts, or a Parquet file of them.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Name, folder or Hub id[@commit] of the model to compare with.  [default: the dataset's target model]",
        ),
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a LoRA that is loaded into the tuned model.")] = None,
    split: Annotated[
        Literal["dev", "test"],
        typer.Option(help="Split of held-out prompts: dev to choose settings, test to report."),
    ] = "test",
    overrides: Annotated[list[str] | None, _set("Change one value of generators, judge, specialists or scale.")] = None,
    judge_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Base URL of a judge behind an HTTP endpoint; its key is in GIGAVIDEO_JUDGE_API_KEY."
            "  [default: GIGAVIDEO_JUDGE_ENDPOINT]",
        ),
    ] = None,
    second_judge: SecondJudge = None,
    features: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Features for realism and spread: vae, the base's autoencoder, or folder or Hub id[@commit] of an "
            "image or video encoder.",
        ),
    ] = "vae",
    no_measures: Annotated[
        bool, typer.Option("--no-measures", help="Do not measure realism, motion and spread.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the result.  [default: runs/eval/<tuned model>]")] = None,
    store: StoreFolder = Path("runs/store"),
    as_json: Json = False,
) -> None:
    """Compare a tuned model with its base on held-out prompts.

    Both generate videos with the same seeds; every dimension that has prompts is compared.
    """
    from gigavideo_data.commands.evaluate import evaluate as run_evaluation
    from gigavideo_data.commands.evaluation import candidates, output
    from gigavideo_data.commands.evaluation.setting import read_setting
    from gigavideo_data.io import terminal

    prompts = prompts if prompts.is_file() else _existing(prompts)
    setting = read_setting(
        prompts,
        split,
        overrides or [],
        judge_endpoint=judge_endpoint,
        second_judge=second_judge or [],
        measures=not no_measures,
        features=features,
    )
    first, second = candidates.candidates(base, tuned, adapter, setting)
    if note := candidates.base_note(first, second):
        _message(note)
    out = out or Path("runs/eval") / (adapter.name if adapter else second.name)
    with _progress() as progress:
        facts = run_evaluation(first, second, setting, out, store, progress)
    if not as_json:
        output.show(facts, terminal.console())
    output.write_scores(adapter or Path(tuned), facts)
    _message(f"written to {out / 'eval.json'}")
    if prompts.is_dir():
        from gigavideo_data.dataset.report.page import write_report

        _message(f"the report is {write_report(prompts, out / 'report.html', out)}")
    _print(facts, as_json)


@app.command(epilog="Example: gv-data recipes")
def recipes(as_json: Json = False) -> None:
    """List the shipped recipes."""
    from gigavideo_data.recipe.loading import description, shipped

    rows = [{"name": name, "about": description(path), "path": str(path)} for name, path in shipped().items()]
    if not as_json:
        _print_table([[row["name"], row["about"]] for row in rows], "name", "description")
    _print(rows, as_json)


@app.command(epilog="Example: gv-data dimensions mechanics")
def dimensions(
    name: Annotated[str | None, typer.Argument(help="Name of one dimension, to show its whole definition.")] = None,
    as_json: Json = False,
) -> None:
    """List the dimensions of video quality, or show one of them."""
    from gigavideo_data.recipe.dimensions import catalogue

    shown = [catalogue.load_dimension(each).model_dump(mode="json") for each in ([name] if name else catalogue.names())]
    if not as_json and name:
        fields = {field: value if isinstance(value, list) else [value] for field, value in shown[0].items()}
        _print_table([[field, "\n".join(map(str, lines))] for field, lines in fields.items()], "field", "value")
    elif not as_json:
        rows = [[each["name"], each["group"], each["combine"], each["seeds"][0]] for each in shown]
        _print_table(rows, "name", "group", "combine", "example")
    _print(shown[0] if name else shown, as_json)


# --- output ----------------------------------------------------------------------------------------------------------


def _print(facts: Any, as_json: bool, show: Callable[[Any, Console], None] | None = None) -> None:
    """Print results on stdout: as JSON with --json, else by `show`."""
    if as_json:
        print_json(facts)
    elif show:
        from gigavideo_data.io import terminal

        show(facts, terminal.console())


def _print_table(rows: list[list[str]], *columns: str) -> None:
    from gigavideo_data.io import terminal

    table = terminal.Table("", *columns)
    for row in rows:
        table.add(*row)
    terminal.console().print(table)


def _message(text: str) -> None:
    typer.echo(text, err=True)


def _progress() -> Progress:
    """A progress display on stderr; see `progress.Progress`."""
    from gigavideo_data.io import terminal
    from gigavideo_data.io.progress import Progress

    return Progress(terminal.console(stderr=True))


# --- arguments -------------------------------------------------------------------------------------------------------


def _existing(dataset: Path) -> Path:
    """The folder of a dataset: a local one, or downloaded into the Hub cache."""
    if dataset.is_dir():
        return dataset

    from gigavideo_data.hub import download

    if folder := download.local_folder(str(dataset)):
        return folder
    version = download.resolve(str(dataset))
    with _progress() as progress:
        folder = download.fetch(version, progress)
    _message(f"{version}, commit {version.sha}")
    return folder


def _destination(command: str, dataset: Path, out: Path | None, *, in_place: bool) -> Path | None:
    if out and in_place:
        raise RecipeError(f"{command}: --out and --in-place exclude each other; give one")
    if in_place and not dataset.is_dir():
        raise RecipeError(f"{command}: {dataset} is no local folder; --out writes the result as a new dataset")
    return dataset if in_place else out


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"{option} {text}: must look like {example}")
    return name, value


def _stop_on_sigterm() -> None:
    """Stop as cleanly as on Ctrl-C when a machine is pre-empted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


# --- publishing ------------------------------------------------------------------------------------------------------


def _preflight(push: str | None, tag: str | None, out: Path | None, *, private: bool) -> Repository | None:
    if push is None:
        return None

    from gigavideo_data.hub import upload

    return upload.preflight(push, private=private, tag=tag, out=out)


def _push(
    dataset: Path, repo: Repository, tag: str | None, *, verified: bool = False, with_latents: bool = False
) -> dict[str, Any]:
    from gigavideo_data.hub import upload

    with _progress() as progress:
        published = upload.push(dataset, repo, progress, tag, verified=verified, with_latents=with_latents)
    facts = _published(published)
    _message(f'    load_dataset("{published.repo}", revision="{published.tag}")')
    return facts


def _published(done: Published) -> dict[str, Any]:
    """Report what was published; returns the same as JSON-able facts."""
    name = f"{done.repo}@{done.tag}" if done.tag else done.repo
    sent = f"{done.num_bytes / 1e6:.1f} MB uploaded" if done.num_bytes else "already on the Hub"
    _message(f"published {name} ({done.changes}; {sent}), commit {done.sha}")
    return {"repo": done.repo, "tag": done.tag, "sha": done.sha, "changes": done.changes, "bytes": done.num_bytes}

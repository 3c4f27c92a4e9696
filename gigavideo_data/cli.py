"""The command line `gv-data`: stdout carries data only (with --json), everything said to people goes to stderr.

    gv-data build --recipe quickstart

Exit codes: 0 ok, 1 failure, 2 usage or recipe, 3 more rejected than the recipe allows, 4 Hub, 130 interrupted. Every
import that costs time is inside the command that needs it, so that --help is instant.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gigavideo_data.errors import RecipeError, RejectedError, RunError, run_and_exit

if TYPE_CHECKING:
    from rich.console import Console

    from gigavideo_data.hub_repo import Place
    from gigavideo_data.hub_write import Published

app = typer.Typer(
    name="gv-data",
    help="From a video model's weakness to a reward-annotated dataset that mends it.",
    epilog="First look, on any machine: gv-data build --recipe quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich help would load a Markdown parser: twice the time
    pretty_exceptions_enable=False,
)


def _complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Shipped recipes for the shell's completion, each with its description."""
    from gigavideo_data.recipe_loading import description, shipped

    return [(name, description(path)) for name, path in shipped().items() if name.startswith(incomplete)]


def _complete_dimensions(incomplete: str) -> list[str]:
    """Dimensions for the shell's completion, after those of the list so far."""
    from gigavideo_data.dimensions import catalogue

    given, comma, last = incomplete.rpartition(",")
    names = (name for name in catalogue.names() if name not in given.split(","))
    return [f"{given}{comma}{name}" for name in names if name.startswith(last)]


RecipeName = Annotated[
    str,
    typer.Option(
        metavar="RECIPE",
        help="A YAML file, or the name of a shipped recipe (see `gv-data recipes`).",
        autocompletion=_complete_recipe,
    ),
]
Dimensions = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="The dimensions to improve (see `gv-data dimensions`).  [default: those of the recipe]",
        autocompletion=_complete_dimensions,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe, such as prompts.variants=2."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON on stdout.")]
Tag = Annotated[str | None, typer.Option(metavar="vX.Y.Z", help="Its version.  [default: the next one]")]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private, if it has to be made.")]
Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A folder, or owner/name[@version] on the Hub.")]


def main() -> None:
    """Run the command line, and end with the exit code of what went wrong, if anything."""
    run_and_exit(app)


@app.command()
def build(
    recipe: RecipeName,
    out: Annotated[Path | None, typer.Option(help="The dataset's folder.  [default: runs/<recipe name>]")] = None,
    store: Annotated[Path, typer.Option(help="Finished work, shared by all builds.")] = Path("runs/store"),
    dimensions: Dimensions = None,
    overrides: Overrides = None,
    retry_rejected: Annotated[bool, typer.Option("--retry-rejected", help="Try given-up rows again.")] = False,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Publish it on the Hub when done.")] = None,
    tag: Tag = None,
    private: Private = False,
    latents: Annotated[bool, typer.Option("--latents", help="With the final latents of its generated videos.")] = False,
    as_json: Json = False,
) -> None:
    """Make a dataset: prompts, videos, scores, and a page to look at. Interrupted, the same command goes on."""
    from gigavideo_data.recipe_loading import load

    resolved = load(recipe, overrides or [], dimensions=_split(dimensions))
    out = out or Path("runs") / resolved.name

    from gigavideo_data import inspect
    from gigavideo_data.progress import Progress
    from gigavideo_data.publish import check_out

    check_out(out)  # a folder that cannot take the set fails before the slow imports
    place = ahead = None
    if push:
        from gigavideo_data import hub_write

        place = hub_write.preflight(push, private=private, tag=tag, out=out)
        ahead = hub_write.Ahead(place)

    from gigavideo_data.build import build as build_dataset

    console = _console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a pre-empted machine stops as cleanly as Ctrl-C
    try:
        with Progress(console) as progress:
            result = build_dataset(
                resolved, out, store, progress, retry_rejected=retry_rejected, ahead=ahead, with_latents=latents
            )
    except KeyboardInterrupt:
        _say(console, "interrupted; finished work is kept, and the same command goes on from there")
        raise
    except RejectedError:
        inspect.show(inspect.facts(out), console)  # the set is written all the same, and says what was rejected
        raise
    inspect.show(inspect.facts(out), console)
    report = out / "report.html"
    for line in result.reasons:
        _say(console, f"rejected: {line}")
    _say(console, f"{result.rows} rows, {result.rejected} rejected, in {out}; look at {report}")
    facts = {"out": out, "report": report, "rows": result.rows, "rejected": result.rejected, "recipe": resolved.hash}
    if place:
        facts |= _push(out, place, tag, console, verified=True, with_latents=latents)
    _data(facts, as_json)


@app.command("push")
def push_(
    dataset: Folder,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The dataset on the Hub; made if missing.")],
    tag: Tag = None,
    private: Private = False,
    model: Annotated[bool, typer.Option("--model", help="The folder is a model that gv-train wrote.")] = False,
    scores_only: Annotated[bool, typer.Option("--scores-only", help="Without the generated videos.")] = False,
    latents: Annotated[
        bool, typer.Option("--latents", help="With their latents, as later versions then have.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a dataset on the Hub as one commit with a version. Interrupted, the same command goes on."""
    from gigavideo_data import hub_write
    from gigavideo_data.progress import Progress

    console = _console()
    if model and scores_only:
        raise RecipeError("push: --model and --scores-only exclude each other; give one")
    if latents and (model or scores_only):
        raise RecipeError("push: --latents goes with generated videos, not with --model or --scores-only; leave it out")
    if model:
        with Progress(console) as progress:
            done = hub_write.push_model(dataset, repo, progress, private=private, tag=tag)
        _say(console, f"published {_told(done)}")
        _data(_facts(done), as_json)
        return
    place = hub_write.preflight(repo, private=private, tag=tag)
    if not scores_only:
        _data(_push(_existing(dataset), place, tag, console, with_latents=latents), as_json)
        return

    from gigavideo_data.remake import withhold

    with TemporaryDirectory() as scratch:
        folder = _existing(dataset)
        with Progress(console) as progress:
            withhold(folder, Path(scratch), progress)
        _data(_push(Path(scratch), place, tag, console, verified=True), as_json)


def _push(
    dataset: Path,
    place: Place,
    tag: str | None,
    console: Console,
    *,
    verified: bool = False,
    with_latents: bool = False,
) -> dict[str, Any]:
    from gigavideo_data import hub_write
    from gigavideo_data.progress import Progress

    with Progress(console) as progress:
        done = hub_write.push(dataset, place, progress, tag, verified=verified, with_latents=with_latents)
    _say(console, f"published {_told(done)}")
    _say(console, f'    load_dataset("{done.repo}", revision="{done.tag}")')
    return _facts(done)


def _told(done: Published) -> str:
    sent = f"{done.num_bytes / 1e6:.1f} MB sent" if done.num_bytes else "it was there already"
    return f"{done.repo}{f'@{done.tag}' if done.tag else ''} ({done.changes}; {sent}), commit {done.sha}"


def _facts(done: Published) -> dict[str, Any]:
    return {"repo": done.repo, "tag": done.tag, "sha": done.sha, "changes": done.changes, "bytes": done.num_bytes}


@app.command()
def plan(
    recipe: RecipeName,
    store: Annotated[Path, typer.Option(help="Finished work, shared by all builds.")] = Path("runs/store"),
    dimensions: Dimensions = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Say what a build would make, what the store has of it, and what the rest may cost. Touches nothing."""
    from gigavideo_data.recipe_loading import load

    resolved = load(recipe, overrides or [], dimensions=_split(dimensions))

    from gigavideo_data import plan as planning
    from gigavideo_data.store import Store

    facts = planning.plan(resolved, Store(store))
    if not as_json:
        planning.show(facts, _console())
    _data(facts, as_json)


@app.command()
def doctor(
    store: Annotated[Path, typer.Option(help="Where finished work would lie.")] = Path("runs/store"),
    as_json: Json = False,
) -> None:
    """Say what this machine can run, and what is missing for the rest."""
    from gigavideo_data import doctor as looking

    findings = looking.examine(store)
    if not as_json:
        looking.show(findings, _console())
    _data(findings, as_json)
    if not looking.healthy(findings):
        raise RunError("something that every build needs is broken; the table says what to do")


@app.command("inspect")
def inspect_(dataset: Folder, as_json: Json = False) -> None:
    """Show what a dataset holds: ledger, rewards, judge check."""
    from gigavideo_data import inspect

    facts = inspect.facts(_existing(dataset))
    if not as_json:
        inspect.show(facts, _console())
    _data(facts, as_json)


@app.command()
def verify(dataset: Folder, as_json: Json = False) -> None:
    """Check a dataset: sums, contract, ledger, and every clip decoded."""
    from gigavideo_data.progress import Progress
    from gigavideo_data.verify import verify_folder

    folder = _existing(dataset)
    with Progress(_console()) as progress:
        verified = verify_folder(folder, progress)
    _say(_console(), f"ok: {dataset} ({', '.join(f'{name} {rows}' for name, rows in verified.rows.items())})")
    _data({"rows": verified.rows}, as_json)


@app.command()
def report(
    dataset: Folder,
    out: Annotated[Path | None, typer.Option(help="The page.  [default: report.html in the folder, or here]")] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--eval", help="A folder of gv-data eval: adds base and tuned side by side.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the page to look at: one HTML file that needs no server."""
    from gigavideo_data.report import write_report

    if not dataset.is_dir():
        out = out or Path("report.html")  # what was fetched is left as it is
    page = write_report(_existing(dataset), out, evaluation)
    _say(_console(), f"look at {page}")
    _data({"report": page}, as_json)


@app.command()
def score(
    dataset: Folder,
    recompute: Annotated[bool, typer.Option("--recompute", help="New rewards from the stored answers.")] = False,
    min_mass: Annotated[float | None, typer.Option(help="Instead of the recipe's judge.min_mass.")] = None,
    combine: Annotated[
        list[str] | None, typer.Option(metavar="DIMENSION=RULE", help="Instead of its own rule.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Ask the judge that this recipe names.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change it there.")] = None,
    store: Annotated[Path, typer.Option(help="Finished work, shared by all builds.")] = Path("runs/store"),
    out: Annotated[Path | None, typer.Option(help="Write the result as a dataset of its own.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Write it over DATASET.")] = False,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Publish the result on the Hub.")] = None,
    tag: Tag = None,
    private: Private = False,
    as_json: Json = False,
) -> None:
    """Reward a dataset's videos anew: by other rules, without asking any judge, or by another judge."""
    if recompute == bool(recipe):
        raise RecipeError(
            "score: say what to do; --recompute makes new rewards from the stored answers, --recipe R asks its judge"
        )
    if out and in_place:
        raise RecipeError("score: --out and --in-place exclude each other; give one")
    if in_place and not dataset.is_dir():
        raise RecipeError(f"score: {dataset} is no folder here; --out writes the result as a dataset of its own")
    written = dataset if in_place else out
    if written is None and (recipe or push):
        raise RecipeError("score: say where the result is to be written: --out DIR or --in-place")
    if recipe and (combine or min_mass is not None):
        raise RecipeError("score: --min-mass and --combine go with --recompute; a recipe has its own judge.min_mass")
    rules = dict(_pair(text, "--combine", "mechanics=mean") for text in combine or [])
    place = None
    if push:
        from gigavideo_data import hub_write

        place = hub_write.preflight(push, private=private, tag=tag, out=written)

    console, folder = _console(), _existing(dataset)
    if recipe and written:
        facts = _rejudge(folder, recipe, overrides or [], written, store, console)
    else:
        from gigavideo_data import rescore

        facts = rescore.recompute(folder, written, min_mass=min_mass, combine=rules)
        if not as_json:
            rescore.show(facts, console)
    _say(console, f"written to {written}" if written else "nothing written; --out DIR or --in-place does")
    if place and written:
        facts |= _push(written, place, tag, console, verified=True)
    _data(facts, as_json)


def _rejudge(
    folder: Path, recipe: str, overrides: list[str], out: Path, store: Path, console: Console
) -> dict[str, Any]:
    from gigavideo_data.folder_read import read_manifest
    from gigavideo_data.progress import Progress
    from gigavideo_data.recipe_loading import load
    from gigavideo_data.rejudge import rejudge

    resolved = load(recipe, overrides, dataset_dimensions=read_manifest(folder)["dimensions"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Progress(console) as progress:
        facts = rejudge(folder, resolved, out, store, progress)
    _say(console, f"{facts['judged']} of {facts['rows']} rows judged, {facts['fell']} fell; look at {out}/report.html")
    return facts


@app.command()
def remake(
    dataset: Folder,
    out: Annotated[Path, typer.Option(help="The folder of the dataset with its videos.")],
    models: Annotated[list[str] | None, typer.Option("--model", metavar="NAME=FOLDER", help="Where it lies.")] = None,
    store: Annotated[Path, typer.Option(help="Finished work, shared by all builds.")] = Path("runs/store"),
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Of scale or limits.")] = None,
    as_json: Json = False,
) -> None:
    """Make the withheld videos of a dataset again. Interrupted, the same command goes on."""
    folders = dict(_pair(text, "--model", "Wan2.1=models/Wan2.1") for text in models or [])
    folder, console = _existing(dataset), _console()

    from gigavideo_data.folder_read import read_manifest
    from gigavideo_data.progress import Progress
    from gigavideo_data.recipe_loading import load
    from gigavideo_data.remake import remake as make_again

    recipe = load(None, overrides or [], dataset_dimensions=read_manifest(folder)["dimensions"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Progress(console) as progress:
        facts = make_again(folder, out, folders, recipe, store, progress)
    _say(console, f"{facts['made']} videos made again, {facts['others']} of them others, {facts['fell']} fell; {out}")
    _data(facts, as_json)


@app.command()
def merge(
    datasets: Annotated[list[Path], typer.Argument(metavar="DATASET...", help="Folders, or names on the Hub.")],
    out: Annotated[Path, typer.Option(help="The joined dataset's folder.")],
    as_json: Json = False,
) -> None:
    """Join datasets of one target model: equal rows once, and nothing that another one holds back."""
    if len(datasets) < 2:
        raise RecipeError("merge: name at least two datasets")

    from gigavideo_data import merge as merging

    told = merging.merge([_existing(dataset) for dataset in datasets], out)
    fell = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in told["fell"].items())
    _say(_console(), f"{told['rows']} rows in {out}; fell: {fell or 'none'}")
    _data(told, as_json)


@app.command("eval")
def eval_(
    tuned: Annotated[str, typer.Option(help="The tuned model's folder, or the base if there is an --adapter.")],
    prompts: Annotated[Path, typer.Option(help="A dataset with held-out prompts, or a Parquet file of them.")],
    base: Annotated[
        str | None,
        typer.Option(help="Compared with: name, Hub id[@commit] or folder.  [default: the dataset's target model]"),
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="A LoRA on top of the tuned model.")] = None,
    split: Annotated[str, typer.Option(help="dev to choose settings by, test for the final word.")] = "test",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Sample or judge otherwise.")
    ] = None,
    judge_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Base URL of a judge behind an endpoint, with its key in GIGAVIDEO_JUDGE_API_KEY."
            "  [default: GIGAVIDEO_JUDGE_ENDPOINT]",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="[default: runs/eval/<tuned>]")] = None,
    store: Annotated[Path, typer.Option(help="Finished work, shared with all builds.")] = Path("runs/store"),
    as_json: Json = False,
) -> None:
    """Compare a tuned model with its base: same prompts, same seeds, every dimension."""
    from gigavideo_data import evaluate, evaluate_models, evaluate_output, evaluate_setting
    from gigavideo_data.progress import Progress

    prompts = prompts if prompts.is_file() else _existing(prompts)
    console = _console()
    setting = evaluate_setting.read_setting(prompts, split, overrides or [], judge_endpoint=judge_endpoint)
    first, second = evaluate_models.candidates(base, tuned, adapter, setting)
    if note := evaluate_models.base_note(first, second):
        _say(console, note)
    out = out or Path("runs/eval") / (adapter.name if adapter else second.name)
    with Progress(console) as progress:
        facts = evaluate.evaluate(first, second, setting, out, store, progress)
    if not as_json:
        evaluate_output.show(facts, console)
    evaluate_output.write_scores(adapter or Path(tuned), facts)
    _say(console, f"written to {out / 'eval.json'}")
    if prompts.is_dir():
        from gigavideo_data.report import write_report

        _say(console, f"look at {write_report(prompts, out / 'report.html', out)}")
    _data(facts, as_json)


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes that come with the project."""
    from gigavideo_data.recipe_loading import description, shipped

    rows = [{"name": name, "about": description(path), "path": str(path)} for name, path in shipped().items()]
    if not as_json:
        _table(("name", "about"), rows)
    _data(rows, as_json)


@app.command()
def dimensions(
    name: Annotated[str | None, typer.Argument(help="One dimension, in full.")] = None, as_json: Json = False
) -> None:
    """List the weaknesses a recipe can name, or show one."""
    from gigavideo_data.dimensions import catalogue

    shown = [catalogue.load_dimension(each).model_dump(mode="json") for each in ([name] if name else catalogue.names())]
    if not as_json and name:
        _table(("field", "text"), [{"field": field, "text": _lines(text)} for field, text in shown[0].items()])
    elif not as_json:
        _table(("name", "group", "combine", "example"), [{**each, "example": each["seeds"][0]} for each in shown])
    _data(shown[0] if name else shown, as_json)


def _console() -> Console:
    """A console for people: stderr, and never a markup reader, since prompts are anybody's text."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _table(columns: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")  # a name cut in two is no name
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    _console().print(table)


def _data(facts: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def _existing(dataset: Path) -> Path:
    """A dataset's folder: as it is named, or fetched from the Hub into the client's cache."""
    if dataset.is_dir():
        return dataset

    from gigavideo_data import hub_read
    from gigavideo_data.progress import Progress

    if folder := hub_read.local_folder(str(dataset)):
        return folder
    console = _console()
    version = hub_read.resolve(str(dataset))
    with Progress(console) as progress:
        folder = hub_read.fetch(version, progress)
    _say(console, f"{version}, commit {version.sha}")
    return folder


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"{option} {text}: must look like {example}")
    return name, value


def _lines(value: Any) -> str:
    return "\n".join(value) if isinstance(value, list) else str(value)

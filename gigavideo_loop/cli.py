"""The command line `gv-loop`: rounds of building a dataset, training on it, and evaluating the result.

    gv-loop --recipe quickstart --rounds 3

Results go to stdout, progress and messages to stderr. Exit codes are those of gv-data; a command that fails in a round
ends the loop with its own exit code.
"""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigavideo_data.command_line import Private, StoreFolder, print_json, run_and_exit, version_option

if TYPE_CHECKING:
    from gigavideo_loop.setting import Setting
    from gigavideo_loop.state import Loop

app = typer.Typer(
    name="gv-loop",
    help="Improve a text-to-video model in rounds.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Recipe = Annotated[
    str, typer.Option(metavar="RECIPE", help="YAML file, or name of a shipped recipe (see `gv-data recipes`).")
]
Rounds = Annotated[int, typer.Option(min=1, help="Number of rounds.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the loop.  [default: runs/loop/<name of the recipe>]")]
Strategies = Annotated[
    Literal["sft", "sft-filtered", "reweight", "reweight-online", "backprop-online", "dpo", "nft"],
    typer.Option(help="Training method of gv-train."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
]
TrainSettings = Annotated[
    list[str] | None, typer.Option("--train-set", metavar="KEY=VALUE", help="Change one setting of gv-train.")
]
Kappa = Annotated[
    float, typer.Option(min=0.0, help="Factor of the squared distance to the first model, for the strategy nft.")
]
SecondJudge = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="Key of a judge of another kind, for evaluations only; repeat it for several keys."
    ),
]
Processes = Annotated[
    int | None, typer.Option(min=1, help="Processes of gv-train.  [default: one per visible GPU; 1 without a GPU]")
]
SamePrompts = Annotated[
    bool, typer.Option("--same-prompts", help="Train on the prompts of the first round in every round.")
]
GuardsOff = Annotated[
    list[str] | None,
    typer.Option(
        "--no-guard",
        metavar="NAME",
        help="Switch one guard off: no-new-best, other-dimensions, realism, motion, spread or second-judge; may be "
        "repeated.",
    ),
]
Push = Annotated[
    str | None,
    typer.Option(metavar="OWNER/NAME", help="Publish the dataset of round K as version vK.0.0 of this dataset."),
]
PushModel = Annotated[
    str | None, typer.Option(metavar="OWNER/NAME", help="Publish the model of the best round at the end.")
]
Json = Annotated[bool, typer.Option("--json", help="Print loop.json, or the error, as one JSON object on stdout.")]


def main() -> None:
    """Run the command line and exit with its exit code."""
    run_and_exit(partial(app, standalone_mode=False))


@app.command(epilog="Example: gv-loop --recipe quickstart --rounds 3")
def loop(
    recipe: Recipe,
    rounds: Rounds,
    out: Out = None,
    store: StoreFolder = Path("runs/store"),
    strategy: Strategies = "nft",
    overrides: Overrides = None,
    train_settings: TrainSettings = None,
    kappa: Kappa = 0.1,
    second_judge: SecondJudge = None,
    processes: Processes = None,
    same_prompts: SamePrompts = False,
    guards_off: GuardsOff = None,
    push: Push = None,
    push_model: PushModel = None,
    private: Private = False,
    as_json: Json = False,
    _version: Annotated[bool, version_option("gv-loop")] = False,
) -> None:
    """Improve a model in rounds: build a dataset with it, train on the dataset, evaluate the result, and repeat.

    The same command resumes an interrupted loop.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a pre-empted machine stops as cleanly as Ctrl-C
    from gigavideo_loop import setting as settings

    for option, name in (("--push", push), ("--push-model", push_model)):
        settings.check_repository(option, name)
    resolved = settings.load_recipe(recipe, overrides or [])
    setting = settings.Setting(
        recipe_name=recipe,
        overrides=tuple(overrides or ()),
        recipe=resolved,
        out=out or Path("runs/loop") / resolved.name,
        store=store,
        rounds=rounds,
        strategy=strategy,
        train_settings=tuple(train_settings or ()),
        kappa=kappa,
        second_judge=tuple(second_judge or ()),
        processes=processes,
        same_prompts=same_prompts,
        guards_off=settings.guard_names(guards_off or ()),
        dataset_repo=push,
        model_repo=push_model,
        private=private,
    )
    result = _run(setting, quiet=as_json)
    if as_json:
        print_json(result)


def _run(setting: Setting, *, quiet: bool) -> Loop:
    """Run a loop; tables go to stdout unless `quiet`."""
    from gigavideo_data.io import terminal
    from gigavideo_loop import table
    from gigavideo_loop.commands import commands_in
    from gigavideo_loop.outcome import is_over
    from gigavideo_loop.rounds import run_loop
    from gigavideo_loop.state import locked

    console = terminal.console(quiet=quiet)

    def show(loop: Loop) -> None:
        if not is_over(loop):  # the end shows it anyway
            console.print(table.table(loop))

    try:
        with locked(setting.out), commands_in(setting.out, _message) as run:
            result = run_loop(setting, run, _message, show)
    except KeyboardInterrupt:
        _message("interrupted; finished work is kept, and the same command resumes the loop")
        raise
    console.print(table.table(result))
    for line in table.conclusion(result):
        console.print(line, soft_wrap=True)
    _message(f"written to {setting.out / 'loop.json'}; the page is {setting.out / 'report.html'}")
    return result


def _message(text: str) -> None:
    typer.echo(text, err=True)

"""The command line `gv-train`: a published set in, a better model out.

    gv-train --dataset runs/quickstart
    gv-train --dataset org/ds@v1.0.0
    torchrun --nnodes 2 --nproc-per-node 8 -m gigavideo_train --dataset runs/quickstart

It starts one process per visible GPU of this machine; torchrun is for several machines.
stdout carries data only (--json); everything said to people goes to stderr. Exit codes are those of gv-data.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gigavideo_data.errors import RunError, run_and_exit

app = typer.Typer(
    name="gv-train",
    help="Fine-tune a text-to-video model on a reward-annotated dataset.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line, and end with the exit code of what went wrong, if anything."""
    run_and_exit(partial(app, standalone_mode=False))


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="A folder, or owner/name[@version] on the Hub.")],
    model: Annotated[
        str | None,
        typer.Option(help="Name, folder, or owner/name[@commit] on the Hub.  [default: the dataset's target]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.  [default: runs/train/<dataset>]")] = None,
    strategy: Annotated[str | None, typer.Option(help="One of docs/training.md.  [default: reweight]")] = None,
    dimensions: Annotated[str | None, typer.Option(help="Names with commas.  [default: the dataset's targets]")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings (gigavideo_train/config.py).")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one.")] = None,
    report_to: Annotated[str | None, typer.Option(help="tensorboard: metrics there too, in the run's folder.")] = None,
    cache: Annotated[Path, typer.Option(help="Latents and text embeddings, shared by runs.")] = Path("runs/latents"),
    preset: Annotated[int | None, typer.Option(help="GB of GPU memory: 24, 48, 80, 141.  [default: as found]")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="[default: one per visible GPU; 1 without]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    resume_changed: Annotated[
        bool, typer.Option("--resume-changed", help="The same, even if dataset or settings changed since.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON on stdout.")] = False,
) -> None:
    """Fine-tune a model on a dataset. Interrupted, the same command with --resume goes on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a pre-empted machine stops as cleanly as Ctrl-C
    from gigavideo_data.hub import download

    folder = download.local_folder(dataset)  # before torch is imported
    from rich.console import Console

    from gigavideo_data.io.progress import Progress
    from gigavideo_data.models.generators.profiles import base_of
    from gigavideo_train import plan
    from gigavideo_train.data.dataset import read, read_version
    from gigavideo_train.distributed import launch
    from gigavideo_train.distributed.world import world

    size = launch.num_processes(processes)
    if size > 1 and not dry_run:
        raise typer.Exit(launch.together(size, [sys.executable, "-m", "gigavideo_train", *sys.argv[1:]]))
    settings = [f"strategy={strategy}"] if strategy else []
    settings += [f"dimensions=[{dimensions}]"] if dimensions else []
    settings += [f"report_to={report_to}"] if report_to else []
    out = out or Path("runs/train") / Path(dataset.partition("@")[0]).name
    first = int(os.environ.get("RANK", "0")) == 0
    console = Console(stderr=True, markup=False, highlight=False, emoji=False, quiet=not first)
    with world() as joined, Progress(console) as progress:
        found_bytes = joined.agreed(joined.memory_bytes)
        overrides = [*settings, *(overrides or [])]
        found = read(folder) if folder else read_version(joined.agreed(lambda: download.resolve(dataset)))
        base = joined.agreed(lambda: base_of(model, found.manifest))
        planned = plan.make(found, base, config, overrides, preset, found_bytes)
        facts = plan.facts(planned)
        plan.show(facts, console)
        if not dry_run:
            resume = resume or resume_changed
            if not resume and (out / "checkpoints").is_dir():
                raise RunError(f"{out}: holds a run already. --resume goes on with it; another --out leaves it alone.")

            from gigavideo_train.train import train as run

            tuned = run(planned, out, cache, joined, progress, resume=resume, resume_changed=resume_changed)
            console.print(f"tuned model in {tuned}", soft_wrap=True)
            facts |= {"model": str(tuned)}
    if as_json and first:
        print(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str))

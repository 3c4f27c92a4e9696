"""The command line `gv-train`: a published dataset in, a better model out.

    gv-train --dataset runs/quickstart
    gv-train --dataset org/ds@v1.0.0
    torchrun --nnodes 2 --nproc-per-node 8 -m gigavideo_train --dataset runs/quickstart

It starts one process per visible GPU of this machine; torchrun is for several machines. Results go to stdout, progress
and warnings to stderr. Exit codes are those of gv-data.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gigavideo_data.command_line import print_json, run_and_exit, version_option

STRATEGIES = "sft, sft-filtered, reweight, reweight-online, backprop-online, dpo or nft"

app = typer.Typer(
    name="gv-train",
    help="Fine-tune a text-to-video model on a reward-annotated dataset.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


Dataset = Annotated[str, typer.Option(help="Train on this dataset: a folder, or owner/name[@version] on the Hub.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Start from this model: a name, a folder, or owner/name[@commit] on the Hub.  "
        "[default: the dataset's target]"
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(help="Start from this LoRA of the model, the folder of an earlier run's adapter; needs tune=lora."),
]
Out = Annotated[Path | None, typer.Option(help="Write the run to this folder.  [default: runs/train/<dataset>]")]
Strategy = Annotated[str | None, typer.Option(help=f"Use this training method: {STRATEGIES}.  [default: reweight]")]
Dimensions = Annotated[
    str | None,
    typer.Option(help="Train only these dimensions, separated by commas.  [default: all with rows]"),
]
SkipUnchecked = Annotated[
    bool, typer.Option("--skip-unchecked", help="Leave out dimensions whose judge sanity check failed.")
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="Read settings from this YAML file; gigavideo_train/config.py lists them.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
ReportTo = Annotated[str | None, typer.Option(help="Send metrics to a tracker too: tensorboard, wandb or trackio.")]
CacheFolder = Annotated[
    Path, typer.Option(help="Keep latents and text embeddings in this folder, which runs can share.")
]
Preset = Annotated[
    int | None,
    typer.Option(help="Use the settings for this GPU memory in GB: 24, 48, 80 or 141.  [default: that of the GPU]"),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        help="With --dry-run: estimate for this GPU, such as h100 or 80 (GB), and refuse a run that does not fit.  "
        "[default: the GPU of this machine]"
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Start this number of processes.  [default: one per visible GPU; 1 without a GPU]"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint of the run.")]
ResumeChanged = Annotated[
    bool, typer.Option("--resume-changed", help="Continue even if dataset or settings have changed.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan of the run and stop.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the plan and the result, or the error, as one JSON object on stdout.")
]


def main() -> None:
    """Run the command line and exit with its exit code."""
    run_and_exit(partial(app, standalone_mode=False))


@app.command(epilog="Example: gv-train --dataset runs/quickstart --set epochs=2 --set lr=1e-5")
def train(
    dataset: Dataset,
    model: Model = None,
    adapter: Adapter = None,
    out: Out = None,
    strategy: Strategy = None,
    dimensions: Dimensions = None,
    skip_unchecked: SkipUnchecked = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
    report_to: ReportTo = None,
    cache: CacheFolder = Path("runs/latents"),
    preset: Preset = None,
    gpu: Gpu = None,
    processes: Processes = None,
    resume: Resume = False,
    resume_changed: ResumeChanged = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    _version: Annotated[bool, version_option("gv-train")] = False,
) -> None:
    """Fine-tune a text-to-video model on a dataset. After an interruption, the same command with --resume continues."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a pre-empted machine stops as cleanly as Ctrl-C
    from gigavideo_data.hub import download

    download.local_folder(dataset)  # a wrong name is reported before torch is imported
    from gigavideo_data.errors import RecipeError
    from gigavideo_data.io import terminal
    from gigavideo_data.io.progress import Progress
    from gigavideo_train import api, presets
    from gigavideo_train.distributed import launch
    from gigavideo_train.distributed.world import world

    if gpu and not dry_run:
        raise RecipeError("--gpu names a GPU for --dry-run; a run uses those of its machine")
    gpu_bytes = presets.gpu_bytes(gpu) if gpu else None
    size = (processes or 1) if gpu else launch.num_processes(processes)
    if size > 1 and not dry_run:
        raise typer.Exit(launch.run_processes(size, [sys.executable, "-m", "gigavideo_train", *sys.argv[1:]]))
    settings = [f"strategy={strategy}"] if strategy else []
    settings += [f"dimensions=[{dimensions}]"] if dimensions else []
    settings += ["skip_unchecked=true"] if skip_unchecked else []
    settings += [f"report_to={report_to}"] if report_to else []
    is_first = int(os.environ.get("RANK", "0")) == 0
    progress_console, results = (terminal.console(stderr=stderr, quiet=not is_first) for stderr in (True, as_json))
    with world() as joined, Progress(progress_console) as progress:
        overrides = [*settings, *(overrides or [])]
        number = max(size, joined.size)
        planned = api.make_plan(dataset, joined, model, config, overrides, preset, adapter, gpu_bytes, number)
        console = results if dry_run else progress_console
        facts = api.show_plan(planned, joined, console, progress, gpu_bytes, dry_run=dry_run)
        if not dry_run:
            tuned = api.run_plan(
                planned,
                out or api.default_out(dataset),
                cache,
                joined,
                progress,
                resume=resume,
                resume_changed=resume_changed,
            )
            results.print(f"tuned model in {tuned}", soft_wrap=True)
            facts |= {"model": str(tuned)}
    if as_json and is_first:
        print_json(facts)

"""Opening a run that writes a dataset: its folder checked, its models pinned, its store, Ray and log ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gigavideo_data.dataset.writer import check_out
from gigavideo_data.hub.pin import pinned
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.registry import key_warning
from gigavideo_data.pipeline.execution.runner import StoreRunner, store_runner
from gigavideo_data.pipeline.steps import Context
from gigavideo_data.recipe.recipe import Judge, Recipe, Writer


@dataclass(frozen=True)
class RunContext(Context):
    """The context of a run that processes rows, with its store and what it cost."""

    runner: StoreRunner


@contextmanager
def open_run(
    recipe: Recipe, out: Path, store_root: Path, progress: Progress, *, retry_rejected: bool = False
) -> Iterator[RunContext]:
    """Open a run; its models of the Hub are those commits that are current now.

    Args:
        recipe: what to make.
        out: folder of the dataset; one run at a time.
        store_root: folder of the store; any number of runs at a time.
        progress: where to show it.
        retry_rejected: process rows again that earlier runs rejected.

    Raises:
        RunError: another run uses `out`, or the store cannot be written.
        DatasetError: `out` cannot take a dataset.
        HubError: the commit of a model cannot be determined.
    """
    check_out(out)
    recipe = pinned(recipe)
    hosts = endpoint_hosts(recipe.writer, recipe.judge)
    with store_runner(
        out, store_root, progress, recipe.limits, recipe.scale, hosts=hosts, retry_rejected=retry_rejected
    ) as runner:
        if warning := key_warning(recipe):
            progress.note(warning)
        yield RunContext(recipe, runner)


def endpoint_hosts(*parts: Writer | Judge) -> list[str]:
    """The hosts of the endpoints that these parts of a recipe name."""
    hosts = [urlsplit(part.endpoint).hostname for part in parts if part.endpoint]
    return [host for host in hosts if host]

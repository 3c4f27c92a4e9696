"""Models on the Hub: resolve a name to a commit and download files. Failures raise `HubError`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gigavideo_data import heartbeat
from gigavideo_data.errors import HubError, RecipeError
from gigavideo_data.hub.retry import is_transient, refusal
from gigavideo_data.io.hashing import is_damaged

ASK_S = 5.0
HUB_ID = re.compile(r"(?!runs/)[\w.-]+/[\w.-]+")  # runs/ is where our commands write: a missing folder, not a Hub id
# The files of a model that are downloaded. Pickled weights and code are never downloaded.
CURVES = "curves.svg"  # in the folder of a tuned model: training curves, shown by its card
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def commit_of(model: str, revision: str | None, file: str) -> str:
    """Resolve a model's name and revision to a commit; without a network, to the commit of the cached copy.

    Args:
        model: Hub id.
        revision: branch, tag or commit; None is the main branch.
        file: any small file of the model, which is downloaded to find the commit.

    Raises:
        HubError: the model or file does not exist, may not be read, or the Hub cannot be reached.
        RecipeError: `model` is not a Hub id.
    """
    return file_of(model, revision, file).parents[file.count("/")].name


def file_of(model: str, revision: str | None, file: str) -> Path:
    """Download one file of a model, unless it is in the cache.

    Raises:
        HubError: as `commit_of`.
    """
    from huggingface_hub import hf_hub_download

    _check_id(model)
    where = {"revision": revision, "local_files_only": not _hub_answers(model, revision, file)}
    path = Path(_download(f"{model}: {file}", hf_hub_download, model, file, **where))
    return intact(path, partial(_download_again, model, path.parents[file.count("/")].name, file))


def folder_of(model: str, revision: str | None, parts: Iterable[str]) -> Path:
    """Download a pipeline: `MODEL_FILES` in the folders of its parts, and every JSON file.

    Weights beside those folders belong to other programs; with LTX-Video they are many times larger than the pipeline.

    Raises:
        HubError: as `commit_of`.
    """
    return _snapshot(model, revision, ["*.json", *(f"{part}/{file}" for part in parts for file in MODEL_FILES)])


def network_of(model: str, revision: str | None) -> Path:
    """Download one network: its JSON files and safetensors.

    Raises:
        HubError: as `commit_of`.
    """
    return _snapshot(model, revision, ["*.json", "*.safetensors"])


def _snapshot(model: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    _check_id(model)
    options = {"allow_patterns": patterns, "tqdm_class": _heartbeat_bar()}
    folder = Path(_download(model, snapshot_download, model, revision=revision, **options))
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        intact(path, partial(_download_again, model, folder.name, path.relative_to(folder).as_posix()))
    return folder


def _heartbeat_bar() -> type:
    """The Hub's progress bar, which also sends a heartbeat for each fetched part and file."""
    from huggingface_hub.utils.tqdm import tqdm

    class HeartbeatBar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            heartbeat.beat()
            return super().update(n)

    return HeartbeatBar


def _download_again(model: str, commit: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    what = f"{model}: {file}"
    return Path(_download(what, hf_hub_download, model, file, revision=commit, force_download=True))


def intact(path: Path, fetch_again: Callable[[], Path]) -> Path:
    """Return a file of the Hub cache; download it again if its content changed since the download.

    Raises:
        HubError: it cannot be downloaded again, or is still damaged.
    """
    if not is_damaged(path):
        return path
    try:
        path = fetch_again()
    except HubError as error:
        raise HubError(f"{path} in the cache is damaged; remove {path.resolve()}. {error}") from error
    if is_damaged(path):
        raise HubError(f"{path}: damaged in the cache, and when it was fetched again. Do not use this version.")
    return path


def _download(what: str, call: Callable[..., str], *args: Any, **kwargs: Any) -> str:
    try:
        return call(*args, **kwargs)
    except Exception as error:  # the network edge
        raise HubError(
            f"{what} cannot be fetched from the Hub ({refusal(error)}). Check name, network and HF_TOKEN, or give a "
            "folder"
        ) from error


def _check_id(model: str) -> None:
    if not HUB_ID.fullmatch(model):
        raise RecipeError(
            f"{model}: no such folder, and not a Hub id (owner/name). In a recipe, a folder starts with /, ./, ../ or ~"
        )


@dataclass
class _Reachability:
    """Whether the Hub has failed to answer once."""

    failed: bool = False


_REACHABILITY: ContextVar[_Reachability | None] = ContextVar("reachability", default=None)


@contextmanager
def asked_once() -> Iterator[None]:
    """Within this block, stop asking the Hub after the first request without an answer, and use only the cache."""
    token = _REACHABILITY.set(_Reachability())
    try:
        yield
    finally:
        _REACHABILITY.reset(token)


def _hub_answers(model: str, revision: str | None, file: str) -> bool:
    """Whether to ask the Hub for a file. Outside of `asked_once` always: huggingface_hub retries by itself."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    hub = _REACHABILITY.get()
    if hub is None:
        return True
    if not hub.failed:
        try:
            get_hf_file_metadata(hf_hub_url(model, file, revision=revision), timeout=ASK_S)
        except Exception as error:  # noqa: BLE001 - the network edge; the download that follows reports a refusal
            hub.failed = is_transient(error)
    return not hub.failed

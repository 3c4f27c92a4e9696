"""Reading models from the Hub: which commit a name means now, and its files. What goes wrong there is a `HubError`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gigavideo_data.errors import HubError, RecipeError
from gigavideo_data.hashing import is_damaged
from gigavideo_data.hub_edge import may_pass, refusal

ASK_S = 5.0
HUB_ID = re.compile(r"(?!runs/)[\w.-]+/[\w.-]+")  # our commands write under runs/: a folder there may be missing
# What a model is made of. Pickled weights are left on the Hub, and code is never fetched.
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def commit_of(model: str, revision: str | None, file: str) -> str:
    """The commit that a model's name and revision mean now; without a network, that of the copy on this machine.

    Args:
        model: Hub id.
        revision: branch, tag or commit; None is the main branch.
        file: any small file of the model, fetched on the way.

    Raises:
        HubError: there is no such model or file, it may not be read, or nobody can be asked.
        RecipeError: this is no name on the Hub.
    """
    return file_of(model, revision, file).parents[file.count("/")].name


def file_of(model: str, revision: str | None, file: str) -> Path:
    """One file of a model, from the cache if it is there.

    Raises:
        HubError: as `commit_of`.
    """
    from huggingface_hub import hf_hub_download

    _check_id(model)
    here_alone = not _answers(model, revision, file)
    where = {"revision": revision, "local_files_only": here_alone}
    path = Path(_asked(f"{model}: {file}", hf_hub_download, model, file, **where))
    return intact(path, partial(_again, model, path.parents[file.count("/")].name, file))


def folder_of(model: str, revision: str | None, parts: Iterable[str]) -> Path:
    """A pipeline's own files: all that `MODEL_FILES` names in the folders of its parts, and what is JSON.

    Weights beside those folders are of other programs: with LTX-Video they are many times the pipeline.

    Raises:
        HubError: as `commit_of`.
    """
    from huggingface_hub import snapshot_download

    _check_id(model)
    patterns = ["*.json", *(f"{part}/{file}" for part in parts for file in MODEL_FILES)]
    folder = Path(_asked(model, snapshot_download, model, revision=revision, allow_patterns=patterns))
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        intact(path, partial(_again, model, folder.name, path.relative_to(folder).as_posix()))
    return folder


def _again(model: str, commit: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    what = f"{model}: {file}"
    return Path(_asked(what, hf_hub_download, model, file, revision=commit, force_download=True))


def intact(path: Path, fetch_again: Callable[[], Path]) -> Path:
    """A file of the client's cache, fetched again if it is no longer what was downloaded.

    Raises:
        HubError: it cannot be fetched again, or is damaged then too.
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


def _asked(what: str, call: Callable[..., str], *args: Any, **kwargs: Any) -> str:
    try:
        return call(*args, **kwargs)
    except Exception as error:  # the network edge
        said = f"{what} cannot be fetched from the Hub ({refusal(error)})"
        raise HubError(f"{said}. Check name, network and HF_TOKEN, or give a folder") from error


def _check_id(model: str) -> None:
    if not HUB_ID.fullmatch(model):
        raise RecipeError(
            f"{model}: no such folder, and not a name on the Hub, which is owner/name; in a recipe, a folder is "
            "written with a leading /, ./, ../ or ~"
        )


@dataclass
class _Once:
    """Whether anybody answered so far."""

    silent: bool = False


_ONCE: ContextVar[_Once | None] = ContextVar("once", default=None)


@contextmanager
def asked_once() -> Iterator[None]:
    """Within this block the Hub is asked once, for seconds; if nobody answers, only the cache is looked at."""
    token = _ONCE.set(_Once())
    try:
        yield
    finally:
        _ONCE.reset(token)


def _answers(model: str, revision: str | None, file: str) -> bool:
    """Whether the Hub can be asked for a file; outside of `asked_once` the client finds out, and tries again."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    once = _ONCE.get()
    if once is None:
        return True
    if not once.silent:
        try:
            get_hf_file_metadata(hf_hub_url(model, file, revision=revision), timeout=ASK_S)
        except Exception as error:  # noqa: BLE001 - the network edge; a refusal is told by the call that follows
            once.silent = may_pass(error)
    return not once.silent

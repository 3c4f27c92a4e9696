"""Reading models from the Hub: which commit a name means now, and its files. What goes wrong there is a `HubError`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gigavideo_data.errors import HubError

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
    """
    return file_of(model, revision, file).parents[file.count("/")].name


def file_of(model: str, revision: str | None, file: str) -> Path:
    """One file of a model, from the cache if it is there.

    Raises:
        HubError: as `commit_of`.
    """
    from huggingface_hub import hf_hub_download

    return Path(_asked(f"{model}: {file}", hf_hub_download, model, file, revision=revision))


def folder_of(model: str, revision: str | None, parts: Iterable[str]) -> Path:
    """A pipeline's own files: all that `MODEL_FILES` names in the folders of its parts, and what is JSON.

    Weights beside those folders are of other programs: with LTX-Video they are many times the pipeline.

    Raises:
        HubError: as `commit_of`.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", *(f"{part}/{file}" for part in parts for file in MODEL_FILES)]
    return Path(_asked(model, snapshot_download, model, revision=revision, allow_patterns=patterns))


def _asked(what: str, call: Callable[..., str], *args: Any, **kwargs: Any) -> str:
    try:
        return call(*args, **kwargs)
    except Exception as error:  # the network edge
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise HubError(
            f"{what} cannot be fetched from the Hub ({said}). Check name, network and HF_TOKEN, or give a folder"
        ) from error

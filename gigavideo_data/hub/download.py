"""Datasets of the Hub: resolve a name to a version, download its files and check them before they are opened.

A tag is resolved to its commit once, and everything is read at that commit. Only files that the manifest lists are
downloaded, and a file that differs from its entry is refused. A version in the cache is read without a network.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.dataset.manifest import File
from gigavideo_data.dataset.reader import BESIDE, MAX_GROUP_BYTES, read_manifest
from gigavideo_data.dataset.schema import completed
from gigavideo_data.errors import DatasetError, HubError
from gigavideo_data.hub import versions
from gigavideo_data.hub.models import intact
from gigavideo_data.hub.retry import ASK_S, READ_S, is_unreachable, with_retries
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.hashing import sha256_of
from gigavideo_data.io.progress import Progress

NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w.-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_TEXT_BYTES = 64 << 20  # of manifest.json, the card and cost.json
MAX_FILE_BYTES = 4 << 30  # our shards are smaller; a larger file is refused before it is downloaded


@dataclass(frozen=True)
class Version:
    """One version of a dataset on the Hub: the tag, and the commit to which it was resolved."""

    repo: str
    tag: str
    sha: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.tag}"


def local_folder(text: str) -> Path | None:
    """The folder that a command-line argument names; None if it names a dataset on the Hub (org/ds or org/ds@v1.0.0).

    A name without a version counts as a folder if `org` is an existing folder, or `runs`, where our commands write.

    Raises:
        DatasetError: the folder does not exist.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    name = NAME.fullmatch(text)
    if name and (name[2] or not (folder.parent.is_dir() or folder.parent.name == "runs")):
        return None
    others = sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
    near = "".join(f"; did you mean {folder.parent / other}?" for other in get_close_matches(folder.name, others, n=1))
    on_hub = f". A dataset on the Hub is named with its version here: {text}@v1.0.0" if name else ""
    raise DatasetError(
        f"{text}: no such folder{near or '; `gv-data build` writes a dataset, by default under runs/'}{on_hub}"
    )


def resolve(text: str) -> Version:
    """Resolve a name to a version; without a version, to the newest tag whose format this code reads.

    A commit hash is taken as it is. Offline (HF_HUB_OFFLINE=1) the known tags are those resolved on this machine
    before; they are also used for a named tag while the Hub does not answer.

    Raises:
        HubError: there is no such dataset or version, or the Hub cannot be reached.
        DatasetError: no version has a format that this code reads.
    """
    match = NAME.fullmatch(text)
    if match is None:
        raise HubError(f"{text}: not a Hub id; it must be owner/name or owner/name@v1.0.0")
    repo, requested = match.groups()
    if requested and COMMIT.fullmatch(requested):
        return Version(repo, requested[:12], requested)
    tags = _tags(repo, requested)
    if requested:
        if requested not in tags:
            raise HubError(f"{repo}: no version {requested}; there is {', '.join(sorted(tags)) or 'none yet'}")
        return Version(repo, requested, tags[requested])
    refused: DatasetError | None = None
    while (last := versions.newest(tags)) is not None:
        found = Version(repo, last, tags.pop(last))
        try:
            _manifest(found)
        except DatasetError as error:
            refused = refused or error
            continue
        return found
    raise refused or HubError(f"{repo}: has no version yet; `gv-data push` creates one")


def fetch(version: Version, progress: Progress) -> Path:
    """Download the files of a version that the cache lacks, and compare every file with the manifest.

    Returns:
        A dataset folder in the Hub cache; it must not be written to.

    Raises:
        DatasetError: the dataset has another format, or its manifest lists a file that is not allowed.
        HubError: a file is missing, or differs from its entry in the manifest.
    """
    folder, files = list_files(version)
    fetch_files(version, list(files), progress)
    for name in BESIDE:
        _small_file(version, name)
    return folder


def list_files(version: Version) -> tuple[Path, dict[str, File]]:
    """The folder of a version's manifest, and the files that it lists; their sizes are compared with the Hub's.

    Raises:
        DatasetError: the dataset has another format, or its manifest lists a file that is not allowed.
        HubError: a file is missing on the Hub, or has another size.
    """
    folder = _manifest(version)
    files = read_manifest(folder)["files"]
    _check_sizes(version, files)
    return folder, files


def fetch_files(version: Version, names: list[str], progress: Progress) -> None:
    """Download some of the listed files into the manifest's folder, and compare their hashes.

    Raises:
        HubError: a file differs from its entry in the manifest.
    """
    files = read_manifest(_manifest(version))["files"]
    progress.start("download", total=sum(files[name]["bytes"] for name in names), in_bytes=True)
    for name in names:
        attempts: tuple[dict[str, bool], ...] = ({}, {"force_download": True})  # again if damaged in the cache
        if all(sha256_of(_file(version, name, **more)) != files[name]["sha256"] for more in attempts):
            raise HubError(f"{version}: {name} is not the file that its manifest lists; do not use this version")
        progress.advance(files[name]["bytes"])
    progress.finish()


def read_columns(version: Version, name: str, columns: list[str]) -> pa.Table:
    """Read some columns of a shard by ranged requests, without the clips between them; or from the cache.

    Raises:
        DatasetError: a row group is too large, or the file is damaged.
        HubError: the Hub does not deliver the file.
    """
    from huggingface_hub import HfFileSystem

    path = _cached(version, name)
    if path and sha256_of(path) == read_manifest(_manifest(version))["files"][name]["sha256"]:
        return _columns(version, name, path, columns)

    def read() -> pa.Table:
        with HfFileSystem().open(f"datasets/{version.repo}@{version.sha}/{name}", cache_type="none") as remote:
            return _columns(version, name, remote, columns)

    return with_retries(f"{version}: {name}", read, deadline_s=READ_S)


def _columns(version: Version, name: str, source: Path | IO[bytes], columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True) as file:
            groups = [file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)]
            if max(groups, default=0) > MAX_GROUP_BYTES:
                raise DatasetError(f"{version}: {name} has a row group of more than {MAX_GROUP_BYTES >> 20} MiB.")
            return completed(file.read(columns=columns), columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
            raise DatasetError(f"{version}: {name} is damaged ({error}). Do not use this version.") from error
        raise


def _tags(repo: str, requested: str | None) -> dict[str, str]:
    """Tags of a dataset and their commits: from the Hub, else as resolved on this machine before."""
    from huggingface_hub import HfApi, is_offline_mode

    what = f"{repo}: no such folder here, and as a name on the Hub"
    try:
        refs = with_retries(what, HfApi().list_repo_refs, repo, repo_type="dataset", deadline_s=ASK_S)
    except HubError as error:
        known = _known_tags(repo)
        if (requested in known and is_unreachable(error)) or (requested is None and known and is_offline_mode()):
            return known
        raise
    return {one.name: str(one.target_commit) for one in refs.tags}


def _known_tags(repo: str) -> dict[str, str]:
    folder = _tags_folder(repo)
    found = {path.name: path.read_text("utf-8") for path in folder.iterdir()} if folder.is_dir() else {}
    return {tag: sha for tag, sha in found.items() if COMMIT.fullmatch(sha)}


def _remember(version: Version) -> None:
    """Write the tag's commit into the folder `refs` of the Hub cache."""
    path = _tags_folder(version.repo) / version.tag
    if version.sha.startswith(version.tag) or (path.is_file() and path.read_text("utf-8") == version.sha):
        return
    with suppress(OSError):  # a read-only cache
        write_durably(path, version.sha.encode())


def _tags_folder(repo: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset") / "refs" / "tags"


def _manifest(version: Version) -> Path:
    """The folder of a version's validated manifest."""
    folder = _small_file(version, "manifest.json").parent
    read_manifest(folder)
    _remember(version)
    return folder


def _small_file(version: Version, name: str) -> Path:
    """Download manifest.json, the card or cost.json; the content must have the hash that the Hub gives."""
    if _cached(version, name) is None:
        for size in _sizes(version, [name]).values():
            if size > MAX_TEXT_BYTES:
                raise DatasetError(f"{version}: {name} has {size} bytes, more than {MAX_TEXT_BYTES >> 20} MiB.")
    return intact(_file(version, name), lambda: _file(version, name, force_download=True))


def _check_sizes(version: Version, listed: dict[str, File]) -> None:
    """Compare the manifest's sizes with the Hub's before the download."""
    for name, file in listed.items():
        if file["bytes"] > MAX_FILE_BYTES:
            raise DatasetError(f"{version}: {name} has {file['bytes']} bytes, more than {MAX_FILE_BYTES >> 30} GiB.")
    cached = {name: path.stat().st_size for name in listed if (path := _cached(version, name))}
    missing = [name for name, file in listed.items() if cached.get(name) != file["bytes"]]
    remote = _sizes(version, missing) if missing else {}
    for name in missing:
        if remote.get(name) != listed[name]["bytes"]:
            raise HubError(
                f"{version}: {name} has {remote.get(name, 'no')} bytes on the Hub, {listed[name]['bytes']} are listed"
            )


def _sizes(version: Version, names: list[str]) -> dict[str, int]:
    """Sizes in bytes of the files that exist on the Hub."""
    from huggingface_hub import HfApi

    where: dict[str, Any] = {"repo_type": "dataset", "revision": version.sha}
    infos = with_retries(f"{version}: sizes", HfApi().get_paths_info, version.repo, names, deadline_s=READ_S, **where)
    return {info.path: info.size for info in infos if hasattr(info, "size")}


def _cached(version: Version, name: str) -> Path | None:
    """The cached copy of a file, if there is one."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(version.repo, name, revision=version.sha, repo_type="dataset")
    return Path(path) if isinstance(path, str) else None


def _file(version: Version, name: str, **more: Any) -> Path:
    from huggingface_hub import hf_hub_download

    where: dict[str, Any] = {"repo_type": "dataset", "revision": version.sha, "deadline_s": READ_S, **more}
    return Path(with_retries(f"{version}: {name}", hf_hub_download, version.repo, name, **where))

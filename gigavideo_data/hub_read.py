"""Datasets of the Hub: which version a name means, and its files, checked before anybody opens them.

A tag is resolved to its commit once, and everything is read at that commit. What the manifest does not list is not
fetched, and what is not as it lists it is refused. What the client's cache holds is not asked for again, so that a
version that was fetched before is read without a network.
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

from gigavideo_data import versions
from gigavideo_data.atomic import write_durably
from gigavideo_data.errors import DatasetError, HubError
from gigavideo_data.folder_read import BESIDE, MAX_GROUP_BYTES, read_manifest
from gigavideo_data.hashing import sha256_of
from gigavideo_data.hub_edge import ASK_S, READ_S, patiently, silent
from gigavideo_data.hub_models import intact
from gigavideo_data.progress import Progress
from gigavideo_data.schema import completed

NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w.-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_TEXT_BYTES = 64 << 20  # of the files beside the shards
MAX_FILE_BYTES = 4 << 30  # no set of ours has shards as large; larger ones are refused before they are fetched


@dataclass(frozen=True)
class Version:
    """One version of a set on the Hub: the tag that was asked for or found, and the commit that it named then."""

    repo: str
    tag: str
    sha: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.tag}"


def local_folder(text: str) -> Path | None:
    """The folder that a command line names; None: it is a name on the Hub, "org/ds" or "org/ds@v1.0.0".

    A name without a version is taken for a folder's where `org` is a folder here, or `runs`, where our commands write.

    Raises:
        DatasetError: it names a folder, and there is none.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    name = NAME.fullmatch(text)
    if name and (name[2] or not (folder.parent.is_dir() or folder.parent.name == "runs")):
        return None
    others = sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
    near = "".join(f"; did you mean {folder.parent / other}?" for other in get_close_matches(folder.name, others, n=1))
    on_hub = f". One on the Hub is named with its version, as in {text}@v1.0.0" if name else ""
    raise DatasetError(
        f"{text}: no such folder{near or '; `gv-data build` makes a dataset, by default under runs/'}{on_hub}"
    )


def resolve(text: str) -> Version:
    """Find the commit of a name; without a version, that of the newest tag whose format is read here.

    A commit is taken as it is. Offline (HF_HUB_OFFLINE=1) the tags are those that were read on this machine before;
    where the Hub does not answer, a tag that is named is looked for among them too.

    Raises:
        HubError: there is no such dataset or version, or the Hub cannot be asked.
        DatasetError: no version is of a format that is read here.
    """
    match = NAME.fullmatch(text)
    if match is None:
        raise HubError(f"{text}: not a name on the Hub; it must be owner/name or owner/name@v1.0.0")
    repo, wanted = match.groups()
    if wanted and COMMIT.fullmatch(wanted):
        return Version(repo, wanted[:12], wanted)
    tags = _tags(repo, wanted)
    if wanted:
        if wanted not in tags:
            raise HubError(f"{repo}: no version {wanted}; there is {', '.join(sorted(tags)) or 'none yet'}")
        return Version(repo, wanted, tags[wanted])
    refused: DatasetError | None = None
    while (last := versions.newest(tags)) is not None:
        found = Version(repo, last, tags.pop(last))
        try:
            _manifest(found)
        except DatasetError as error:
            refused = refused or error
            continue
        return found
    raise refused or HubError(f"{repo}: has no version yet; `gv-data push` makes one")


def fetch(version: Version, progress: Progress) -> Path:
    """Fetch a version, or what the cache lacks of it, and compare every file with its manifest.

    Returns:
        A folder as `gv-data build` makes them; it lies in the client's cache and must not be written to.

    Raises:
        DatasetError: the set is of another format, or lists what it must not.
        HubError: a file is missing or not the one that is listed.
    """
    folder, files = listed(version)
    fetch_files(version, list(files), progress)
    for name in BESIDE:
        _text(version, name)
    return folder


def listed(version: Version) -> tuple[Path, dict[str, Any]]:
    """The folder of a version's manifest, and the files that it lists, found on the Hub with the sizes it says.

    Raises:
        DatasetError: the set is of another format, or lists what it must not.
        HubError: a file is missing there, or of another size.
    """
    folder = _manifest(version)
    files: dict[str, Any] = read_manifest(folder)["files"]
    _check_listed(version, files)
    return folder, files


def fetch_files(version: Version, names: list[str], progress: Progress) -> None:
    """Fetch some of the listed files into the manifest's folder, and compare their sums.

    Raises:
        HubError: one is not the file that is listed.
    """
    files = read_manifest(_manifest(version))["files"]
    progress.start("download", total=sum(files[name]["bytes"] for name in names), in_bytes=True)
    for name in names:
        attempts: tuple[dict[str, bool], ...] = ({}, {"force_download": True})  # damaged on the way, or in the cache
        if all(sha256_of(_file(version, name, **more)) != files[name]["sha256"] for more in attempts):
            raise HubError(f"{version}: {name} is not the file that its manifest lists; do not use this version")
        progress.advance(files[name]["bytes"])
    progress.finish()


def read_columns(version: Version, name: str, columns: list[str]) -> pa.Table:
    """Some columns of a shard, by ranged requests: the clips between them are not fetched, unless they are here.

    Raises:
        DatasetError: a group of rows is larger than any of ours.
        HubError: the Hub does not give them, or it is no Parquet file.
    """
    from huggingface_hub import HfFileSystem

    path = _cached(version, name)
    if path and sha256_of(path) == read_manifest(_manifest(version))["files"].get(name, {}).get("sha256"):
        return _columns(version, name, path, columns)

    def read() -> pa.Table:
        with HfFileSystem().open(f"datasets/{version.repo}@{version.sha}/{name}", cache_type="none") as remote:
            return _columns(version, name, remote, columns)

    return patiently(f"{version}: {name}", read, deadline_s=READ_S)


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


def _tags(repo: str, wanted: str | None) -> dict[str, str]:
    """Tags of a dataset and their commits: as the Hub names them, else as they were read before."""
    from huggingface_hub import HfApi, is_offline_mode

    what = f"{repo}: no such folder here, and as a name on the Hub"
    try:
        refs = patiently(what, HfApi().list_repo_refs, repo, repo_type="dataset", deadline_s=ASK_S)
    except HubError as error:
        known = _known_tags(repo)
        if (wanted in known and silent(error)) or (wanted is None and known and is_offline_mode()):
            return known
        raise
    return {one.name: str(one.target_commit) for one in refs.tags}


def _known_tags(repo: str) -> dict[str, str]:
    folder = _tags_folder(repo)
    found = {path.name: path.read_text("utf-8") for path in folder.iterdir()} if folder.is_dir() else {}
    return {tag: sha for tag, sha in found.items() if COMMIT.fullmatch(sha)}


def _remember(version: Version) -> None:
    """Note the tag's commit in the client's cache, whose folder `refs` is made for it."""
    path = _tags_folder(version.repo) / version.tag
    if version.sha.startswith(version.tag) or (path.is_file() and path.read_text("utf-8") == version.sha):
        return
    with suppress(OSError):  # a cache that may only be read
        write_durably(path, version.sha.encode())


def _tags_folder(repo: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset") / "refs" / "tags"


def _manifest(version: Version) -> Path:
    """The folder of a version's manifest, of a format that is read here."""
    folder = _text(version, "manifest.json").parent
    read_manifest(folder)
    _remember(version)
    return folder


def _text(version: Version, name: str) -> Path:
    """One of the small files beside the shards, with the sum that the Hub names."""
    if _cached(version, name) is None:
        for size in _sizes(version, [name]).values():
            if size > MAX_TEXT_BYTES:
                raise DatasetError(f"{version}: {name} has {size} bytes, more than {MAX_TEXT_BYTES >> 20} MiB.")
    return intact(_file(version, name), lambda: _file(version, name, force_download=True))


def _check_listed(version: Version, listed: dict[str, Any]) -> None:
    """Compare sizes with the Hub's own listing, before a byte is fetched."""
    for name, file in listed.items():
        if file["bytes"] > MAX_FILE_BYTES:
            raise DatasetError(f"{version}: {name} has {file['bytes']} bytes, more than {MAX_FILE_BYTES >> 30} GiB.")
    here = {name: path.stat().st_size for name in listed if (path := _cached(version, name))}
    asked = [name for name, file in listed.items() if here.get(name) != file["bytes"]]
    there = _sizes(version, asked) if asked else {}
    for name in asked:
        file = listed[name]
        if there.get(name) != file["bytes"]:
            raise HubError(
                f"{version}: {name} has {there.get(name, 'no')} bytes on the Hub, {file['bytes']} are listed"
            )


def _sizes(version: Version, names: list[str]) -> dict[str, int]:
    """Bytes of the files that are there."""
    from huggingface_hub import HfApi

    asked: dict[str, Any] = {"repo_type": "dataset", "revision": version.sha}
    infos = patiently(f"{version}: sizes", HfApi().get_paths_info, version.repo, names, deadline_s=READ_S, **asked)
    return {info.path: info.size for info in infos if hasattr(info, "size")}


def _cached(version: Version, name: str) -> Path | None:
    """The client's copy of a file, if it has one."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(version.repo, name, revision=version.sha, repo_type="dataset")
    return Path(path) if isinstance(path, str) else None


def _file(version: Version, name: str, **more: Any) -> Path:
    from huggingface_hub import hf_hub_download

    where: dict[str, Any] = {"repo_type": "dataset", "revision": version.sha, "deadline_s": READ_S, **more}
    return Path(patiently(f"{version}: {name}", hf_hub_download, version.repo, name, **where))

"""Publish a complete folder as one version of a dataset on the Hub.

    preflight -> large files ahead -> one commit on the parent that was seen -> remote tree compared -> tag

Every step can be run again: what is there already is found by its content, so a lost answer makes no second commit and
an interrupted upload sends only what is missing. Nobody else's files are deleted, and a tag is never moved.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gigavideo_data import versions
from gigavideo_data.card import CARD_TAG
from gigavideo_data.errors import HubError
from gigavideo_data.folder_read import read_manifest
from gigavideo_data.hub_edge import ASK_S, patiently
from gigavideo_data.progress import Progress
from gigavideo_data.schema import FILE_NAME, ROW_SCHEMA
from gigavideo_data.store import canonical
from gigavideo_data.verify import verify_folder
from gigavideo_data.versions import Changes

OWN_FILES = ("README.md", "manifest.json", "cost.json")  # beside those that the manifest lists


@dataclass(frozen=True)
class Place:
    """A repository as it was found: `head` is its newest commit, None if it has to be made."""

    repo: str
    private: bool
    head: str | None
    tags: dict[str, str]  # tag -> commit


@dataclass(frozen=True)
class Published:
    """What a push came to."""

    repo: str
    tag: str
    sha: str
    changes: Changes
    num_bytes: int  # of the files that the Hub did not have


def preflight(repo: str, *, private: bool = False, tag: str | None = None) -> Place:
    """Find out whether a push can succeed, before anything is spent.

    Raises:
        RecipeError: the tag is no version.
        HubError: no token, one that may not write there, a name that cannot be, somebody else's files in the way, or a
            tag that is taken.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

    api = HfApi()
    if tag:
        versions.checked(tag)
    if repo.count("/") != 1:
        raise HubError(f"{repo}: not a name on the Hub; it must be owner/name")
    try:
        me = patiently("the token", api.whoami, deadline_s=ASK_S)
    except LocalTokenNotFoundError:
        raise HubError("the Hub wants a token: `hf auth login`, or set HF_TOKEN") from None
    role = me.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise HubError("this token may only read; make one that may write, at your Hub's settings/tokens")
    try:
        info = patiently(repo, api.dataset_info, repo, deadline_s=ASK_S)
    except HubError as error:
        if not isinstance(error.__cause__, RepositoryNotFoundError):
            raise
        _check_owner(repo.split("/")[0], me)
        return Place(repo, private, None, {})
    refs = patiently(f"{repo}: tags", api.list_repo_refs, repo, repo_type="dataset")
    place = Place(repo, bool(info.private), str(info.sha), {one.name: one.target_commit for one in refs.tags})
    if tag and tag in place.tags:
        raise HubError(f"{repo}: {tag} is taken, and a tag is never moved; leave --tag out, or give another")
    _check_ours(api, place)
    return place


def push(folder: Path, place: Place, progress: Progress, tag: str | None = None) -> Published:
    """Publish a folder.

    Args:
        folder: a complete dataset; it is verified first.
        place: as `preflight` found it.
        progress: shows bytes.
        tag: version; None is the next one, by what changed since the newest.

    Raises:
        DatasetError: the folder is not whole.
        HubError: the Hub refused, somebody else committed meanwhile, or the tag is taken.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    verify_folder(folder)
    manifest = read_manifest(folder)
    files = {name: folder / name for name in (*manifest["files"], *OWN_FILES)}
    if place.head is None:
        patiently(place.repo, api.create_repo, place.repo, repo_type="dataset", private=place.private, exist_ok=True)
    head = place.head or str(patiently(place.repo, api.dataset_info, place.repo).sha)
    last = versions.newest(place.tags)
    before = _rows_at(api, place.repo, place.tags[last], folder, manifest) if last else {}
    differing = _differing(api, place.repo, head, files)
    found = versions.changes(before, _row_sums(folder, manifest), files=bool(differing))
    if not differing and (same := [name for name, sha in place.tags.items() if sha == head]):
        return Published(place.repo, versions.newest(same) or same[0], head, found, 0)
    tag = tag or versions.proposed(place.tags, found)
    if tag in place.tags:
        raise HubError(f"{place.repo}: {tag} is taken; the next version is {versions.proposed(place.tags, found)}")
    num_bytes = sum(files[name].stat().st_size for name in differing)
    if differing:
        head = _commit(api, place.repo, head, files, differing, _message(manifest, found), progress)
    if left := _differing(api, place.repo, head, files):
        raise HubError(
            f"{place.repo}: {', '.join(left[:3])} on the Hub is not what was sent; nothing was tagged. Run the same "
            "command again."
        )
    _tag(api, place.repo, tag, head, str(found))
    return Published(place.repo, tag, head, found, num_bytes)


# --- before ----------------------------------------------------------------------------------------------------------


def _check_owner(owner: str, me: dict[str, Any]) -> None:
    mine = {me["name"]: "write", **{org["name"]: org.get("roleInOrg", "read") for org in me.get("orgs", [])}}
    if mine.get(owner, "read") == "read":
        raise HubError(f"{owner}: you may not make datasets there; you may as {', '.join(sorted(mine))}")


def _check_ours(api: Any, place: Place) -> None:
    """Refuse a repository whose card is somebody else's: it would be overwritten."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        card = patiently(
            f"{place.repo}: README.md",
            api.hf_hub_download,
            place.repo,
            "README.md",
            repo_type="dataset",
            revision=place.head,
        )
    except HubError as error:
        if isinstance(error.__cause__, EntryNotFoundError):
            return
        raise
    if CARD_TAG not in Path(card).read_text("utf-8", errors="replace"):
        raise HubError(f"{place.repo}: its README.md is no card of ours and would be overwritten; choose another name")


# --- what changed ----------------------------------------------------------------------------------------------------


def _row_sums(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """A sum of each row's values, by id."""
    sums: dict[str, str] = {}
    for name in _shards(manifest):
        with pq.ParquetFile(folder / name) as file:
            sums |= _sums_of(file)
    return sums


def _rows_at(api: Any, repo: str, sha: str, folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """The same of a published version: of its shards only columns without clips are read, and equal ones not at all."""
    from huggingface_hub import HfFileSystem

    where = f"{repo}@{sha[:8]}"
    path = patiently(
        f"{where}: manifest.json", api.hf_hub_download, repo, "manifest.json", repo_type="dataset", revision=sha
    )
    old = json.loads(Path(path).read_text("utf-8"))
    here = {file["sha256"]: name for name, file in manifest["files"].items()}
    sums: dict[str, str] = {}
    for name in _shards(old):
        if not FILE_NAME.fullmatch(name):
            raise HubError(f"{where}: its manifest names a file {name!r}; this is no set of ours")
        same = here.get(old["files"][name]["sha256"])
        if same:
            with pq.ParquetFile(folder / same) as file:
                sums |= _sums_of(file)
            continue

        def read(name: str = name) -> dict[str, str]:
            with HfFileSystem().open(f"datasets/{repo}@{sha}/{name}") as remote, pq.ParquetFile(remote) as file:
                return _sums_of(file)

        sums |= patiently(f"{where}: {name}", read)
    return sums


def _shards(manifest: dict[str, Any]) -> list[str]:
    return sorted(name for name in manifest["files"] if name.startswith("data/"))


def _sums_of(file: pq.ParquetFile) -> dict[str, str]:
    columns = [name for name in ROW_SCHEMA.names if name not in versions.PROVENANCE]
    rows = (row for batch in file.iter_batches(256, columns=columns) for row in batch.to_pylist())
    return {row["id"]: hashlib.sha256(canonical(row)).hexdigest() for row in rows}


# --- one commit, then the tag ----------------------------------------------------------------------------------------


def _differing(api: Any, repo: str, sha: str, files: dict[str, Path]) -> list[str]:
    """Which files are not at a commit as they are here, by sha256 or, for small ones, git's own sum."""

    def tree() -> list[Any]:
        return list(api.list_repo_tree(repo, recursive=True, revision=sha, repo_type="dataset"))

    there = {one.path: one for one in patiently(f"{repo}: files", tree) if hasattr(one, "blob_id")}
    return [name for name, path in files.items() if name not in there or not _equal(path, there[name])]


def _equal(path: Path, remote: Any) -> bool:
    if path.stat().st_size != remote.size:
        return False
    if remote.lfs:
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == remote.lfs.sha256)
    data = path.read_bytes()
    return bool(hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == remote.blob_id)


def _commit(
    api: Any,
    repo: str,
    head: str,
    files: dict[str, Path],
    differing: list[str],
    message: tuple[str, str],
    progress: Progress,
) -> str:
    """Send what differs and commit it, with the older version's shards that are gone; the new commit's hash."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = _gone(api, repo, head, files)

    def operations() -> list[Any]:  # made anew for each attempt: the client changes them
        added = [CommitOperationAdd(name, files[name]) for name in differing]
        return [*added, *(CommitOperationDelete(name) for name in gone)]

    megabytes = {name: -(-files[name].stat().st_size // 1_000_000) for name in differing}
    progress.start("upload", total=sum(megabytes.values()), unit="MB")
    for name in differing:  # one by one, so that progress is seen and an interruption costs one file
        one = CommitOperationAdd(name, files[name])
        patiently(f"{repo}: {name}", api.preupload_lfs_files, repo, [one], repo_type="dataset", free_memory=True)
        progress.advance(megabytes[name])
    progress.finish()

    def commit() -> str:
        title, description = message
        settings = {"repo_type": "dataset", "commit_message": title, "commit_description": description}
        try:
            return str(api.create_commit(repo, operations(), parent_commit=head, **settings).oid)
        except Exception:  # the network edge: the answer may be lost, and the commit made
            now = str(api.dataset_info(repo).sha)
            if now != head and not _differing(api, repo, now, files):
                return now
            raise

    return patiently(f"{repo}: commit", commit)


def _gone(api: Any, repo: str, head: str, files: dict[str, Path]) -> list[str]:
    """Files that an older version of ours put there, and this one has not."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = patiently(
            f"{repo}: manifest.json", api.hf_hub_download, repo, "manifest.json", repo_type="dataset", revision=head
        )
    except HubError as error:
        if isinstance(error.__cause__, EntryNotFoundError):
            return []
        raise
    ours = [name for name in json.loads(Path(path).read_text("utf-8"))["files"] if FILE_NAME.fullmatch(name)]
    there = {one.path for one in api.list_repo_tree(repo, recursive=True, revision=head, repo_type="dataset")}
    return sorted(name for name in ours if name in there and name not in files)


def _tag(api: Any, repo: str, tag: str, sha: str, message: str) -> None:
    """Name a commit; a tag that is there already must name the same one."""

    def create() -> None:
        try:
            api.create_tag(repo, tag=tag, tag_message=message, revision=sha, repo_type="dataset")
        except Exception:  # the network edge: the answer may be lost, and the tag made
            tags = {one.name: one.target_commit for one in api.list_repo_refs(repo, repo_type="dataset").tags}
            if tags.get(tag) == sha:
                return
            if tag in tags:
                raise HubError(
                    f"{repo}: {tag} was taken meanwhile; run the same command again for the next one"
                ) from None
            raise

    patiently(f"{repo}: tag {tag}", create)


def _message(manifest: dict[str, Any], found: Changes) -> tuple[str, str]:
    rows = sum(manifest["rows"].values())
    facts = {"recipe_hash": manifest["recipe_hash"], "rows": manifest["rows"], "format": manifest["format"]}
    return f"{manifest['name']}: {rows} rows, recipe {manifest['recipe_hash']} ({found})", json.dumps(
        facts, sort_keys=True
    )

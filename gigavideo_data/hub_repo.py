"""One repository of the Hub, dataset or model: found as it is, changed by one commit, and given a tag.

Whatever is asked for twice is done once: files are compared by their content, a commit whose answer was lost is looked
for, and a tag that is there already must name the same commit. Nobody else's files are deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from gigavideo_data import versions
from gigavideo_data.errors import HubError
from gigavideo_data.hub_edge import ASK_S, DEADLINE_S, patiently
from gigavideo_data.progress import Progress

Kind = Literal["dataset", "model"]


@dataclass(frozen=True)
class Local:
    """One file of this machine, read once for each of its sums, however often it is compared."""

    path: Path

    @property
    def size(self) -> int:
        """In bytes."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """As the Hub names large files."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def blob_id(self) -> str:
        """As git names small ones."""
        data = self.path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


Files = dict[str, Local]  # by their names in the repository


@dataclass(frozen=True)
class Place:
    """A repository as it was found: `head` is its newest commit, None if it has to be made."""

    repo: str
    kind: Kind
    private: bool
    head: str | None
    tags: dict[str, str]  # tag -> commit


def preflight(
    repo: str, *, kind: Kind = "dataset", card_tag: str, private: bool = False, tag: str | None = None
) -> Place:
    """Find out whether a push can succeed, before anything is spent.

    Args:
        repo: owner/name.
        kind: of repository.
        card_tag: word that a README.md of ours holds; any other one is somebody else's.
        private: whether it is to be made private, if it has to be made.
        tag: version that is asked for; whether it is taken is for the caller to find out.

    A repository is made here only where the Hub does not say whether its owner's organisation lets this user make one.

    Raises:
        RecipeError: the tag is no version.
        HubError: no token, one that may not write there, a name that cannot be, or somebody else's card in the way.
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
    if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError("this token may only read; make one that may write, at your Hub's settings/tokens")
    try:
        info = patiently(repo, partial(api.repo_info, repo, repo_type=kind), deadline_s=ASK_S)
    except HubError as error:
        if not isinstance(error.__cause__, RepositoryNotFoundError):
            raise
        place = Place(repo, kind, private, None, {})
        if _role(repo, me, new=True) is None:  # only the Hub knows; better asked now than after a build
            place = replace(place, head=made(place))
        return place
    _role(repo, me, new=False)
    refs = patiently(f"{repo}: tags", partial(api.list_repo_refs, repo, repo_type=kind))
    tags = {one.name: one.target_commit for one in refs.tags}
    place = Place(repo, kind, bool(info.private), str(info.sha), tags)
    card = file_at(place, str(info.sha), "README.md")
    if card and card_tag not in card.read_text("utf-8", errors="replace"):
        raise HubError(f"{repo}: its README.md is no card of ours and would be overwritten; choose another name")
    return place


def _role(repo: str, me: dict[str, Any], *, new: bool) -> str | None:
    """Somebody's role where the repository lies; None, the Hub does not say it.

    Nobody writes among strangers; in an organisation somebody who may only read may still own a repository.

    Raises:
        HubError: with it, nothing can be written there.
    """
    owner = repo.split("/")[0]
    roles: dict[str, str | None] = {me["name"]: "write"}
    roles |= {org["name"]: org.get("roleInOrg") for org in me.get("orgs", [])}
    others = f"you may as {', '.join(sorted(name for name, role in roles.items() if role != 'read'))}"
    if owner not in roles:
        raise HubError(f"{repo}: you may not write there, as you are no member of {owner}; {others}")
    if new and roles[owner] == "read":
        raise HubError(f"{repo}: you may not write there, as your role in {owner} is read; {others}")
    return roles[owner]


def made(place: Place) -> str:
    """Make the repository if it is not there; its newest commit."""
    from huggingface_hub import HfApi

    if place.head:
        return place.head
    api = HfApi()

    def once() -> str:
        try:
            api.create_repo(place.repo, repo_type=place.kind, private=place.private)
        except Exception:  # the network edge: the answer may be lost, or somebody else may have made it
            if not api.repo_exists(place.repo, repo_type=place.kind):
                raise
        return str(api.repo_info(place.repo, repo_type=place.kind).sha)

    return patiently(place.repo, once, writes=True)


def taken(place: Place, tag: str) -> HubError:
    """What to say of a tag that names something else."""
    return HubError(
        f"{place.repo}: {tag} is taken by another content, and a tag is never moved; leave --tag out, or give another"
    )


def file_at(place: Place, sha: str, name: str) -> Path | None:
    """One file of a commit, fetched; None if it has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    asked = partial(hf_hub_download, place.repo, name, repo_type=place.kind, revision=sha)
    try:
        return Path(patiently(f"{place.repo}: {name}", asked))
    except HubError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):  # the Hub says so; silence is no answer
            return None
        raise


def listed(place: Place, sha: str) -> dict[str, Any]:
    """The files of a commit by their names, with size and sums."""
    from huggingface_hub import HfApi

    def tree() -> list[Any]:
        return list(HfApi().list_repo_tree(place.repo, recursive=True, revision=sha, repo_type=place.kind))

    return {one.path: one for one in patiently(f"{place.repo}: files", tree) if hasattr(one, "blob_id")}


def differing(place: Place, sha: str, files: Files) -> list[str]:
    """Which files are not at a commit as they are here, by sha256 or, for small ones, git's own sum."""
    there = listed(place, sha)
    return [name for name, file in files.items() if name not in there or not _equal(file, there[name])]


def _equal(file: Local, remote: Any) -> bool:
    if file.size != remote.size:
        return False
    return bool(file.sha256 == remote.lfs.sha256 if remote.lfs else file.blob_id == remote.blob_id)


def send(place: Place, name: str, file: Local, deadline_s: float = DEADLINE_S) -> None:
    """Send a large file ahead of its commit; one that is there is not sent again, and small ones go with the commit.

    Raises:
        HubError: the Hub refused, or did not answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    one = [CommitOperationAdd(name, file.path)]
    ahead = partial(HfApi().preupload_lfs_files, place.repo, one, repo_type=place.kind)
    patiently(f"{place.repo}: {name}", ahead, deadline_s=deadline_s, writes=True)


def commit(
    place: Place, head: str, files: Files, gone: Iterable[str], message: tuple[str, str], progress: Progress
) -> tuple[str, int]:
    """Send the files that differ from a commit, put one on top of it, and compare what is there with what is here.

    Args:
        place: the repository.
        head: the commit that was seen; another one in between is an error.
        files: all of ours.
        gone: files of ours that are to be deleted, where they are there.
        message: title and description.
        progress: shows megabytes.

    Returns:
        The new commit's hash, that of `head` if nothing differs; and the bytes of the files that differed.

    Raises:
        HubError: the Hub refused, or holds something else than was sent.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, changed = HfApi(), differing(place, head, files)
    there = listed(place, head)
    deleted = sorted(name for name in gone if name in there and name not in files)
    if not changed and not deleted:
        return head, 0
    num_bytes = sum(files[name].size for name in changed)
    progress.start("upload", total=num_bytes, in_bytes=True)
    for name in changed:  # one by one, so that progress is seen and an interruption costs one file
        send(place, name, files[name])
        progress.advance(files[name].size)
    progress.finish()
    title, description = message
    settings: dict[str, Any] = {"repo_type": place.kind, "commit_message": title, "commit_description": description}

    def once() -> str:
        operations: list[Any] = [
            CommitOperationAdd(name, files[name].path) for name in changed
        ]  # the client changes them
        operations += [CommitOperationDelete(name) for name in deleted]
        try:
            return str(api.create_commit(place.repo, operations, parent_commit=head, **settings).oid)
        except Exception:  # the network edge: the answer may be lost, and the commit made
            now = str(api.repo_info(place.repo, repo_type=place.kind).sha)
            if now != head and not differing(place, now, files):
                return now
            raise

    sha = patiently(f"{place.repo}: commit", once, writes=True)
    if left := differing(place, sha, files):
        raise HubError(
            f"{place.repo}: {', '.join(left[:3])} on the Hub is not what was sent; nothing was tagged. Run the same "
            "command again."
        )
    return sha, num_bytes


def tagged(place: Place, tag: str, sha: str, message: str) -> None:
    """Name a commit; a tag that is there already must name the same one."""
    from huggingface_hub import HfApi

    api = HfApi()

    def once() -> None:
        try:
            api.create_tag(place.repo, tag=tag, tag_message=message, revision=sha, repo_type=place.kind)
        except Exception:  # the network edge: the answer may be lost, and the tag made
            refs = api.list_repo_refs(place.repo, repo_type=place.kind)
            named = {one.name: one.target_commit for one in refs.tags}.get(tag)
            if named == sha:
                return
            if named:
                said = f"{place.repo}: {tag} was taken meanwhile; run the same command again for the next one"
                raise HubError(said) from None
            raise

    patiently(f"{place.repo}: tag {tag}", once, writes=True)

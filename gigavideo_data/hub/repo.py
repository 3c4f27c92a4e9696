"""One repository of the Hub, dataset or model: inspect it, change it by one commit, tag the commit.

Every step can be repeated: files are compared by content, a commit whose answer was lost is found again, and an
existing tag must name the same commit. Files that gigavideo did not upload are never deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gigavideo_data.errors import HubError
from gigavideo_data.hub import versions
from gigavideo_data.hub.retry import ASK_S, DEADLINE_S, with_retries
from gigavideo_data.io.hashing import blob_id_of, sha256_of
from gigavideo_data.io.progress import Progress

Kind = Literal["dataset", "model"]


Files = dict[str, Path]  # files of this machine, by path in the repository


@dataclass(frozen=True)
class Repository:
    """The state of a repository before a push: `head` is its newest commit, None if the repository does not exist."""

    name: str
    kind: Kind
    private: bool
    head: str | None
    tags: dict[str, str]  # tag -> commit


def preflight(
    repo: str, *, kind: Kind = "dataset", card_tag: str, private: bool = False, tag: str | None = None
) -> Repository:
    """Check token, permissions, name and card, so that a push cannot fail after an expensive build.

    The repository is created here only if the Hub does not say whether this user may create one in the organisation.

    Args:
        repo: owner/name.
        kind: dataset or model.
        card_tag: word that every README.md of gigavideo contains; another README.md is not overwritten.
        private: create a missing repository as private.
        tag: requested version; the caller checks whether it exists already.

    Raises:
        RecipeError: the tag is no version.
        HubError: no token, no write access, an invalid name, or a README.md that is not ours.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

    api = HfApi()
    if tag:
        versions.validate_tag(tag)
    if repo.count("/") != 1:
        raise HubError(f"{repo}: not a Hub id; it must be owner/name")
    try:
        user = with_retries("the token", api.whoami, deadline_s=ASK_S)
    except LocalTokenNotFoundError:
        raise HubError("the Hub needs a token: run `hf auth login`, or set HF_TOKEN") from None
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError("this token may only read; create one with write access at settings/tokens of the Hub")
    try:
        info = with_retries(repo, partial(api.repo_info, repo, repo_type=kind), deadline_s=ASK_S)
    except HubError as error:
        if not isinstance(error.__cause__, RepositoryNotFoundError):
            raise
        missing = Repository(repo, kind, private, None, {})
        if _role(repo, user, new=True) is None:  # only an attempt shows it; better now than after a build
            return replace(missing, head=ensure_repo(missing))
        return missing
    _role(repo, user, new=False)
    refs = with_retries(f"{repo}: tags", partial(api.list_repo_refs, repo, repo_type=kind))
    tags = {one.name: one.target_commit for one in refs.tags}
    found = Repository(repo, kind, bool(info.private), str(info.sha), tags)
    card = file_at(found, str(info.sha), "README.md")
    if card and card_tag not in card.read_text("utf-8", errors="replace"):
        raise HubError(
            f"{repo}: its README.md is not a card of gigavideo and would be overwritten; choose another name"
        )
    return found


def _role(repo: str, user: dict[str, Any], *, new: bool) -> str | None:
    """The user's role in the owner of a repository; None if the Hub does not say it.

    A member of an organisation with the role "read" may still have write access to an existing repository of it.
    """
    owner = repo.split("/")[0]
    roles: dict[str, str | None] = {user["name"]: "write"}
    roles |= {org["name"]: org.get("roleInOrg") for org in user.get("orgs", [])}
    others = f"you may write as {', '.join(sorted(name for name, role in roles.items() if role != 'read'))}"
    if owner not in roles:
        raise HubError(f"{repo}: you may not write there: you are not a member of {owner}; {others}")
    if new and roles[owner] == "read":
        raise HubError(f"{repo}: you may not write there: your role in {owner} is read; {others}")
    return roles[owner]


def ensure_repo(repo: Repository) -> str:
    """Create the repository if it does not exist; return its newest commit."""
    from huggingface_hub import HfApi

    if repo.head:
        return repo.head
    api = HfApi()

    def create() -> str:
        try:
            api.create_repo(repo.name, repo_type=repo.kind, private=repo.private)
        except Exception:  # the network edge: the answer may be lost, or another process may have created it
            if not api.repo_exists(repo.name, repo_type=repo.kind):
                raise
        return str(api.repo_info(repo.name, repo_type=repo.kind).sha)

    return with_retries(repo.name, create, writes=True)


def tag_taken(repo: Repository, tag: str) -> HubError:
    """The error for a requested tag that names other content."""
    return HubError(
        f"{repo.name}: {tag} is taken by another content, and a tag is never moved; leave --tag out, or give another"
    )


def file_at(repo: Repository, sha: str, name: str) -> Path | None:
    """Download one file of a commit; None if the commit has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    download = partial(hf_hub_download, repo.name, name, repo_type=repo.kind, revision=sha)
    try:
        return Path(with_retries(f"{repo.name}: {name}", download))
    except HubError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):  # the Hub answered; a timeout raises another error
            return None
        raise


def list_files(repo: Repository, sha: str) -> dict[str, Any]:
    """The files of a commit by path, with size and hashes."""
    from huggingface_hub import HfApi

    def tree() -> list[Any]:
        return list(HfApi().list_repo_tree(repo.name, recursive=True, revision=sha, repo_type=repo.kind))

    return {one.path: one for one in with_retries(f"{repo.name}: files", tree) if hasattr(one, "blob_id")}


def changed_files(repo: Repository, sha: str, files: Files) -> list[str]:
    """The local files that a commit lacks or holds with other content, by sha256 or, for small files, git blob id."""
    remote = list_files(repo, sha)
    return [name for name, file in files.items() if name not in remote or not _equal(file, remote[name])]


def _equal(file: Path, remote: Any) -> bool:
    if file.stat().st_size != remote.size:
        return False
    return bool(sha256_of(file) == remote.lfs.sha256 if remote.lfs else blob_id_of(file) == remote.blob_id)


def upload(repo: Repository, name: str, file: Path, deadline_s: float = DEADLINE_S) -> None:
    """Upload a large file before its commit, unless the Hub has it; small files are part of the commit itself.

    Raises:
        HubError: the Hub refused, or did not answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    additions = [CommitOperationAdd(name, file)]
    call = partial(HfApi().preupload_lfs_files, repo.name, additions, repo_type=repo.kind)
    with_retries(f"{repo.name}: {name}", call, deadline_s=deadline_s, writes=True)


def commit(
    repo: Repository, head: str, files: Files, obsolete: Iterable[str], message: tuple[str, str], progress: Progress
) -> tuple[str, int]:
    """Upload the files that differ from a commit, commit them on top of it, and check the result.

    Args:
        repo: the repository.
        head: the parent commit; a commit of somebody else in between is an error.
        files: all files of the dataset or model.
        obsolete: files of earlier versions, deleted where they exist and are not in `files`.
        message: title and description of the commit.
        progress: shows megabytes.

    Returns:
        The new commit, or `head` if nothing differs; and the bytes of the files that differed.

    Raises:
        HubError: the Hub refused, or holds other content than was uploaded.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, changed = HfApi(), changed_files(repo, head, files)
    remote = list_files(repo, head)
    deleted = sorted(name for name in obsolete if name in remote and name not in files)
    if not changed and not deleted:
        return head, 0
    num_bytes = sum(files[name].stat().st_size for name in changed)
    progress.start("upload", total=num_bytes, in_bytes=True)
    for name in changed:  # one call a file: progress is visible, and an interruption loses at most one file
        upload(repo, name, files[name])
        progress.advance(files[name].stat().st_size)
    progress.finish()
    title, description = message
    settings: dict[str, Any] = {"repo_type": repo.kind, "commit_message": title, "commit_description": description}

    def create() -> str:  # with new operations each time, because the client changes them
        operations: list[Any] = [CommitOperationAdd(name, files[name]) for name in changed]
        operations += [CommitOperationDelete(name) for name in deleted]
        try:
            return str(api.create_commit(repo.name, operations, parent_commit=head, **settings).oid)
        except Exception:  # the network edge: the answer may be lost although the commit exists
            now = str(api.repo_info(repo.name, repo_type=repo.kind).sha)
            if now != head and not changed_files(repo, now, files):
                return now
            raise

    sha = with_retries(f"{repo.name}: commit", create, writes=True)
    if wrong := changed_files(repo, sha, files):
        raise HubError(
            f"{repo.name}: {', '.join(wrong[:3])} on the Hub is not what was sent; nothing was tagged. Run the same "
            "command again."
        )
    return sha, num_bytes


def create_tag(repo: Repository, tag: str, sha: str, message: str) -> None:
    """Tag a commit; an existing tag of that name must name the same commit."""
    from huggingface_hub import HfApi

    api = HfApi()

    def create() -> None:
        try:
            api.create_tag(repo.name, tag=tag, tag_message=message, revision=sha, repo_type=repo.kind)
        except Exception:  # the network edge: the answer may be lost although the tag exists
            refs = api.list_repo_refs(repo.name, repo_type=repo.kind)
            target = {one.name: one.target_commit for one in refs.tags}.get(tag)
            if target == sha:
                return
            if target:
                raise HubError(
                    f"{repo.name}: {tag} was taken meanwhile; run the same command again for the next version"
                ) from None
            raise

    with_retries(f"{repo.name}: tag {tag}", create, writes=True)

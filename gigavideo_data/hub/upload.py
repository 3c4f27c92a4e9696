"""Publish a finished folder on the Hub: a dataset as one tagged version, or a tuned model.

    preflight -> upload large files -> one commit on the known parent -> compare the remote files -> tag

Every step can be repeated; see `hub_repo`. The next version follows from what changed since the last one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset.card import CARD_TAG, OnHub, card_text, version_line, version_lines
from gigavideo_data.dataset.manifest import Manifest, files_in
from gigavideo_data.dataset.reader import read_manifest
from gigavideo_data.dataset.schema import FILE_NAME, LATENTS_FOLDER, ROW_SCHEMA
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import DatasetError, HubError
from gigavideo_data.hub import download, versions
from gigavideo_data.hub import repo as hub_repo
from gigavideo_data.hub.download import Version
from gigavideo_data.hub.models import CURVES
from gigavideo_data.hub.repo import Files, Repository
from gigavideo_data.hub.retry import ASK_S
from gigavideo_data.hub.versions import Changes
from gigavideo_data.io.hashing import canonical, pretty_json
from gigavideo_data.io.progress import Progress

BATCH_ROWS = 256  # read at once, without their videos
COLUMNS = [name for name in ROW_SCHEMA.names if name not in versions.PROVENANCE]
MODEL_TAG = "gigavideo"  # in the card of a model that gv-train wrote
MODEL_ENDINGS = (".safetensors", ".json", ".model", ".txt", ".jinja", ".md")  # no pickles, no code


@dataclass(frozen=True)
class Published:
    """The result of a push. A model has a tag only if one was requested."""

    repo: str
    tag: str | None
    sha: str
    changes: str
    num_bytes: int  # of the files that the Hub did not have


def preflight(repo: str, *, private: bool = False, tag: str | None = None, out: Path | None = None) -> Repository:
    """Check that a dataset can be pushed; see `hub_repo.preflight`.

    Args:
        repo: owner/name.
        private: create a missing repository as private.
        tag: requested version.
        out: folder of a dataset that is still to be written. An existing tag is refused then, unless the folder holds
            a dataset of the same recipe: it may have the same content, which `push` checks.

    Raises:
        HubError: see `hub_repo.preflight`, or the tag is taken.
    """
    found = hub_repo.preflight(repo, card_tag=CARD_TAG, private=private, tag=tag)
    if out and tag and tag in found.tags:
        local = read_manifest(out)["recipe_hash"] if (out / "manifest.json").is_file() else None
        if local is None or local != _manifest_at(found, found.tags[tag]).get("recipe_hash"):
            raise hub_repo.tag_taken(found, tag)
    return found


class BackgroundUploader:
    """Uploads files of a dataset in a thread while others are still written; a `publish.Uploader`.

    No version contains them until a commit names them. After a failure nothing more is uploaded here: `push` uploads
    the rest and reports the error.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._queue: Queue[tuple[str, Path]] = Queue()
        self._thread = Thread(target=self._run, daemon=True)  # a failed build does not wait for it
        self._failed = False

    def upload(self, name: str, path: Path) -> None:
        """Queue a finished file."""
        if not self._thread.is_alive():
            self._thread.start()
        self._queue.put((name, path))

    def wait(self) -> None:
        """Wait until every queued file is uploaded or has failed; the files may be moved then."""
        self._queue.join()

    def _run(self) -> None:
        while True:
            name, path = self._queue.get()
            try:
                if not self._failed:
                    hub_repo.ensure_repo(self._repo)
                    hub_repo.upload(self._repo, name, path, deadline_s=ASK_S)
            except Exception:  # noqa: BLE001 - the network edge: `push` uploads the rest and reports the error
                self._failed = True
            finally:
                self._queue.task_done()


@dataclass(frozen=True)
class _Previous:
    """The newest version of a dataset before a push."""

    tag: str
    sha: str
    manifest: dict[str, Any]
    card: str
    cost: dict[str, Any] | None


def push(
    folder: Path,
    repo: Repository,
    progress: Progress,
    tag: str | None = None,
    *,
    verified: bool = False,
    with_latents: bool = False,
) -> Published:
    """Publish a dataset.

    Args:
        folder: a finished dataset.
        repo: as `preflight` found it.
        progress: shows the verification and uploaded megabytes.
        tag: version; None is the next one, by what changed since the newest. An existing version with the same content
            is left as it is.
        verified: the folder was verified just now.
        with_latents: upload the latents of the folder, which can be larger than the videos. They are uploaded in any
            case if the newest version has latents.

    Raises:
        DatasetError: the folder is not valid.
        HubError: the Hub refused, somebody else committed meanwhile, or the tag is taken.
    """
    if tag and tag in repo.tags:
        return _existing_version(folder, repo, tag, with_latents=with_latents)
    if not verified:
        verify_folder(folder, progress)
    head, previous = hub_repo.ensure_repo(repo), _previous(repo)
    manifest = read_manifest(folder)
    with_latents = with_latents or bool(previous and files_in(previous.manifest, LATENTS_FOLDER))
    if not with_latents and files_in(manifest, LATENTS_FOLDER):
        manifest = _without_latents(manifest)
        progress.note("latents are not uploaded; gv-data push --latents uploads them too")
    with TemporaryDirectory() as scratch:
        files = {name: folder / name for name in manifest["files"]}
        files["manifest.json"] = _text_file(Path(scratch) / "manifest.json", pretty_json(manifest))
        if previous:
            if _is_published(repo, previous, manifest, files):
                if tag:
                    raise HubError(
                        f"{repo.name}: nothing changed since {previous.tag}, so {tag} is not created; leave --tag out"
                    )
                return Published(repo.name, previous.tag, previous.sha, "nothing changed", 0)
            _check_same_kind(repo, previous, manifest)
        changes = versions.changes(_rows_of(repo, previous, folder, manifest), _row_hashes(folder, manifest))
        tag = tag or versions.next_version(repo.tags, changes)
        lines = (version_line(tag, str(changes)), *(version_lines(previous.card) if previous else ()))
        card = card_text(manifest, OnHub(repo.name, tag, lines), costs.read(folder))
        files["README.md"] = _text_file(Path(scratch) / "README.md", card)
        files[costs.FILE] = folder / costs.FILE
        obsolete = filter(FILE_NAME.fullmatch, _manifest_at(repo, head)["files"])
        sha, num_bytes = hub_repo.commit(repo, head, files, obsolete, _message(manifest, changes), progress)
        hub_repo.create_tag(repo, tag, sha, str(changes))
    return Published(repo.name, tag, sha, str(changes), num_bytes)


def _text_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _previous(repo: Repository) -> _Previous | None:
    tag = versions.newest(repo.tags)
    if tag is None:
        return None
    sha = repo.tags[tag]
    card = hub_repo.file_at(repo, sha, "README.md")
    cost = costs.parse(hub_repo.file_at(repo, sha, costs.FILE))
    return _Previous(tag, sha, _manifest_at(repo, sha), card.read_text("utf-8") if card else "", cost)


def _is_published(repo: Repository, previous: _Previous, manifest: Manifest, files: Files) -> bool:
    """Whether the newest version has this content and card. The cost is not compared: it differs between runs."""
    card = card_text(manifest, OnHub(repo.name, previous.tag, version_lines(previous.card)), previous.cost)
    return card == previous.card and not hub_repo.changed_files(repo, previous.sha, files)


def _existing_version(folder: Path, repo: Repository, tag: str, *, with_latents: bool) -> Published:
    """Accept an existing version whose manifest and files equal those of the folder, whatever its card says."""
    manifest, sha = read_manifest(folder), repo.tags[tag]
    remote = _manifest_at(repo, sha)
    if not with_latents and not files_in(remote, LATENTS_FOLDER):
        manifest = _without_latents(manifest)
    files = {name: folder / name for name in manifest["files"]}
    if manifest != remote or hub_repo.changed_files(repo, sha, files):
        raise hub_repo.tag_taken(repo, tag)
    return Published(repo.name, tag, sha, "nothing changed", 0)


def _check_same_kind(repo: Repository, previous: _Previous, manifest: Manifest) -> None:
    """All versions of a dataset hold their videos, or all withhold them: a name without a version is the newest one."""
    withheld = previous.manifest.get("withheld", False)
    if withheld != manifest.get("withheld", False):
        old, new = ("withholds", "contains") if withheld else ("contains", "withholds")
        raise HubError(
            f"{repo.name}: {previous.tag} {old} its videos, and this dataset {new} them; choose another name"
        )


def push_model(
    folder: Path, repo: str, progress: Progress, *, private: bool = False, tag: str | None = None
) -> Published:
    """Publish a model that gv-train wrote: weights as safetensors, configuration and card.

    Raises:
        DatasetError: the folder is no model of gv-train.
        HubError: see `hub_repo`.
    """
    card = folder / "README.md"
    if not card.is_file() or MODEL_TAG not in card.read_text("utf-8") or not (folder / "gigavideo.json").is_file():
        raise DatasetError(f"{folder}: no model that gv-train wrote; give the folder `model` of a training run")
    paths = sorted(path for path in folder.rglob("*") if path.suffix in MODEL_ENDINGS or path == folder / CURVES)
    paths = [path for path in paths if path.is_file() and not path.is_symlink()]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    found = hub_repo.preflight(repo, kind="model", card_tag=MODEL_TAG, private=private, tag=tag)
    if tag and tag in found.tags:
        if hub_repo.changed_files(found, found.tags[tag], files):
            raise hub_repo.tag_taken(found, tag)
        return Published(repo, tag, found.tags[tag], "nothing changed", 0)
    head = hub_repo.ensure_repo(found)
    message = f"{folder.resolve().parent.name}: tuned model", ""
    sha, num_bytes = hub_repo.commit(found, head, files, (), message, progress)
    if tag:
        hub_repo.create_tag(found, tag, sha, "")
    return Published(repo, tag, sha, "a new commit" if num_bytes else "nothing changed", num_bytes)


# --- what changed ----------------------------------------------------------------------------------------------------


def _row_hashes(folder: Path, manifest: Manifest) -> dict[str, str]:
    """A hash of each row's values, by row id."""
    hashes: dict[str, str] = {}
    for name in files_in(manifest, "data"):
        hashes |= _hashes_in(folder / name)
    return hashes


def _rows_of(repo: Repository, previous: _Previous | None, folder: Path, manifest: Manifest) -> dict[str, str]:
    """The same of the previous version. Of its shards, columns without videos are read; equal ones are read locally."""
    if previous is None:
        return {}
    version = Version(repo.name, previous.sha[:8], previous.sha)
    local = {file["sha256"]: name for name, file in manifest["files"].items()}
    hashes: dict[str, str] = {}
    for name in files_in(previous.manifest, "data"):
        if not FILE_NAME.fullmatch(name):
            raise HubError(f"{version}: its manifest lists a file {name!r}; gigavideo did not write this dataset")
        if same := local.get(previous.manifest["files"][name]["sha256"]):
            hashes |= _hashes_in(folder / same)
        else:
            hashes |= _hashes_of(download.read_columns(version, name, COLUMNS).to_batches(BATCH_ROWS))
    return hashes


def _manifest_at(repo: Repository, sha: str) -> dict[str, Any]:
    """The manifest of a commit, not validated; one without files if there is none."""
    path = hub_repo.file_at(repo, sha, "manifest.json")
    return json.loads(path.read_text("utf-8")) if path else {"files": {}}


def _without_latents(manifest: Manifest) -> Manifest:
    latents = files_in(manifest, LATENTS_FOLDER)
    return {**manifest, "files": {name: file for name, file in manifest["files"].items() if name not in latents}}


def _hashes_in(shard: Path) -> dict[str, str]:
    with pq.ParquetFile(shard) as file:
        return _hashes_of(file.iter_batches(BATCH_ROWS, columns=COLUMNS))


def _hashes_of(batches: Iterable[pa.RecordBatch]) -> dict[str, str]:
    rows = (row for batch in batches for row in batch.to_pylist())
    return {row["id"]: hashlib.sha256(canonical(row)).hexdigest() for row in rows}


def _message(manifest: Manifest, changes: Changes) -> tuple[str, str]:
    """Title and description of the commit."""
    rows = sum(manifest["rows"].values())
    facts = {"recipe_hash": manifest["recipe_hash"], "rows": manifest["rows"], "format": manifest["format"]}
    title = f"{manifest['name']}: {rows} rows, recipe {manifest['recipe_hash']} ({changes})"
    return title, json.dumps(facts, sort_keys=True)

"""Publish a complete folder on the Hub: a dataset as one version, or a tuned model.

    preflight -> large files ahead -> one commit on the parent that was seen -> remote tree compared -> tag

Every step can be run again; see `hub_repo`. A version's name follows from what changed since the last one.
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

from gigavideo_data import hub_read, hub_repo, versions
from gigavideo_data.card import CARD_TAG, OnHub, card_text, version_line, versions_told
from gigavideo_data.errors import DatasetError, HubError
from gigavideo_data.folder_read import read_manifest
from gigavideo_data.generators.models import CURVES
from gigavideo_data.hashing import canonical, pretty_json
from gigavideo_data.hub_edge import ASK_S
from gigavideo_data.hub_read import Version
from gigavideo_data.hub_repo import Local, Place
from gigavideo_data.progress import Progress
from gigavideo_data.schema import FILE_NAME, LATENTS_FOLDER, ROW_SCHEMA
from gigavideo_data.verify import verify_folder
from gigavideo_data.versions import Changes

COLUMNS = [name for name in ROW_SCHEMA.names if name not in versions.PROVENANCE]
MODEL_TAG = "gigavideo"  # in the card of a model that gv-train wrote
# What a model is made of; pickles, code and whatever else lies in the folder stay here.
MODEL_ENDINGS = (".safetensors", ".json", ".model", ".txt", ".jinja", ".md")


@dataclass(frozen=True)
class Published:
    """What a push came to; a model has a commit, and a tag only if one was asked for."""

    repo: str
    tag: str | None
    sha: str
    changes: str
    num_bytes: int  # of the files that the Hub did not have


def preflight(repo: str, *, private: bool = False, tag: str | None = None, out: Path | None = None) -> Place:
    """Find out whether a dataset can be pushed there; see `hub_repo.preflight`.

    Args:
        repo: owner/name.
        private: whether it is to be made private, if it has to be made.
        tag: version that is asked for.
        out: where the set is still to be written. A tag that is there is refused then, unless a set of its recipe lies
            in this folder already: that one may be the very same, which `push` finds out.

    Raises:
        HubError: see `hub_repo.preflight`, or the tag is taken.
    """
    place = hub_repo.preflight(repo, card_tag=CARD_TAG, private=private, tag=tag)
    if out and tag and tag in place.tags:
        here = read_manifest(out)["recipe_hash"] if (out / "manifest.json").is_file() else None
        if here is None or here != _manifest_at(place, place.tags[tag]).get("recipe_hash"):
            raise hub_repo.taken(place, tag)
    return place


class Ahead:
    """Sends the files of a set while others are still written and checked.

    They belong to no version until a commit names them. What fails here is sent again by `push`, which then tells.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._files: Queue[tuple[str, Path]] = Queue()
        self._thread = Thread(target=self._work, daemon=True)  # a build that fails does not wait for it
        self._failed = False

    def send(self, name: str, path: Path) -> None:
        """Have a finished file sent."""
        if not self._thread.is_alive():
            self._thread.start()
        self._files.put((name, path))

    def wait(self) -> None:
        """Until all is sent, or failed: the files may be moved then."""
        self._files.join()

    def _work(self) -> None:
        while True:
            name, path = self._files.get()
            try:
                if not self._failed:
                    hub_repo.made(self._place)
                    hub_repo.send(self._place, name, Local(path), deadline_s=ASK_S)
            except Exception:  # noqa: BLE001 - the network edge: `push` sends the rest, and tells
                self._failed = True
            finally:
                self._files.task_done()


def push(
    folder: Path,
    place: Place,
    progress: Progress,
    tag: str | None = None,
    *,
    verified: bool = False,
    with_latents: bool = False,
) -> Published:
    """Publish a dataset.

    Args:
        folder: a complete dataset.
        place: as `preflight` found it.
        progress: shows what is verified, and megabytes.
        tag: version; None is the next one, by what changed since the newest. One that names this very content is left
            as it is.
        verified: it was, just now.
        with_latents: whether those that the folder holds go along, which can be larger than the clips. They do in any
            case where the newest version has some.

    Raises:
        DatasetError: the folder is not whole.
        HubError: the Hub refused, somebody else committed meanwhile, or the tag is taken.
    """
    if tag and tag in place.tags:
        return _published_as(folder, place, tag, with_latents=with_latents)
    if not verified:
        verify_folder(folder, progress)
    manifest = read_manifest(folder)
    head, last = hub_repo.made(place), versions.newest(place.tags)
    with_latents = with_latents or bool(last and _latents(_manifest_at(place, place.tags[last])))
    stay = set() if with_latents else _latents(manifest)
    manifest["files"] = {name: file for name, file in manifest["files"].items() if name not in stay}
    if stay:
        progress.note("its latents stay on this machine; gv-data push --latents sends them too")
    earlier = _versions_at(place, place.tags[last]) if last else ()
    data = {name: Local(folder / name) for name in (*manifest["files"], "cost.json")}
    with TemporaryDirectory() as scratch:

        def files(on_hub: OnHub) -> hub_repo.Files:
            texts = {"README.md": card_text(manifest, on_hub), "manifest.json": pretty_json(manifest)}
            for name, text in texts.items():
                (Path(scratch) / name).write_text(text, encoding="utf-8", newline="\n")
            return data | {name: Local(Path(scratch) / name) for name in texts}

        told = files(OnHub(place.repo, last or "", earlier))
        del told["cost.json"]  # what a build took; it is another one each time, of the same set
        if last and not hub_repo.differing(place, place.tags[last], told):
            if tag:
                raise HubError(f"{place.repo}: nothing changed since {last}, so {tag} is not made; leave --tag out")
            return Published(place.repo, last, place.tags[last], "nothing changed", 0)
        if last:
            _check_same_kind(place, last, manifest)
        before = _rows_at(place, place.tags[last], folder, manifest) if last else {}
        found = versions.changes(before, _row_sums(folder, manifest))
        tag = tag or versions.proposed(place.tags, found)
        ours = files(OnHub(place.repo, tag, (version_line(tag, str(found)), *earlier)))
        sha, num_bytes = hub_repo.commit(place, head, ours, _older(place, head), _message(manifest, found), progress)
        hub_repo.tagged(place, tag, sha, str(found))
    return Published(place.repo, tag, sha, str(found), num_bytes)


def _published_as(folder: Path, place: Place, tag: str, *, with_latents: bool) -> Published:
    """A version that is there already and holds what the folder does: manifest and files, whatever its card says.

    Raises:
        HubError: it holds something else.
    """
    manifest, sha = read_manifest(folder), place.tags[tag]
    there = _manifest_at(place, sha)
    if not with_latents and not _latents(there):
        manifest["files"] = {name: file for name, file in manifest["files"].items() if name not in _latents(manifest)}
    files = {name: Local(folder / name) for name in manifest["files"]}
    if manifest != there or hub_repo.differing(place, sha, files):
        raise hub_repo.taken(place, tag)
    return Published(place.repo, tag, sha, "nothing changed", 0)


def _check_same_kind(place: Place, last: str, manifest: dict[str, Any]) -> None:
    """Versions of one set all hold their videos, or all withhold them: the newest is what a name means.

    Raises:
        HubError: this one is otherwise.
    """
    withheld = _manifest_at(place, place.tags[last]).get("withheld", False)
    if withheld != manifest.get("withheld", False):
        told = (
            "withholds its videos, and this set has them" if withheld else "has its videos, and this set withholds them"
        )
        raise HubError(f"{place.repo}: {last} {told}; choose another name")


def push_model(
    folder: Path, repo: str, progress: Progress, *, private: bool = False, tag: str | None = None
) -> Published:
    """Publish a model that gv-train wrote: weights as safetensors, configurations and its card.

    Raises:
        DatasetError: the folder is no model of gv-train.
        HubError: see `hub_repo`.
    """
    card = folder / "README.md"
    if not card.is_file() or MODEL_TAG not in card.read_text("utf-8") or not (folder / "gigavideo.json").is_file():
        raise DatasetError(f"{folder}: no model that gv-train wrote; it is the folder `model` of a run")
    paths = sorted(path for path in folder.rglob("*") if path.suffix in MODEL_ENDINGS or path == folder / CURVES)
    paths = [path for path in paths if not path.is_symlink()]
    files = {path.relative_to(folder).as_posix(): Local(path) for path in paths if path.is_file()}
    place = hub_repo.preflight(repo, kind="model", card_tag=MODEL_TAG, private=private, tag=tag)
    if tag and tag in place.tags:
        if hub_repo.differing(place, place.tags[tag], files):
            raise hub_repo.taken(place, tag)
        return Published(repo, tag, place.tags[tag], "nothing changed", 0)
    head = hub_repo.made(place)
    message = f"{folder.resolve().parent.name}: tuned model", ""
    sha, num_bytes = hub_repo.commit(place, head, files, (), message, progress)
    if tag:
        hub_repo.tagged(place, tag, sha, "")
    return Published(repo, tag, sha, "a new commit" if num_bytes else "nothing changed", num_bytes)


# --- what changed ----------------------------------------------------------------------------------------------------


def _row_sums(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """A sum of each row's values, by id."""
    sums: dict[str, str] = {}
    for name in _shards(manifest):
        sums |= _sums_of(pq.read_table(folder / name, columns=COLUMNS))
    return sums


def _rows_at(place: Place, sha: str, folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """The same of a published version: of its shards only columns without clips are read, and equal ones not at all."""
    where = f"{place.repo}@{sha[:8]}"
    old = _manifest_at(place, sha)
    here = {file["sha256"]: name for name, file in manifest["files"].items()}
    sums: dict[str, str] = {}
    for name in _shards(old):
        if not FILE_NAME.fullmatch(name):
            raise HubError(f"{where}: its manifest names a file {name!r}; this is no set of ours")
        same = here.get(old["files"][name]["sha256"])
        if same:
            sums |= _sums_of(pq.read_table(folder / same, columns=COLUMNS))
            continue
        sums |= _sums_of(hub_read.read_columns(Version(place.repo, sha[:8], sha), name, COLUMNS))
    return sums


def _manifest_at(place: Place, sha: str) -> dict[str, Any]:
    path = hub_repo.file_at(place, sha, "manifest.json")
    manifest: dict[str, Any] = json.loads(path.read_text("utf-8")) if path else {"files": {}}
    return manifest


def _latents(manifest: dict[str, Any]) -> set[str]:
    return {name for name in manifest["files"] if name.startswith(f"{LATENTS_FOLDER}/")}


def _versions_at(place: Place, sha: str) -> tuple[str, ...]:
    card = hub_repo.file_at(place, sha, "README.md")
    return versions_told(card.read_text("utf-8")) if card else ()


def _older(place: Place, sha: str) -> Iterable[str]:
    """Files that an older version of ours put there."""
    return filter(FILE_NAME.fullmatch, _manifest_at(place, sha)["files"])


def _shards(manifest: dict[str, Any]) -> list[str]:
    return sorted(name for name in manifest["files"] if name.startswith("data/"))


def _sums_of(table: pa.Table) -> dict[str, str]:
    rows = (row for batch in table.to_batches(256) for row in batch.to_pylist())
    return {row["id"]: hashlib.sha256(canonical(row)).hexdigest() for row in rows}


def _message(manifest: dict[str, Any], found: Changes) -> tuple[str, str]:
    rows = sum(manifest["rows"].values())
    facts = {"recipe_hash": manifest["recipe_hash"], "rows": manifest["rows"], "format": manifest["format"]}
    return f"{manifest['name']}: {rows} rows, recipe {manifest['recipe_hash']} ({found})", json.dumps(
        facts, sort_keys=True
    )

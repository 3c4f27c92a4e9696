"""A Hub on the loopback that the genuine `huggingface_hub` and `datasets` clients talk to, with a table of faults.

It covers the path of Git LFS: repositories of datasets and models, previews of uploads, commits with a parent, tags,
trees, ranged downloads, tokens that may write or only read, private repositories. Not the path of xet, which real users
take where the package hf_xet is at work: what is sent in chunks there, is sent whole here. Clients need
`HF_HUB_DISABLE_XET=1` and `HF_ENDPOINT` set before they are imported.

    python -m tests.support.hub_server --port 8008      # by hand, see `make hub`
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_state import Commit, File, Hub, Repo
from tests.support.loopback import listening

WRITES, READS = "hf_writes", "hf_reads"  # tokens, and what they may
USER, ORG = "somebody", "org"
INLINE = 10_000  # bytes up to which a file that is not binary by its name is no LFS object
BINARY = (".parquet", ".safetensors", ".mp4", ".png")


class _Refused(Exception):
    """Answered with a status and a code that the client knows."""

    def __init__(self, status: int, code: str = "", said: str = "") -> None:
        super().__init__(said or code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing: requests are in `Hub.asked`."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        size = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(size) if size else self._chunks()
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.hub.asked.append((self.command, url.path))
        self.met = self.hub.fault(self.command, url.path)
        if self.met:
            time.sleep(self.met.delay_s)
            if self.met.status:
                self._answer(self.met.status, {"error": "a fault of the table"}, self.met.headers)
                return
            if self.met.meddle:
                repo = self.hub.repo("/".join(parts[2:4]))
                self.hub.commit(repo, "somebody else's", "", repo.commits[-1].files | self.met.meddle)
        try:
            with self.hub.lock:
                self._route(parts)
        except _Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self._answer(refused.status, {"error": str(refused)}, headers | {"X-Error-Message": str(refused)})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _chunks(self) -> bytes:
        body = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def _answer(self, status: int, data: Any = None, headers: dict[str, str] | None = None) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        if self.met and self.met.drop:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # a client that gave up waiting
                self.wfile.write(body)

    # --- who asks -----------------------------------------------------------------------------------------------------

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _may_write(self) -> None:
        if self._token() == READS:
            raise _Refused(403, said="this token may not write")
        if self._token() != WRITES:
            raise _Refused(401, said="Invalid credentials in Authorization header")

    # --- what is asked ------------------------------------------------------------------------------------------------

    def _route(self, parts: list[str]) -> None:
        match parts:
            case ["api", "whoami-v2"]:
                self._whoami()
            case ["api", "validate-yaml"]:
                self._answer(200, {"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create()
            case ["api", "datasets" | "models" as kind, owner, name, *rest]:
                self._api(kind, f"{owner}/{name}", rest)
            case ["datasets", owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                self._lfs_batch("datasets", f"{owner}/{name.removesuffix('.git')}")
            case [owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                self._lfs_batch("models", f"{owner}/{name.removesuffix('.git')}")
            case ["lfs", oid]:
                self._lfs(oid)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self._resolve("datasets", f"{owner}/{name}", revision, "/".join(path))
            case [owner, name, "resolve", revision, *path]:
                self._resolve("models", f"{owner}/{name}", revision, "/".join(path))
            case _:
                raise _Refused(404, said=f"nothing at {'/'.join(parts)}")

    def _whoami(self) -> None:
        if self._token() not in (WRITES, READS):
            raise _Refused(401, said="Invalid user token")
        role = "write" if self._token() == WRITES else "read"
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
        orgs = [{"type": "org", "name": ORG} | ({"roleInOrg": self.hub.role} if self.hub.role else {})]
        self._answer(200, {"type": "user", "name": USER, "id": "1", "orgs": orgs, "auth": token})

    def _create(self) -> None:
        self._may_write()
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        if name.split("/")[0] not in (USER, *([ORG] if self.hub.org_takes_repos else [])):
            raise _Refused(403, said=f"You don't have the rights to create a repo under {name.split('/')[0]}")
        kind = {"dataset": "datasets"}.get(asked.get("type", "model"), "models")
        private = asked.get("private") or asked.get("visibility") == "private"
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if not self.hub.create(kind, name, private=bool(private)):
            self._answer(409, {"error": "You already created this repo", "url": url})
            return
        self._answer(200, {"url": url, "id": name})

    def _found(self, kind: str, name: str) -> Repo:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and self._token() not in (WRITES, READS)):
            raise _Refused(404 if self._token() else 401, "RepoNotFound", "Repository not found")
        return repo

    def _commit_at(self, repo: Repo, revision: str) -> Commit:
        commit = repo.at(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _api(self, kind: str, name: str, rest: list[str]) -> None:
        repo = self._found(kind, name)
        match self.command, rest:
            case "GET", []:
                self._info(name, repo, repo.commits[-1])
            case "GET", ["revision", revision]:
                self._info(name, repo, self._commit_at(repo, revision))
            case "GET", ["tree", revision, *folder]:
                self._tree(self._commit_at(repo, revision), "/".join(folder))
            case "POST", ["paths-info", revision]:
                files = self._commit_at(repo, revision).files
                paths = parse_qs(self.body.decode()).get("paths", [])
                if self.headers.get("Content-Type", "").startswith("application/json"):
                    paths = json.loads(self.body)["paths"]
                self._answer(200, [_entry(path, files[path]) for path in paths if path in files])
            case "GET", ["refs"]:
                tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in repo.tags.items()]
                main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commits[-1].sha}
                self._answer(200, {"branches": [main], "tags": tags, "converts": []})
            case "GET", ["commits", revision]:
                last = repo.commits.index(self._commit_at(repo, revision))
                listed = [
                    {
                        "id": c.sha,
                        "title": c.title,
                        "message": c.message,
                        "authors": [],
                        "date": "2026-01-01T00:00:00.000Z",
                    }
                    for c in reversed(repo.commits[: last + 1])
                ]
                self._answer(200, listed)
            case "POST", ["preupload", revision]:
                self._may_write()
                self._preupload(self._commit_at(repo, revision))
            case "POST", ["commit", "main"]:
                self._may_write()
                self._new_commit(name, repo)
            case "POST", ["tag", revision]:
                self._may_write()
                tag = json.loads(self.body)["tag"]
                if tag in repo.tags:
                    raise _Refused(409, said=f"Tag reference already exists: {tag}")
                repo.tags[tag] = self._commit_at(repo, revision).sha
                self._answer(200, {})
            case _:
                raise _Refused(404, said=f"nothing at {'/'.join(rest)}")

    def _info(self, name: str, repo: Repo, commit: Commit) -> None:
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        facts = {
            "id": name,
            "sha": commit.sha,
            "private": repo.private,
            "siblings": siblings,
            "tags": [],
            "downloads": 0,
        }
        self._answer(200, facts | {"lastModified": "2026-01-01T00:00:00.000Z", "gated": False, "disabled": False})

    def _tree(self, commit: Commit, folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        inside = {path: file for path, file in sorted(commit.files.items()) if path.startswith(prefix)}
        if folder and not inside:
            raise _Refused(404, "EntryNotFound", f"{folder} does not exist")
        entries, folders = [], set()
        recursive = self.query.get("recursive", "").lower() in ("1", "true")
        for path, file in inside.items():
            names = path.removeprefix(prefix).split("/")
            folders |= {
                prefix + "/".join(names[:depth]) for depth in range(1, len(names) if recursive else min(2, len(names)))
            }
            if recursive or len(names) == 1:
                entries.append(_entry(path, file))
        trees = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        self._answer(200, trees + entries)

    def _preupload(self, commit: Commit) -> None:
        files = []
        for asked in json.loads(self.body)["files"]:
            path, present = asked["path"], commit.files.get(asked["path"])
            lfs = path.endswith(BINARY) or asked["size"] > INLINE
            known = {} if present is None else {"oid": present.sha256 if present.lfs else present.oid}
            files.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, **known})
        self._answer(200, {"files": files})

    def _lfs_batch(self, kind: str, name: str) -> None:
        self._found(kind, name)
        self._may_write()
        objects = []
        for asked in json.loads(self.body)["objects"]:
            verify = {"href": f"{self.hub.endpoint}/lfs/{asked['oid']}"}
            upload = {"href": f"{self.hub.store_endpoint or self.hub.endpoint}/lfs/{asked['oid']}"}
            known = asked["oid"] in self.hub.objects
            objects.append({**asked, **({} if known else {"actions": {"upload": upload, "verify": verify}})})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _lfs(self, oid: str) -> None:
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                raise _Refused(400, said="the bytes are not those of the name")
            self.hub.objects[oid] = self.body
            self.hub.sent += len(self.body)
        elif oid not in self.hub.objects:
            raise _Refused(404, said="no such object")
        self._answer(200, {})

    def _new_commit(self, name: str, repo: Repo) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, repo.commits[-1].sha):
            raise _Refused(412, said="A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[-1].files)
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
                case "lfsFile":
                    if value["oid"] not in self.hub.objects:
                        raise _Refused(400, said=f"{value['path']}: its LFS object was never uploaded")
                    files[value["path"]] = File(self.hub.objects[value["oid"]], lfs=True)
                case "deletedFile":
                    files.pop(value["path"])
                case "deletedFolder":
                    files = {path: file for path, file in files.items() if not path.startswith(value["path"])}
        commit = self.hub.commit(repo, header["summary"], header.get("description", ""), files)
        self._answer(
            200, {"success": True, "commitOid": commit.sha, "commitUrl": f"{self.hub.endpoint}/{name}/{commit.sha}"}
        )

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        commit = self._commit_at(self._found(kind, name), revision)
        file = commit.files.get(path)
        if file is None:
            self._answer(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.sha})
            return
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.sha256 if file.lfs else file.oid}"'}
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.data))}
        if file.lfs and self.hub.store_endpoint:
            headers |= {"Location": f"{self.hub.store_endpoint}/lfs/{file.sha256}?name={path}"}
            kept = {name: value for name, value in headers.items() if name not in self.hub.lost_headers}
            self._answer(302, b"", kept)
            return
        self._bytes(path, file.data, headers)

    def _bytes(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        """Answer with a file, or the part of it that was asked for."""
        status = 200
        if self.met and self.met.body == "swap":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        if self.command == "GET":
            self.hub.given[path] += len(data)
        if self.met and self.met.body == "cut":
            headers["Content-Length"], data = str(len(data)), data[: len(data) // 2]
            self.close_connection = True
        self._answer(status, data, headers)


class _StoreHandler(_Handler):
    """The second host, as the real Hub has one for large files: it wants no token, and must not be sent any."""

    def _route(self, parts: list[str]) -> None:
        self.hub.store_asked.append((self.command, self.headers.get("Authorization", "")))
        if self.command == "PUT":
            self._lfs(parts[-1])
            return
        files = (file for repo in self.hub.repos.values() for commit in repo.commits for file in commit.files.values())
        data = next(file.data for file in files if file.sha256 == parts[-1])
        self._bytes(self.query["name"], data, {"ETag": f'"{parts[-1]}"', "Accept-Ranges": "bytes"})


def _entry(path: str, file: File) -> dict[str, Any]:
    lfs = {"lfs": {"oid": file.sha256, "size": len(file.data), "pointerSize": 130}} if file.lfs else {}
    return {"type": "file", "path": path, "size": len(file.data), "oid": file.oid, **lfs}


@contextmanager
def serving(port: int = 0) -> Iterator[Hub]:
    """A Hub at `Hub.endpoint` until the block ends."""
    hub = Hub()
    with listening(type("Handler", (_Handler,), {"hub": hub}), port) as hub.endpoint:
        yield hub


@contextmanager
def serving_from_two_hosts() -> Iterator[Hub]:
    """A Hub that answers downloads of large files with 302 to a second host on another port."""
    with serving() as hub, listening(type("Handler", (_StoreHandler,), {"hub": hub})) as hub.store_endpoint:
        yield hub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8008)
    with serving(parser.parse_args().port) as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITES, "HF_HUB_DISABLE_XET": "1"}
        sys.stdout.write(
            "A Hub that lives until Ctrl-C. In another terminal:\n\n    export "
            + " ".join(f"{name}={value}" for name, value in settings.items())
            + f"\n    gv-data push runs/quickstart {ORG}/quickstart\n\n"
        )
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()

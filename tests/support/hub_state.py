"""What the loopback Hub holds: repositories, commits, tags, and the table of faults."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that match.

    Attributes:
        method: GET, POST ...
        path: pattern searched for in the path.
        status: answered instead of the request being done; 0, it is done.
        headers: of that answer.
        delay_s: waited first.
        drop: the request is done and its answer lost: the connection is closed.
        body: changes the bytes of a download: "cut" in half, "swap" two bytes of equal length.
        meddle: files that somebody else commits just before.
        times: how often.
    """

    method: str
    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False
    body: str = ""
    meddle: dict[str, File] | None = None
    times: int = 1


@dataclass(frozen=True)
class File:
    """One file of a commit: its bytes, and whether they lie in LFS."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """As git names it: an LFS file is a pointer there."""
        data = self.data
        if self.lfs:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Commit:
    """One commit, whole."""

    sha: str
    title: str
    message: str
    files: dict[str, File]


@dataclass
class Repo:
    """One repository: its commits from the first to the last, and its tags."""

    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, tag or hash."""
        if revision == "main":
            return self.commits[-1]
        sha = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.sha == sha), None)


class Hub:
    """The state, and what was asked."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str]] = []
        self.sent = 0  # bytes of LFS objects that came in
        self.given: Counter[str] = Counter()  # bytes that went out, by file
        self.lock = threading.RLock()
        self.endpoint = ""
        self.role: str | None = "write"  # in the organisation; None: unknown
        self.org_takes_repos = True
        self.store_endpoint = ""  # of a second host for large files, if there is one
        self.lost_headers: set[str] = set()  # of the answers that send there
        self.store_asked: list[tuple[str, str]] = []  # of that host: method and Authorization

    def repo(self, name: str, kind: str = "datasets") -> Repo:
        """A repository that is there."""
        return self.repos[kind, name]

    def create(self, kind: str, name: str, *, private: bool) -> bool:
        """Make a repository with its first commit; False, it is there."""
        if (kind, name) in self.repos:
            return False
        self.repos[kind, name] = Repo(private)
        self.commit(self.repos[kind, name], "initial commit", "", {".gitattributes": File(b"", lfs=False)})
        return True

    def commit(self, repo: Repo, title: str, message: str, files: dict[str, File]) -> Commit:
        """Put a commit on top."""
        tree = "".join(f"{path} {file.oid}\n" for path, file in sorted(files.items()))
        parent = repo.commits[-1].sha if repo.commits else ""
        sha = hashlib.sha1(f"{parent}{title}{tree}{time.time_ns()}".encode(), usedforsecurity=False).hexdigest()
        repo.commits.append(Commit(sha, title, message, files))
        return repo.commits[-1]

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, used up once."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

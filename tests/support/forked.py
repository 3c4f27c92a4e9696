"""Commands in processes of their own that need not import first: they are forked from a server that has.

Importing takes most of the time of a short command. A command gets the arguments, folder and environment that a new
interpreter would get, and ends as it would: by its exit code or by a signal. Only what a library reads when it is
imported is the server's: so the commands whose environments name another Hub come from one without the Hub's client.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

COMMANDS = {"gv-data": "gigavideo_data.cli", "gv-train": "gigavideo_train.cli", "gv-loop": "gigavideo_loop.cli"}
WITHOUT_HUB = (
    "av", "cv2", "filelock", "ftfy", "httpcore2", "httpx2", "jinja2", "numpy", "pandas", "PIL.Image", "psutil",
    "pyarrow.dataset", "pyarrow.parquet", "pydantic", "regex", "requests", "rich.progress", "safetensors.torch",
    "scipy.io", "scipy.ndimage", "scipy.optimize", "scipy.sparse", "scipy.stats", "sympy", "tokenizers", "torch",
    "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.utils.flop_counter", "yaml",
    "gigavideo_data.cli", "gigavideo_data.pipeline.sources.intake", "gigavideo_data.pipeline.execution.runner",
)  # fmt: skip
WITH_HUB = (
    *WITHOUT_HUB, "datasets", "diffusers.pipelines.wan.pipeline_wan", "peft", "transformers.models.umt5.modeling_umt5",
    "gigavideo_data.commands.build", "gigavideo_train.cli", "gigavideo_train.training",
)  # fmt: skip


class Forked:
    """A command at work: what tests ask of a `subprocess.Popen`."""

    def __init__(
        self,
        command: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        folder: Path | None = None,
        *,
        hub: bool = False,
    ) -> None:
        """Begin one of `COMMANDS`; with `hub`, it reads from `env` where the Hub is."""
        self.out = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - open as long as this is there
        self.err = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self.link, theirs = socket.socketpair()
        with theirs:
            fds = [theirs.fileno(), self.out.fileno(), self.err.fileno()]
            socket.send_fds(_server(WITHOUT_HUB if hub else WITH_HUB), [b"+"], fds)
        asked = {"command": command, "arguments": arguments, "env": dict(env), "folder": str(folder or Path.cwd())}
        self.link.sendall(json.dumps(asked).encode() + b"\n")
        self.pid = int(self.link.recv(16))
        self.returncode: int | Any = None  # as Popen has it

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended: its exit code, or minus the signal that killed it."""
        if self.returncode is None:
            self.link.settimeout(timeout)
            self.returncode = int(self.link.recv(16))
            self.link.close()
        return self.returncode

    def poll(self) -> int | None:
        with suppress(BlockingIOError):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and read what it wrote to stdout and stderr."""
        self.wait(timeout)
        for file in (self.out, self.err):
            file.seek(0)
        return self.out.read(), self.err.read()


@cache
def _server(modules: tuple[str, ...]) -> socket.socket:
    """Where to ask a server of these modules; it ends with the tests' process, which holds the other end."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno()), *modules]
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env)
    return ours


def _serve(control: socket.socket) -> socket.socket:
    """Fork for each that asks: this returns in the forked process, with the link to who asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the tests' process decides what ends
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        said, fds, _, _ = socket.recv_fds(control, 1, 3)
        if not said:
            sys.exit()
        if os.fork() == 0:
            break
        for fd in fds:
            os.close(fd)
    control.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    link, out, err = fds
    for number, fd in enumerate((out, err), start=1):
        os.dup2(fd, number)
        os.close(fd)
    return socket.socket(fileno=link)


def _attend(link: socket.socket) -> None:
    """Fork once more and tell how that process ends. This returns in that process alone."""
    pid = os.fork()
    if pid == 0:
        return
    link.sendall(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def main() -> None:
    """Be a server, and then a command."""
    control, *modules = sys.argv[1:]
    for module in modules:
        with suppress(ModuleNotFoundError):  # not every environment of the tests has all of them
            importlib.import_module(module)
    assert set(modules) > set(WITHOUT_HUB) or "huggingface_hub" not in sys.modules
    link = _serve(socket.socket(fileno=int(control)))
    with link.makefile() as lines:
        asked = json.loads(lines.readline())
    _attend(link)
    link.close()
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = [asked["command"], *asked["arguments"]]
    sys.path[:0] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    with suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    importlib.import_module(COMMANDS[asked["command"]]).main()


if __name__ == "__main__":
    main()

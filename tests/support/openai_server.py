"""A loopback server that talks as OpenAI's chat completions do, so that the genuine client is tested.

What it answers is a function of the request; what goes wrong is a list of faults, one per request, until it is empty.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import listening

Request = dict[str, Any]


@dataclass
class Server:
    """What a test sees of it: `endpoint`, the requests so far, and faults to come (a status, or "drop")."""

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    faults: list[int | str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(answer: Callable[[Request], str | bytes | dict[str, Any]]) -> Iterator[Server]:
    """Serve until the block ends; `answer` gives a text, the whole `choices[0]`, or the body's bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with state.lock:
                state.requests.append(request | {"path": self.path, "key": self.headers.get("authorization")})
                fault = state.faults.pop(0) if state.faults else None
            if fault == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if fault is not None:
                self._send(int(fault), {"error": {"message": f"as requested: {fault}"}})
                return
            said = answer(request)
            if isinstance(said, bytes):
                self._send_bytes(200, said)
                return
            choice = {"message": {"role": "assistant", "content": said}} if isinstance(said, str) else said
            self._send(
                200,
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": request["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", **choice}],
                    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
                },
            )

        def _send(self, status: int, body: dict[str, Any]) -> None:
            self._send_bytes(status, json.dumps(body).encode())

        def _send_bytes(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.send_header("retry-after-ms", "1")  # the client waits as long as the server says
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            pass

    with listening(Handler) as address:
        state = Server(f"{address}/v1")
        yield state


def form(request: Request) -> str:
    """The name of the schema that a request asks for."""
    name: str = request["response_format"]["json_schema"]["name"]
    return name

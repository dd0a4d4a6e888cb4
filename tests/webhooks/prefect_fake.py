"""A Prefect API over real HTTP that can fail in every way, and counts what was started."""

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from linkspan.prefect_api.server import Server

PASSWORD = "linkspan:of the fake"


@dataclass(frozen=True)
class Failure:
    """Instead of an answer: a status and a body, bytes as they are, silence, or a connection that breaks."""

    status: int = 500
    body: bytes = b'{"detail": "because"}'
    # "drop": close without a word; "reset": RST; "late": do the work, then close before the answer.
    how: str = "answer"
    seconds: float = 0.0


@dataclass
class PrefectFake:
    """State of the fake. `fail` is asked for each request; None lets it pass."""

    port: int = 0
    runs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """(deployment, idempotency key) → the run."""
    asked: Counter[str] = field(default_factory=Counter)
    events: list[dict[str, Any]] = field(default_factory=list)
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    fail: Callable[[str, str], Failure | None] = lambda _method, _path: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    parameters: tuple[str, ...] = ("hint",)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @cached_property
    def _server(self) -> Server:
        return Server(self.api_url, SecretStr(PASSWORD))

    def server(self) -> Server:
        """One client for all calls, as the receiver has it."""
        return self._server

    def started(self) -> Counter[str]:
        """Runs of each deployment."""
        with self.lock:
            return Counter(deployment for deployment, _ in self.runs)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:  # noqa: PLR0911 one per path
        parts = path.removeprefix("/api/").strip("/").split("/")
        match method, parts:
            case "GET", ["ready"]:
                return 200, "OK"
            case "GET", ["admin", "version"]:
                return 200, "3.8.8"
            case "GET", ["deployments", "name", flow, name] if "missing" not in name:
                schema: dict[str, Any] = {"properties": {name: {} for name in self.parameters}}
                return 200, {"id": f"{flow}~{name}", "parameter_openapi_schema": schema}
            case "POST", ["deployments", one, "create_flow_run"]:
                return self.create(one.replace("~", "/"), body)
            case "POST", ["events"]:
                with self.lock:
                    self.events += body
                return 204, None
            case "POST", ["block_types", "filter"]:
                return 200, [{"slug": "webhook-source"}]
            case "GET", ["block_types", "slug", "webhook-source", "block_documents"]:
                return 200, [{"name": name, "data": data} for name, data in self.blocks.items()]
        return 404, {"detail": "Not Found"}

    def create(self, deployment: str, body: Any) -> tuple[int, Any]:
        key = (deployment, body["idempotency_key"])
        with self.lock:
            self.asked[deployment] += 1
            known = key in self.runs
            run = self.runs.setdefault(key, {"id": str(uuid4()), "name": f"run-{len(self.runs)}", **body})
        return (200 if known else 201), run


@contextmanager
def prefect_fake(port: int = 0, state: PrefectFake | None = None) -> Iterator[PrefectFake]:
    """A fake that listens; with `port` and `state` one that comes back with all it knew."""
    fake = state or PrefectFake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.serve()

        def do_POST(self) -> None:
            self.serve()

        def serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            path = self.path.partition("?")[0]
            failure = fake.fail(self.command, path)
            if failure is None or failure.how == "late":
                status, document = fake.answer(self.command, path, body)
                data = json.dumps(document).encode()
            if failure is not None:
                time.sleep(failure.seconds)
                if failure.how != "answer":
                    self.hang_up(reset=failure.how == "reset")
                    return
                status, data = failure.status, failure.body
            self.send_response(status)
            self.send_header("Content-Length", str(0 if status == 204 else len(data)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"" if status == 204 else data)

        def hang_up(self, *, reset: bool) -> None:
            if reset:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            return  # those who ask are killed in these tests

    server = Server(("127.0.0.1", port), Handler)
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

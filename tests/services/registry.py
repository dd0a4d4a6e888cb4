"""Real registries, CNCF Distribution 2.8 from Debian and 3 from Go modules, and a proxy that counts bytes."""

import http.client
import json
import os
import re
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import SecretStr

from linkspan.processes import Child, free_port, listens
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.settings import RegistrySettings
from tests.gomodule import Unavailable
from tests.registry.fake import immutable
from tests.services.distribution.program import program
from tests.services.shared import PIDS, of_this_run

USER, PASSWORD = "pusher", "s3cret-of-the-tests"

_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
auth: {{htpasswd: {{realm: tests, path: {htpasswd}}}}}
http: {{addr: "127.0.0.1:{port}", secret: of-the-tests}}
"""


@dataclass(frozen=True)
class RunningRegistry:
    """Where it is and who may push."""

    host: str
    username: str
    password: str

    def settings(self, prefix: str = "", host: str = "") -> RegistrySettings:
        """Settings with the password; `host` for a proxy before it."""
        return RegistrySettings(
            host=host or self.host,
            prefix=prefix,
            username=self.username,
            password=SecretStr(self.password),
        )


def start_registry(
    folder: Path, storage: Path, serve: str | Path = "docker-registry"
) -> tuple[Child, RunningRegistry]:
    """Start one that keeps its blobs in `storage`; the caller stops it. `serve` is the program."""
    htpasswd, config, port = folder / "htpasswd", folder / "registry.yml", free_port()
    # From standard input, so that not even this password is in the process list. Cost 4: tests need speed.
    made = subprocess.run(
        ["htpasswd", "-Bin", "-C", "4", USER], input=PASSWORD, text=True, capture_output=True, check=True
    )
    htpasswd.write_text(made.stdout)
    config.write_text(_CONFIG.format(storage=storage, htpasswd=htpasswd, port=port))
    # Distribution 3 would tell its traces to a collector on this machine, which there is not.
    env = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    child = Child("the registry", [str(serve), "serve", str(config)], log=folder / "registry.log", env=env)
    try:
        child.wait_until(lambda: listens(port), seconds=600)
    except BaseException:
        child.stop()
        raise
    return child, RunningRegistry(f"127.0.0.1:{port}", USER, PASSWORD)


@pytest.fixture(scope="session")
def registry(run_folder: Path) -> RunningRegistry:
    """The registry of this run of the tests; every test uses a repository of its own (`unique_app`).

    One for all processes: to each address the engine compresses and pushes the base image anew.
    """
    said = of_this_run(run_folder, "registry", _start)
    return RunningRegistry(said["host"], USER, PASSWORD)


@pytest.fixture(scope="session")
def registry3(run_folder: Path) -> RunningRegistry:
    """Another one of this run, Distribution 3: an upload whose connection broke can go on there.

    Skips, and says why, where the machine cannot have one (no Go modules).
    """
    try:
        serve = program()
    except Unavailable as error:
        pytest.skip(f"no Distribution 3: {error}")
    said = of_this_run(run_folder, "registry3", lambda home: _start(home, serve))
    return RunningRegistry(said["host"], USER, PASSWORD)


def _start(home: Path, serve: str | Path = "docker-registry") -> dict[str, Any]:
    child, running = start_registry(home, home / "storage", serve)
    return {PIDS: [child.pid], "host": running.host}


@pytest.fixture
def unique_app() -> str:
    """A name that no other test has, for a repository, a container or a tag."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def counting_proxy(registry: RunningRegistry) -> Iterator["CountingProxy"]:
    """A proxy before the registry: use `registry.settings(host=counting_proxy.host)`."""
    with CountingProxy(registry.host) as proxy:
        yield proxy


@pytest.fixture
def app_registry(
    registry: RunningRegistry, counting_proxy: "CountingProxy", unique_app: str
) -> Iterator[Registry]:
    """A repository of its own in the registry, through the proxy that counts."""
    with registry.settings(host=counting_proxy.host).open(unique_app) as client:
        yield client


@dataclass
class Exchange:
    """A request and its answer; `sent` and `received` are bytes of their bodies, status 0 means no answer."""

    method: str
    path: str
    status: int = 0
    sent: int = 0
    received: int = 0


class CountingProxy:
    """An HTTP proxy before `upstream` that writes down every exchange; good for docker push and pull too.

    Through it no tag can be moved or put again, as at a registry with immutable tags (ECR).
    """

    def __init__(self, upstream: str) -> None:
        self.exchanges: list[Exchange] = []
        self._server = _Server(("127.0.0.1", 0), _Forward)
        self._server.upstream = upstream
        self._server.exchanges = self.exchanges
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def sent(self) -> int:
        """Bytes uploaded since `reset`."""
        return sum(exchange.sent for exchange in self.exchanges)

    @property
    def received(self) -> int:
        """Bytes downloaded since `reset`."""
        return sum(exchange.received for exchange in self.exchanges)

    def reset(self) -> None:
        """Start counting from zero."""
        self.exchanges.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    upstream: str
    exchanges: list[Exchange]


_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "upgrade", "proxy-connection"}


# The first byte that a client sends (RFC 8446, 5.1).
_TLS_HANDSHAKE = b"\x16"
_TAG = re.compile(r"^/v2/(.+)/manifests/([^:]+)$")  # a digest has a colon


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        """containerd 2 tries TLS first here too, and goes on without it if the answer is HTTP's."""
        if self.connection.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
            self.connection.recv(1 << 16)
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            return
        super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing: the exchanges are the log."""

    def _forward(self) -> None:
        # Written down before a byte is answered: whoever has the answer finds the exchange counted,
        # and `reset` after it counts nothing of it.
        exchange = Exchange(self.command, self.path)
        self.server.exchanges.append(exchange)
        if self.command == "PUT" and (tag := _TAG.search(self.path)) and self._is_there():
            exchange.sent = sum(len(chunk) for chunk in self._body("chunked" in self._encoding))
            return self._refuse(exchange, *tag.groups())
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=120)
        try:
            # The client's Host stays, so that the registry's locations lead through here again.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            chunked = "chunked" in self._encoding
            if chunked:
                upstream.putheader("Transfer-Encoding", "chunked")
            upstream.endheaders()
            for chunk in self._body(chunked):
                exchange.sent += len(chunk)
                upstream.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if chunked:
                upstream.send(b"0\r\n\r\n")
            response = upstream.getresponse()
            exchange.status = response.status
            self._answer(response, exchange)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            upstream.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

    @property
    def _encoding(self) -> str:
        return self.headers.get("Transfer-Encoding", "")

    def _is_there(self) -> bool:
        """Whether a manifest is at the path that is asked for."""
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=120)
        login = self.headers.get("Authorization")
        try:
            kinds = {"Accept": ", ".join(media.MANIFESTS)} | ({"Authorization": login} if login else {})
            upstream.request("HEAD", self.path, headers=kinds)
            return upstream.getresponse().status == 200
        finally:
            upstream.close()

    def _refuse(self, exchange: Exchange, repository: str, tag: str) -> None:
        said = {"errors": [{"code": "TAG_INVALID", "message": immutable(repository, tag)}]}
        body = json.dumps(said).encode()
        exchange.status, exchange.received = 400, len(body)
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self, chunked: bool) -> Iterator[bytes]:
        if not chunked:
            yield from _exactly(self.rfile, int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield from _exactly(self.rfile, size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, response: http.client.HTTPResponse, exchange: Exchange) -> None:
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP | {"date", "server"}:
                self.send_header(name, value)
        bodiless = self.command == "HEAD" or response.status in (204, 304)
        chunked = response.getheader("Content-Length") is None and not bodiless
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not bodiless and (chunk := response.read(1 << 16)):
            exchange.received += len(chunk)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


def _exactly(stream: BufferedIOBase, size: int) -> Iterator[bytes]:
    while size:
        chunk = stream.read(min(size, 1 << 16))
        if not chunk:
            raise ConnectionError("the client hung up in the middle of its body")
        size -= len(chunk)
        yield chunk

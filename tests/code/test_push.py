"""Pushing with the real engine to a real registry."""

import threading
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from linkspan.code.builder import Builder
from linkspan.code.push import push_error
from linkspan.errors import (
    BuildFailed,
    RegistryDenied,
    RegistryFull,
    RegistryUnavailable,
)
from linkspan.processes import free_port
from tests.code.apps import quiet
from tests.services.registry import CountingProxy, RunningRegistry


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("unauthorized: authentication required", RegistryDenied),
        ("denied: requested access to the resource is denied", RegistryDenied),
        ("received unexpected HTTP status: 507 Insufficient Storage", RegistryFull),
        ('Get "http://h/v2/": dial tcp 127.0.0.1:1: connect: connection refused', RegistryUnavailable),
        ("dial tcp: lookup h on 1.1.1.1:53: no such host", RegistryUnavailable),
        ("received unexpected HTTP status: 500 Internal Server Error", RegistryUnavailable),
        ("toomanyrequests: slow down", RegistryUnavailable),
    ],
)
def test_what_the_engine_says_about_a_push(text: str, kind: type[Exception]) -> None:
    error = push_error("h.example.com/team/app", text)
    assert type(error) is kind
    assert "h.example.com" in str(error)


def test_push(
    client: docker.DockerClient, builder: Builder, image: str, registry: RunningRegistry, unique_app: str
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    said: list[str] = []
    digest = builder.push(image, f"{registry.host}/{unique_app}", "code-1", auth, say=said.append)
    assert registry.settings().open(unique_app).exists("code-1") == digest
    assert builder.pushed
    assert registry.host in said[-1]
    pushed = builder.pushed
    assert builder.push(image, f"{registry.host}/{unique_app}", "code-1", auth, say=quiet) == digest
    assert builder.pushed == pushed, "what is there already does not move"


def test_push_with_a_wrong_password(
    builder: Builder, image: str, registry: RunningRegistry, unique_app: str
) -> None:
    auth = {"username": registry.username, "password": "wrong-s3cret"}
    with pytest.raises(RegistryDenied) as caught:
        builder.push(image, f"{registry.host}/{unique_app}", "code-1", auth, say=quiet)
    assert "wrong-s3cret" not in str(caught.value) + repr(caught.value)
    assert registry.host in str(caught.value)


def test_push_to_nowhere(builder: Builder, image: str) -> None:
    with pytest.raises(RegistryUnavailable):
        builder.push(image, f"127.0.0.1:{free_port()}/x", "code-1", say=quiet)
    with pytest.raises(BuildFailed, match="not in the engine any more"):
        builder.push(f"sha256:{'0' * 64}", "127.0.0.1:1/x", "code-1", say=quiet)


def test_push_to_a_full_registry_fails_soon(
    *,
    builder: Builder,
    image: str,
    registry: RunningRegistry,
    unique_app: str,
    full_registry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    api = builder._client.api
    push, heard = api.push, list[str]()

    def listened(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for line in push(*args, **kwargs):
            heard.append(str(line))
            yield line

    monkeypatch.setattr(api, "push", listened)
    with pytest.raises(RegistryFull, match="space"):
        builder.push(image, f"{full_registry}/{unique_app}", "code-1", auth, say=quiet)
    retries = [line for line in heard if "Retrying" in line]
    assert retries == heard[-1:], (
        "at the first of them: the engine alone would wait for 50 s between its tries"
    )


@pytest.fixture
def full_registry(registry: RunningRegistry) -> Iterator[str]:
    """The registry behind a proxy that answers uploads as Distribution 2.8 does on a full disk (measured)."""
    import http.client
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    body = (
        b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem",'
        b'"Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}'
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.command in {"POST", "PATCH", "PUT"} and "Authorization" in self.headers:
                self.answer(500, {"Content-Type": "application/json"}, body)
                self.close_connection = True
                return
            upstream = http.client.HTTPConnection(registry.host)
            upstream.request(self.command, self.path, headers=dict(self.headers.items()))
            response = upstream.getresponse()
            self.answer(response.status, dict(response.getheaders()), response.read())
            upstream.close()

        do_POST = do_PUT = do_PATCH = do_HEAD = do_GET  # noqa: N815

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_push_moves_the_base_only_once(
    builder: Builder, image: str, registry: RunningRegistry, counting_proxy: CountingProxy, unique_app: str
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    repository = f"{counting_proxy.host}/{unique_app}"
    builder.push(image, repository, "code-1", auth, say=quiet)
    first = counting_proxy.sent
    counting_proxy.reset()
    builder.push(image, repository, "code-2", auth, say=quiet)
    assert first > 10_000_000
    assert counting_proxy.sent < 20_000

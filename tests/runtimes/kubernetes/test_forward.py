"""HTTP to a port of a pod: what is the app's doing, and what is that of the way to it."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
import websocket
from websockets.sync.server import ServerConnection, serve

from linkspan.runtimes.asking import CannotAsk, ask
from linkspan.runtimes.kubernetes.forward import http_through

PORT = 8080
BEGINS = [bytes([channel]) + struct.pack("<H", PORT) for channel in (0, 1)]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + 100_000 * b"x"
Kubelet = Callable[[ServerConnection], None]


@contextmanager
def through(kubelet: Kubelet) -> Iterator[httpx.Client]:
    """A client whose requests go to a server that does with each connection what `kubelet` does."""
    with serve(kubelet, "127.0.0.1", 0, subprotocols=["v4.channel.k8s.io"], compression=None) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = "ws://{}:{}".format(*server.socket.getsockname()[:2])

        def connect(seconds: float) -> websocket.WebSocket:
            return websocket.create_connection(url, timeout=seconds, subprotocols=["v4.channel.k8s.io"])

        with http_through(connect, PORT) as client:
            yield client
        server.shutdown()
        thread.join()


def begin(connection: ServerConnection) -> None:
    for message in BEGINS:
        connection.send(message)


def requested(connection: ServerConnection) -> bytes:
    """The request, as far as it is in the first message."""
    message = connection.recv()
    assert isinstance(message, bytes)
    assert message[0] == 0
    return message[1:]


def test_an_answer_in_pieces_with_the_end_right_behind_it() -> None:
    asked: list[bytes] = []

    def kubelet(connection: ServerConnection) -> None:
        begin(connection)
        asked.append(requested(connection))
        for at in range(0, len(ANSWER), 1000):
            connection.send(b"\0" + ANSWER[at : at + 1000])

    with through(kubelet) as client:
        answer = ask(client, "GET", "/readyz", seconds=60)
    assert (answer.status_code, len(answer.content)) == (200, 100_000)
    head = asked[0].decode()
    assert head.startswith("GET /readyz HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{PORT}" in head


def test_a_port_that_nobody_listens_on_is_the_apps() -> None:
    def kubelet(connection: ServerConnection) -> None:
        begin(connection)
        connection.send(b"\1an error occurred: dial tcp4 127.0.0.1:8080: connect: connection refused")
        requested(connection)

    with through(kubelet) as client, pytest.raises(httpx.ReadError, match=r"^connection refused$"):
        ask(client, "GET", "/", seconds=60)


def test_an_app_that_hangs_up_is_the_apps() -> None:
    def kubelet(connection: ServerConnection) -> None:
        begin(connection)
        requested(connection)

    with through(kubelet) as client, pytest.raises(httpx.RemoteProtocolError):
        ask(client, "GET", "/", seconds=60)


def test_a_connection_that_is_cut_on_the_way_is_nobodys() -> None:
    def kubelet(connection: ServerConnection) -> None:
        begin(connection)
        requested(connection)
        connection.socket.shutdown(socket.SHUT_RDWR)

    with through(kubelet) as client, pytest.raises(CannotAsk, match="was cut on its way"):
        ask(client, "GET", "/", seconds=60)


def test_a_connection_that_is_reset_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    def kubelet(connection: ServerConnection) -> None:
        begin(connection)
        requested(connection)

    def reset(_: websocket.WebSocket) -> bytes:
        raise ConnectionResetError(104, "Connection reset by peer")

    with through(kubelet) as client:
        monkeypatch.setattr(websocket.WebSocket, "recv", reset)
        with pytest.raises(CannotAsk, match=r"was cut on its way .*reset by peer"):
            ask(client, "GET", "/", seconds=60)


def test_a_port_that_is_never_opened_is_nobodys() -> None:
    silent = threading.Event()

    def kubelet(_: ServerConnection) -> None:
        silent.wait(60)

    with through(kubelet) as client:
        with pytest.raises(CannotAsk, match="not opened in time"):
            ask(client, "GET", "/", seconds=0.2)
        silent.set()


def test_what_may_become_a_gigabyte_is_not_unpacked() -> None:
    def kubelet(connection: ServerConnection) -> None:
        begin(connection)
        requested(connection)
        connection.send(b"\0HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 3\r\n\r\nabc")

    with through(kubelet) as client, pytest.raises(httpx.ReadError, match="packed with zstd"):
        ask(client, "GET", "/", seconds=60)

"""HTTP to a port of a pod through the API server, as `kubectl port-forward` reaches it.

The kubelet connects from inside of the pod, so neither a NetworkPolicy nor a firewall between API server and
nodes is in the way. The protocol is v4.channel.k8s.io of kubernetes
staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go: of each port a channel with data and
one with errors, either begins with the port's number. The kubernetes package has a client of it that loses
what came just before the end.
"""

import ssl
from collections.abc import Callable
from typing import Any

import httpcore
import httpx
import websocket

from linkspan.runtimes.asking import CannotAsk

_DATA, _ERROR = 0, 1
_SECONDS = 15.0
_MOST = 64 << 10
"""Bytes in one message; the kubelet's side reads no more at once."""

Connect = Callable[[float], websocket.WebSocket]
"""Opens a port of a pod, within so many seconds."""


def http_through(connect: Connect, port: int) -> httpx.Client:
    """A client whose every connection is one that `connect` makes: it opens the `port` of a pod.

    What `connect` raises comes out of the request.
    """
    transport = httpx.HTTPTransport(trust_env=False)
    # httpx has no option for it.
    transport._pool = httpcore.ConnectionPool(network_backend=_Backend(connect))
    # One connection a request, as the engine's trial has it: an app that crashed has closed it.
    base = f"http://127.0.0.1:{port}"
    return httpx.Client(transport=transport, base_url=base, headers={"Connection": "close"})


class _Backend(httpcore.NetworkBackend):
    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def connect_tcp(self, *_: Any, timeout: float | None = None, **__: Any) -> httpcore.NetworkStream:
        return _Stream(self._connect(_SECONDS if timeout is None else timeout), timeout)


class _Stream(httpcore.NetworkStream):
    """What goes to the port and comes from it, as one stream of bytes."""

    def __init__(self, socket: websocket.WebSocket, timeout: float | None) -> None:
        self._socket = socket
        self._rest = b""
        try:
            for _ in (_DATA, _ERROR):
                self._message(timeout)
        except httpcore.ReadTimeout:
            self.close()
            raise CannotAsk("a pod's port is not opened in time") from None
        except BaseException:
            self.close()
            raise

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while not self._rest:
            channel, data = self._message(timeout)
            if channel is None:
                return b""
            if channel == _ERROR:
                raise httpcore.ReadError(_words(data))
            self._rest = data
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._socket.settimeout(timeout)
        try:
            for at in range(0, len(buffer), _MOST):
                self._socket.send_binary(bytes([_DATA]) + buffer[at : at + _MOST])
        except websocket.WebSocketTimeoutException:
            raise httpcore.WriteTimeout("the port does not take the request") from None
        except (websocket.WebSocketException, OSError) as error:
            raise httpcore.WriteError(str(error)) from None

    def close(self) -> None:
        self._socket.close(timeout=1)
        # The first does nothing once the other end has closed.
        self._socket.shutdown()  # type: ignore[no-untyped-call]

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        raise NotImplementedError("a pod is asked over plain HTTP")

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002 it has none
        return None

    def _message(self, timeout: float | None) -> tuple[int | None, bytes]:
        """The next message's channel and bytes; None when the kubelet says that the port was closed."""
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            raise httpcore.ReadTimeout("the port does not answer") from None
        except (websocket.WebSocketException, OSError) as error:
            # What the app does comes as an error of the other channel, or as an end that the kubelet tells.
            what = "the connection to a pod was cut on its way through the API server"
            raise CannotAsk(what, found=" ".join(str(error).split())[:300]) from None
        whole = data.encode() if isinstance(data, str) else bytes(data)
        return (whole[0], whole[1:]) if whole else (None, b"")


def _words(said: bytes) -> str:
    """The kubelet's error without what it is wrapped in."""
    return " ".join(said.decode(errors="replace").split()).rpartition(": ")[2] or "the port was closed"

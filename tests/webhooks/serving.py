"""The receiver under a real uvicorn, and sockets to it that behave as badly as they like."""

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from linkspan.webhooks.base import WebhookSettings
from linkspan.webhooks.http.connections import PromptConnection

SECRET = "correct horse battery staple"


def route(*start: str, secret: str = SECRET) -> WebhookSettings:
    """Settings of a route whose requests `signed` makes."""
    return WebhookSettings.model_validate(
        {"provider": "github", "secret": secret, "start": list(start) or ["app-stream/digits"]}
    )


def push(number: int | str = 0, *, branch: str = "main", more: str = "") -> bytes:
    """GitHub's body for a push, as far as it is read."""
    sha = hashlib.sha1(str(number).encode()).hexdigest()
    commit = {"message": f"Say {number}", "timestamp": "2026-11-22T20:00:00Z"}
    return json.dumps(
        {
            "ref": f"refs/heads/{branch}",
            "after": sha,
            "repository": {"full_name": "ada/digits"},
            "pusher": {"name": "ada"},
            "head_commit": commit,
            "more": more,
        }
    ).encode()


def headers(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers that GitHub sends with a body."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-GitHub-Event": "push",
        "Content-Type": "application/json",
        "X-Hub-Signature-256": f"sha256={signature}",
    }


@contextmanager
def served(app: Starlette) -> Iterator[int]:
    """The port at which the app is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            http=PromptConnection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=16 << 10,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(240)
            assert not thread.is_alive()


def raw(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts with pauses, and return all that comes until the other end closes or has said all."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as sock:
        try:
            for part in parts:
                sock.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # cut off while it was sent: what was answered before counts
        found = b""
        try:
            while chunk := sock.recv(65536):
                found += chunk
                if b"\r\n\r\n" in found and b"content-length: 0" in found.lower():
                    break
        except ConnectionResetError:
            pass
    return found


def request(body: bytes, *lines: str, path: str = "/hooks/git", length: bool = True) -> bytes:
    """A POST in bytes."""
    head = [f"POST {path} HTTP/1.1", "Host: linkspan.example", *lines]
    if length:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body

"""A fake registry that speaks real HTTP and can do wrong in every way that real ones were seen to.

Sources of the ways: measured with Distribution 2.8, and reports of users of ECR
(aws/containers-roadmap#2831), GHCR (ocx-sh/ocx#237) and ACR (dotnet/sdk-container-builds#258).
"""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

USER, PASSWORD = "ann", "s3cret-of-ann"


@dataclass
class Seen:
    """A request as it arrived. `body` holds what was read of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Ways:
    """How this registry behaves; every default is the specification's."""

    auth: str = "none"  # none, basic, token
    token_field: str = "token"
    expires_in: int | None = 300
    realm: str = ""  # empty: this server
    token_status: int = 200
    refresh_token: str = "acr-refresh"
    page: int = 0
    relative_locations: bool = False
    digest_header: bool = True
    # Keep only so many bytes of a PATCH and still say that all is well (ECR).
    keeps: int | None = None
    checks_digest: bool = True
    # Refuse a PATCH with Content-Range that is longer (GHCR).
    longest_chunk: int | None = None
    # Send blobs' readers there.
    blobs_at: str = ""
    deletes: bool = True
    # Say how far an upload got, and go on with it. Distribution 2.8 gives a session up instead whose body
    # broke off: whoever asks for it is the last.
    resumes: bool = True
    # Refuse a tag that is there, also for the same manifest (ECR, "immutable tags").
    immutable_tags: bool = False
    # Called with the request before it is answered; returns True if it answered.
    faults: list[Callable[["Handler"], bool]] = field(default_factory=list)


class FakeRegistry:
    """Starts on a free port of 127.0.0.1; `ways` may be changed at any time."""

    def __init__(self, **ways: Any) -> None:  # fields of Ways
        self.ways = Ways(**ways)
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.broken: set[str] = set()
        self.tokens: set[str] = set()
        self.seen: list[Seen] = []
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def count(self, method: str, pattern: str = "") -> int:
        """How many such requests arrived."""
        return sum(seen.method == method and bool(re.search(pattern, seen.path)) for seen in self.seen)

    def fail(
        self,
        method: str,
        pattern: str,
        status: int,
        body: bytes = b"",
        *,
        times: int = 1,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next `times` such requests so, after reading their bodies."""

        def fault(handler: "Handler") -> bool:
            handler.read_body()
            handler.answer(status, body, headers)
            return True

        self._add(method, pattern, times, fault)

    def hang_up(self, method: str, pattern: str, after: int = 0, *, times: int = 1) -> None:
        """Close the connection on the next such requests, after `after` bytes of the body."""

        def fault(handler: "Handler") -> bool:
            handler.rfile.read(after)
            handler.hang_up()
            return True

        self._add(method, pattern, times, fault)

    def cut(self, after: int, *, times: int = 1, hang_up: bool = True, status: int = 0) -> None:
        """Break the next uploads once `after` bytes of a body have been stored.

        By hanging up, or by an answer after the rest was read and dropped; where all was stored, only the
        answer is lost.
        """

        def fault(handler: "Handler") -> bool:
            name = handler.path.rpartition("/")[2].partition("?")[0]
            length = int(handler.headers["Content-Length"])
            self.uploads[name] += handler.rfile.read(min(after, length))
            if after < length:
                self.broken.add(name)
            if hang_up:
                handler.hang_up()
            else:
                handler.rfile.read(max(0, length - after))
                handler.answer(status)
            return True

        self._add("PATCH", "uploads", times, fault)

    def stall(self, after: int, until: threading.Event) -> None:
        """Read no more of the next upload than `after` bytes, until it is told to; then hang up."""

        def fault(handler: "Handler") -> bool:
            name = handler.path.rpartition("/")[2].partition("?")[0]
            self.uploads[name] += handler.rfile.read(after)
            until.wait(600)
            handler.hang_up()
            return True

        self._add("PATCH", "uploads", 1, fault)

    def forget_tokens_on(self, method: str, pattern: str) -> None:
        """All tokens end when such a request arrives, after it was authorized."""

        def fault(handler: "Handler") -> bool:
            self.tokens.clear()
            return False

        self._add(method, pattern, 1, fault)

    def _add(self, method: str, pattern: str, times: int, fault: Callable[["Handler"], bool]) -> None:
        left = [times]

        def once(handler: "Handler") -> bool:
            if handler.command != method or not re.search(pattern, handler.path) or not left[0]:
                return False
            left[0] -= 1
            return fault(handler)

        self.ways.faults.append(once)

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
    fake: FakeRegistry

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


_ERRORS = {
    "BLOB_UNKNOWN": 404,
    "MANIFEST_UNKNOWN": 404,
    "NAME_UNKNOWN": 404,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 404,
    "DIGEST_INVALID": 400,
    "TAG_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "UNSUPPORTED": 405,
}


def immutable(repository: str, tag: str) -> str:
    """What ECR says of a tag that is there."""
    return (
        f"The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten "
        "because the repository is immutable."
    )


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer with a body takes 40 ms
    server: _Server

    @property
    def fake(self) -> FakeRegistry:
        return self.server.fake

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""

    def _serve(self) -> None:
        self._seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.fake.seen.append(self._seen)
        split = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(split.query))
        if split.path in ("/token", "/oauth2/token", "/oauth2/exchange"):
            return self._token(split.path)
        if not self._authorized():
            return self._challenge()
        if any(fault(self) for fault in self.fake.ways.faults):
            return None
        if split.path == "/v2/":
            return self.answer(200, b"{}")
        match = re.fullmatch(r"/v2/(.+)/(blobs/uploads|blobs|manifests|tags)/(.*)", split.path)
        if not match:
            return self.error("NAME_UNKNOWN")
        repository, kind, name = match.groups()
        kinds = {"blobs/uploads": self._upload, "blobs": self._blob, "manifests": self._manifest}
        return kinds.get(kind, self._tags)(repository, name)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    # ----- answering

    def read_body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._seen.body = data
        return data

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        headers = headers or {}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            if len(body) < int(headers.get("Content-Length", len(body))):
                self.hang_up()

    def error(self, code: str, message: str = "") -> None:
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
        self.answer(_ERRORS[code], body, {"Content-Type": "application/json"})

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)

    # ----- login

    def _authorized(self) -> bool:
        given, auth = self.headers.get("Authorization", ""), self.fake.ways.auth
        if auth == "basic":
            return given == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return auth == "none" or (given.startswith("Bearer ") and given[7:] in self.fake.tokens)

    def _challenge(self) -> None:
        if self.command == "PATCH":
            self.close_connection = True
        else:
            self.read_body()
        realm = self.fake.ways.realm or f"http://{self.fake.host}/token"
        challenge = f'Bearer realm="{realm}",service="fake",scope="repository:x:pull,push"'
        if self.fake.ways.auth == "basic":
            challenge = 'Basic realm="fake, with a comma"'
        body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
        self.answer(401, body, {"WWW-Authenticate": challenge})

    def _token(self, path: str) -> None:
        form = dict(urllib.parse.parse_qsl(self.read_body().decode()))
        if path == "/oauth2/exchange":
            if form.get("access_token") != "entra-token":
                return self.answer(401)
            return self.answer(200, json.dumps({"refresh_token": self.fake.ways.refresh_token}).encode())
        known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        by_refresh = form.get("refresh_token") == self.fake.ways.refresh_token
        by_refresh = by_refresh and form.get("grant_type") == "refresh_token"
        if self.fake.ways.token_status != 200 or not (
            by_refresh or self.headers.get("Authorization") == known
        ):
            return self.answer(self.fake.ways.token_status if self.fake.ways.token_status != 200 else 401)
        token = f"token-{len(self.fake.seen)}"
        self.fake.tokens.add(token)
        document: dict[str, object] = {self.fake.ways.token_field: token}
        if self.fake.ways.expires_in is not None:
            document["expires_in"] = self.fake.ways.expires_in
        return self.answer(200, json.dumps(document).encode())

    # ----- the distribution API

    def _blob(self, repository: str, digest: str) -> None:
        data = self.fake.blobs.get((repository, digest))
        if data is None:
            return self.error("BLOB_UNKNOWN")
        if self.fake.ways.blobs_at and self.command == "GET":
            return self.answer(307, headers={"Location": f"{self.fake.ways.blobs_at}/{repository}/{digest}"})
        return self.answer(200, data, {"Docker-Content-Digest": digest})

    def _upload(self, repository: str, name: str) -> None:
        if self.command == "POST":
            return self._start(repository)
        session = self.fake.uploads.get(name)
        if session is None:
            self.close_connection = True
            return self.error("BLOB_UPLOAD_UNKNOWN")
        if name in self.fake.broken and not self.fake.ways.resumes:
            del self.fake.uploads[name]
            self.close_connection = True
            return self.error("BLOB_UPLOAD_INVALID")
        match self.command:
            case "GET":
                self.answer(204, headers=self._progress(repository, name))
            case "DELETE":
                del self.fake.uploads[name]
                self.answer(204)
            case "PATCH":
                self._patch(repository, name, session)
            case _:
                self._finish(repository, name, session)
        return None

    def _finish(self, repository: str, name: str, session: bytearray) -> None:
        session += self.read_body()
        found = "sha256:" + hashlib.sha256(session).hexdigest()
        if found != self.query.get("digest") and self.fake.ways.checks_digest:
            return self.error("DIGEST_INVALID", "provided digest did not match uploaded content")
        self.fake.blobs[repository, self.query["digest"]] = bytes(session)
        del self.fake.uploads[name]
        return self.answer(201, headers={"Docker-Content-Digest": found})

    def _start(self, repository: str) -> None:
        name = f"u{len(self.fake.seen)}"
        self.fake.uploads[name] = bytearray()
        return self.answer(202, headers={"Location": self._session(repository, name), "Range": "0-0"})

    def _patch(self, repository: str, name: str, session: bytearray) -> None:
        if stated := self.headers.get("Content-Range"):
            # Distribution wants `0-99`; `bytes 0-99/*` got a 500 from it. Out of order is 416.
            match = re.fullmatch(r"(\d+)-(\d+)", stated)
            status = 500 if not match else 416 if int(match[1]) != len(session) else 0
            if (
                self.fake.ways.longest_chunk
                and int(self.headers["Content-Length"]) > self.fake.ways.longest_chunk
            ):
                status = 413
            if status:
                self.close_connection = True
                return self.answer(status)
        session += self.read_body()[: self.fake.ways.keeps]
        return self.answer(202, headers=self._progress(repository, name))

    def _progress(self, repository: str, name: str) -> dict[str, str]:
        got = len(self.fake.uploads[name])
        return {"Location": self._session(repository, name), "Range": f"0-{max(0, got - 1)}"}

    def _session(self, repository: str, name: str) -> str:
        base = "" if self.fake.ways.relative_locations else f"http://{self.headers['Host']}"
        return f"{base}/v2/{repository}/blobs/uploads/{name}?_state=some%2Fstate%3D"

    def _manifest(self, repository: str, reference: str) -> None:
        if self.command == "PUT":
            return self._put_manifest(repository, reference)
        if (repository, reference) not in self.fake.manifests:
            return self.error("MANIFEST_UNKNOWN")
        data, media_type = self.fake.manifests[repository, reference]
        if self.command == "DELETE":
            if not self.fake.ways.deletes:
                return self.error("UNSUPPORTED")
            same = [k for k, v in self.fake.manifests.items() if k[0] == repository and v[0] == data]
            for key in same:
                del self.fake.manifests[key]
            return self.answer(202)
        headers = {"Content-Type": media_type}
        if self.fake.ways.digest_header:
            headers["Docker-Content-Digest"] = "sha256:" + hashlib.sha256(data).hexdigest()
        return self.answer(200, data, headers)

    def _put_manifest(self, repository: str, reference: str) -> None:
        data = self.read_body()
        document = json.loads(data)
        # Existence is checked, sizes are not: as Distribution does.
        for part in [document.get("config"), *document.get("layers", [])]:
            if part and (repository, part["digest"]) not in self.fake.blobs:
                return self.error("MANIFEST_BLOB_UNKNOWN")
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if reference.startswith("sha256:") and reference != digest:
            return self.error("DIGEST_INVALID")
        there = (repository, reference) in self.fake.manifests
        if self.fake.ways.immutable_tags and there and reference != digest:
            return self.error("TAG_INVALID", immutable(repository, reference))
        for name in (reference, digest):
            self.fake.manifests[repository, name] = data, self.headers["Content-Type"]
        return self.answer(201, headers={"Docker-Content-Digest": digest})

    def _tags(self, repository: str, _: str) -> None:
        tags = sorted(
            r for (repo, r) in self.fake.manifests if repo == repository and not r.startswith("sha256:")
        )
        if not tags:
            return self.error("NAME_UNKNOWN")
        headers = {"Content-Type": "application/json"}
        start = next((n + 1 for n, tag in enumerate(tags) if tag == self.query.get("last")), 0)
        page = tags[start : start + self.fake.ways.page] if self.fake.ways.page else tags
        if page and page[-1] != tags[-1]:
            headers["Link"] = f'</v2/{repository}/tags/list?last={page[-1]}&n=2>; rel="next"'
        # Some registries say null for "none on this page".
        body = json.dumps({"name": repository, "tags": page or None}).encode()
        return self.answer(200, body, headers)

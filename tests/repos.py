"""Git repositories for tests, and git's own servers to reach them: a folder, git daemon, smart HTTP."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from linkspan.processes import Child, free_port, listens

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada Lovelace",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class Repository:
    """A bare repository that is pushed to, and a working copy that makes the commits."""

    def __init__(self, folder: Path, name: str = "app") -> None:
        self.bare = folder / f"{name}.git"
        self.work = folder / f"{name}-work"
        folder.mkdir(parents=True, exist_ok=True)
        self._git("init", "-q", "--bare", "-b", "main", str(self.bare), cwd=folder)
        self._git("init", "-q", "-b", "main", str(self.work), cwd=folder)
        self._git("remote", "add", "origin", str(self.bare))

    def commit(self, files: Mapping[str, str] | None = None, subject: str = "A change") -> str:
        """Write the files, commit and push; returns the sha."""
        for name, text in (files or {}).items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        self.push()
        return self.git("rev-parse", "HEAD")

    def push(self) -> None:
        """Push the branch that is checked out, forced."""
        self.git("push", "-q", "--force", "origin", "HEAD")

    def git(self, *args: str) -> str:
        """Output of git in the working copy."""
        return self._git(*args)

    def _git(self, *args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *args],
            cwd=cwd or self.work,
            env={**os.environ, **IDENTITY},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()


@contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """Serves all repositories of a folder over git://; yields the address."""
    port = free_port()
    command = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all"]
    child = Child("git daemon", [*command, f"--base-path={folder}", str(folder)], log=folder / "daemon.log")
    try:
        child.wait_until(lambda: listens(port), seconds=600)
        yield f"git://127.0.0.1:{port}"
    finally:
        child.stop()


class GitHttp:
    """Smart HTTP by `git http-backend`, with Basic auth, on loopback.

    `status` set to a number makes it answer that; `requests` are the paths that were asked for, `users` the
    user names that came with them.
    """

    def __init__(self, folder: Path, username: str = "", password: str = "") -> None:
        self.status = 0
        self.requests: list[str] = []
        self.users: list[str] = []
        expected = f"{username}:{password}"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(self.path)
                given = base64.b64decode(
                    self.headers.get("Authorization", "").removeprefix("Basic ")
                ).decode()
                outer.users.append(given.split(":")[0])
                if outer.status:
                    self.answer(outer.status, {}, b"")
                elif password and given != expected:
                    self.answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
                else:
                    self.backend()

            do_POST = do_GET  # noqa: N815

            def backend(self) -> None:
                path, _, query = self.path.partition("?")
                body = self.body()
                env = {
                    **os.environ,
                    "GIT_PROJECT_ROOT": str(folder),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                }
                done = subprocess.run(
                    ["git", "http-backend"], input=body, env=env, check=True, capture_output=True
                )
                head, _, rest = done.stdout.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.answer(int(headers.pop("Status", "200").split()[0]), headers, rest)

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet: `requests` has it all."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

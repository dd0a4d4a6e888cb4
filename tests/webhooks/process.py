"""`linkspan serve` as a process that tests start, call and kill; it is patient with a slow machine."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from linkspan.processes import Child, free_port
from linkspan.tls import trusted
from linkspan.webhooks.inbox.file import recent
from tests.webhooks import patient_serve
from tests.webhooks.prefect_fake import PASSWORD
from tests.webhooks.serving import SECRET, headers

ROOT = Path(__file__).parents[2]


@dataclass
class Serving:
    """A receiver that is a process of its own."""

    folder: Path
    env: dict[str, str]
    routes: Path | None = None
    port: int = 0
    child: Child | None = None

    def start(self) -> "Serving":
        self.port = self.port or free_port()
        command = [sys.executable, "-m", patient_serve.__name__, "serve", "--port", str(self.port)]
        command += ["--inbox", str(self.inbox)]
        if self.routes:
            command += ["--routes", str(self.routes)]
        self.child = Child("receiver", command, log=self.folder / "serve.log", env=self.env, cwd=ROOT)
        self.child.wait_until(self.ready, seconds=600, every=0.05)
        return self

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/readyz"
            return httpx.get(url, timeout=600, verify=trusted()).status_code == 200
        except httpx.TransportError:
            return False

    def call(self, body: bytes, name: str = "git", secret: str = SECRET) -> int:
        url = f"http://127.0.0.1:{self.port}/hooks/{name}"
        return httpx.post(
            url, content=body, headers=headers(body, secret), timeout=600, verify=trusted()
        ).status_code

    def states(self) -> list[str]:
        return sorted({each.state for each in recent(self.inbox, 10_000)})


@contextmanager
def serving(folder: Path, env: dict[str, str], routes: Path | None = None) -> Iterator[Serving]:
    folder.mkdir(exist_ok=True)
    made = Serving(folder, env, routes).start()
    try:
        yield made
    finally:
        if made.child:
            made.child.stop()


def environment(folder: Path, api_url: str = "", auth: str = PASSWORD) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"LINKSPAN_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    return env | ({"PREFECT_API_URL": api_url, "PREFECT_API_AUTH_STRING": auth} if api_url else {})


def fields(*start: str, **more: str) -> dict[str, Any]:
    return {"provider": "github", "secret": SECRET, "start": list(start) or ["a/x"], **more}


def routes_file(folder: Path, found: dict[str, dict[str, Any]]) -> Path:
    file = folder / "routes.json"
    file.write_text(json.dumps(found))
    return file

"""The sample app under its real gunicorn, with a model that its own script trained."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from linkspan.processes import Child, free_port
from linkspan.tls import trusted
from tests.services.shared import PIDS, of_this_run

APP = Path(__file__).parent.parent.parent / "app"

RELEASE = {
    "LINKSPAN_COMMIT": "3fa9c1d" + "0" * 33,
    "LINKSPAN_MODEL_NAME": "digits",
    "LINKSPAN_MODEL_VERSION": "v12",
    "LINKSPAN_MODEL_DIGEST": "sha256:" + "ab12" * 16,
}


class RunningApp:
    """A service that is alive; `ready` waits for its model."""

    def __init__(self, model: Path, log: Path, env: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.child = Child(
            "sample app",
            [sys.executable, "-m", "gunicorn", "scoring:create_app()"],
            log=log,
            cwd=APP,
            env={
                **os.environ,
                **RELEASE,
                "BIND": f"127.0.0.1:{self.port}",
                "LINKSPAN_MODEL_PATH": str(model),
                "PYTHONDONTWRITEBYTECODE": "1",
                **env,
            },
        )

    def get(self, path: str) -> int:
        """The status, or 0 while nothing listens."""
        try:
            return httpx.get(self.url + path, timeout=600, trust_env=False, verify=trusted()).status_code
        except httpx.TransportError:
            return 0

    def alive(self) -> "RunningApp":
        self.child.wait_until(lambda: self.get("/healthz") == 200, seconds=600)
        return self

    def ready(self) -> "RunningApp":
        self.child.wait_until(lambda: self.get("/readyz") == 200, seconds=600)
        return self


RunApp = Callable[..., RunningApp]


@pytest.fixture(scope="session")
def digits_model(run_folder: Path) -> Path:
    """The folder that app/train.py wrote, for all who only read it."""
    return Path(of_this_run(run_folder, "digits", _train)["folder"])


def _train(home: Path) -> dict[str, Any]:
    folder = home / "model"
    subprocess.run(
        [sys.executable, "train.py", "--out", str(folder)],
        cwd=APP,
        check=True,
        timeout=800,
        capture_output=True,
    )
    return {PIDS: [], "folder": str(folder)}


@pytest.fixture
def run_app(tmp_path: Path) -> Iterator[RunApp]:
    """Starts services: `run_app(model_folder, NAME="value", …)`; they are stopped at the end."""
    started: list[RunningApp] = []

    def run(model: Path, **env: str) -> RunningApp:
        app = RunningApp(model, tmp_path / f"app-{len(started)}.log", env)
        started.append(app)
        return app.alive()

    yield run
    for app in started:
        app.child.stop()


@pytest.fixture(scope="session")
def digits_service(digits_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """One service with the real model, for tests that only ask."""
    app = RunningApp(digits_model, tmp_path_factory.mktemp("service") / "app.log", {})
    try:
        yield app.ready()
    finally:
        app.child.stop()

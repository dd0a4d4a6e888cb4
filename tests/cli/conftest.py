"""A world to type commands at, and a shell that knows no Prefect server."""

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from linkspan.cli import follow, publish, why
from linkspan.local import services
from linkspan.local.home import Home
from linkspan.local.services import Local
from linkspan.processes import free_port
from tests.cli.world import World, prefect_file
from tests.services.prefect_server import lay_database
from tests.services.registry import CountingProxy, RunningRegistry


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no server, app or home of the user's in sight."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", "LINKSPAN_APP", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LINKSPAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def world(
    nowhere: Path,
    tmp_path: Path,
    unique_app: str,
    registry: RunningRegistry,
    counting_proxy: CountingProxy,
    docker_client: docker.DockerClient,
    base_image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Everything runs, the blocks are saved, nothing was committed or published."""
    for name in ("SERVER_SECONDS", "WORKER_SECONDS", "RECEIVER_SECONDS", "SETUP_SECONDS"):
        monkeypatch.setattr(services, name, 1200.0)
    monkeypatch.setattr(follow, "OUTAGE_SECONDS", 600.0)
    monkeypatch.setattr(publish, "PATIENCE", 600.0)
    monkeypatch.setattr(why, "VERSION_SECONDS", 600)
    deployments = prefect_file(tmp_path, unique_app)
    home, hooks = Home(tmp_path / "home"), ("127.0.0.1", free_port())
    home.create()
    lay_database(home.prefect, flows=False)
    with Local(home, port=free_port(), hooks=hooks, prefect_file=deployments) as local:
        made = World(
            tmp_path / "world", local, unique_app, base_image, registry, counting_proxy, docker_client
        )
        try:
            made.save_blocks()
            yield made
        finally:
            made.destroy()

"""An app of a few bytes, and a builder with the real engine."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from linkspan.code.builder import Builder, BuilderSettings
from linkspan.config import AppConfig, parse_config
from tests.code.apps import BASE, COMMIT, quiet, write


@pytest.fixture(scope="session")
def client(docker_client: docker.DockerClient, base_image: str) -> docker.DockerClient:
    assert base_image == BASE
    return docker_client


@pytest.fixture
def config(unique_app: str) -> AppConfig:
    return parse_config(f'name = "{unique_app}"\n[model]\nname = "m"\n'.encode(), where="linkspan.toml")


@pytest.fixture
def tag(client: docker.DockerClient, unique_app: str) -> Iterator[str]:
    """A tag of this test alone; its image, and whatever else carries the app's label, is removed."""
    yield f"{unique_app}:test"
    for image in client.images.list(filters={"label": f"dev.linkspan.app={unique_app}"}):
        client.api.remove_image(str(image.id), force=True)


@pytest.fixture
def builder(client: docker.DockerClient) -> Iterator[Builder]:
    opened = BuilderSettings(memory="512m").open()
    yield opened
    opened.close()


@pytest.fixture
def folder(client: docker.DockerClient, tmp_path: Path) -> Iterator[Path]:
    app = tmp_path / "app"
    app.mkdir()
    # Layers of its own: tests in parallel must not share, and remove, each other's.
    (app / "unique").write_text(uuid.uuid4().hex)
    write(app, f"FROM {BASE}\nCOPY . /app\nWORKDIR /app\n")
    yield app
    label = f"test={(app / 'unique').read_text()}"
    while left := client.images.list(filters={"label": label}):
        for image in left:
            client.images.remove(str(image.id), force=True)


@pytest.fixture
def image(builder: Builder, folder: Path, config: AppConfig, tag: str) -> str:
    # An ENTRYPOINT must not get in the way of the tests.
    write(folder, f'FROM {BASE}\nCOPY . /app\nWORKDIR /app\nUSER 1000\nENTRYPOINT ["false"]\n')
    return builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)

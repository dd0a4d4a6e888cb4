"""What tests of this folder build: apps of a few bytes on linkspan-base."""

import re
from datetime import UTC, datetime
from pathlib import Path

import docker

from linkspan.nouns import Commit

BASE = "linkspan-base:py311"
COMMIT = Commit(
    sha="a" * 40, tree="b" * 40, author="Ada", subject="First", committed_at=datetime(2026, 1, 1, tzinfo=UTC)
)


def quiet(_: str) -> None:
    """For output that a test does not look at."""


def write(folder: Path, dockerfile: str) -> None:
    """Write a Dockerfile whose images can be found again, those of steps before a failing one too."""
    label = f"LABEL test={(folder / 'unique').read_text()}"
    text = re.sub(r"^(FROM .*)$", rf"\1\n{label}", dockerfile, count=1, flags=re.MULTILINE)
    (folder / "Dockerfile").write_text(text)


def output(client: docker.DockerClient, image: str, command: list[str]) -> str:
    # Not `run` in one call: what it follows may end before the engine has written the output down.
    container = client.containers.run(image, command, detach=True, network_mode="none")
    try:
        assert container.wait()["StatusCode"] == 0
        return str(container.logs().decode())
    finally:
        container.remove(force=True)


def no_containers_of(client: docker.DockerClient, image: str) -> bool:
    return not client.containers.list(all=True, filters={"ancestor": image}, ignore_removed=True)

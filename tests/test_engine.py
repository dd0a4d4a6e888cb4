"""The engine is opened with clear errors, and says why it cannot pull."""

import http.client
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import docker
import pytest
from docker.errors import APIError
from docker.models.containers import Container

from linkspan.engine import engine, killed_for_memory, pull, pull_error, reaching, run_in
from linkspan.errors import (
    BuildUnavailable,
    ConfigError,
    RegistryDenied,
    RegistryError,
    RegistryNotFound,
    RegistryUnavailable,
    RuntimeUnavailable,
)
from linkspan.processes import free_port
from tests.services.engine import ImageOf
from tests.services.registry import RunningRegistry

GONE = f"registry.example:5000/digits@sha256:{'a' * 64}"


def test_no_engine_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"no such file or directory.*systemctl start docker"):
        engine(f"unix://{tmp_path}/docker.sock")
    with pytest.raises(BuildUnavailable, match="connection refused"):
        engine(f"tcp://127.0.0.1:{free_port()}", unavailable=BuildUnavailable)


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError, match="is no address of a Docker Engine"):
        engine("gopher://127.0.0.1")


def test_an_engine_that_goes_away() -> None:
    client = docker.DockerClient(base_url=f"tcp://127.0.0.1:{free_port()}", version="1.41")
    with pytest.raises(BuildUnavailable, match="stopped answering"), reaching(BuildUnavailable):
        client.ping()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", RegistryDenied),
        ("unauthorized: authentication required", RegistryDenied),
        ("Head https://registry.example/v2/x: no basic auth credentials", RegistryDenied),
        ("manifest for registry.example/x@sha256:aa not found: manifest unknown", RegistryNotFound),
        ("dial tcp 127.0.0.1:1: connect: connection refused", RegistryUnavailable),
        ("lookup registry.example: no such host", RegistryUnavailable),
        ("net/http: TLS handshake timeout", RegistryUnavailable),
        ("unexpected EOF", RegistryUnavailable),
        ("received unexpected HTTP status: 503 Service Unavailable", RegistryUnavailable),
        ("toomanyrequests: You have reached your pull rate limit", RegistryUnavailable),
        ("write /var/lib/docker/tmp/x: no space left on device", RegistryError),
        ("http: server gave HTTP response to HTTPS client", RegistryError),
        ("x509: certificate signed by unknown authority", RegistryError),
        ("something that nobody has seen before", RegistryError),
    ],
)
def test_what_the_engine_says_of_a_pull(text: str, kind: type[RegistryError]) -> None:
    error = pull_error(GONE, text)
    assert type(error) is kind
    assert error.found == text
    assert "registry.example:5000" in error.what


def test_pull_by_digest_with_a_password(
    docker_client: docker.DockerClient, image_of: ImageOf, registry: RunningRegistry, unique_app: str
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    reference = push(docker_client, image_of("pulled"), f"{registry.host}/{unique_app}", auth)
    with pytest.raises(RegistryDenied) as denied:
        pull(docker_client, reference, auth | {"password": "wrong-s3cret"})
    assert "s3cret" not in f"{denied.value!r} {denied.value}"
    with pytest.raises(RegistryNotFound):
        pull(docker_client, f"{registry.host}/{unique_app}@sha256:{'a' * 64}", auth)
    image = pull(docker_client, reference, auth)
    try:
        assert image.id == image_of("pulled")
        again = pull(docker_client, reference, auth | {"password": "wrong-s3cret"})
        assert again == image, "what is there is not pulled"
    finally:
        docker_client.images.remove(reference)


class Ended:
    """A container that ended some time ago, and whose engine says `late` s from now that it was for memory.

    It is its own engine and its own clock, which only moves while somebody sleeps.
    """

    def __init__(self, code: int, ago: float, late: float) -> None:
        now = datetime.now(UTC)
        ended = (now - timedelta(seconds=ago)).isoformat()
        self.attrs = {"State": {"ExitCode": code, "OOMKilled": False, "FinishedAt": ended}}
        self.client = self
        self.info = lambda: {"SystemTime": now.isoformat()}
        self.slept = 0.0
        self.late = late

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def reload(self) -> None:
        self.attrs["State"]["OOMKilled"] = self.slept >= self.late


@pytest.mark.parametrize(
    ("code", "ago", "late", "expected", "takes"),
    [
        (137, 0, 8, True, 8),
        (137, 4, 3600, False, 6),
        (137, 3600, 8, False, 0),
        (137, -3600, 3600, False, 10),
        (1, 0, 0, False, 0),
    ],
)
def test_that_it_was_for_memory_may_be_heard_of_later(
    *, monkeypatch: pytest.MonkeyPatch, code: int, ago: float, late: float, expected: bool, takes: float
) -> None:
    ended = Ended(code, ago, late)
    monkeypatch.setattr("linkspan.engine.time", ended)
    assert killed_for_memory(cast(Container, ended)) is expected
    assert ended.slept == pytest.approx(takes, abs=0.2)


def test_what_a_command_printed_is_whole_also_on_a_busy_machine(
    docker_client: docker.DockerClient, image_of: ImageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = http.client.HTTPResponse.begin

    def late(answer: http.client.HTTPResponse) -> None:
        time.sleep(0.2)  # head and output have both arrived, and are read together
        begin(answer)

    container = docker_client.containers.run(image_of("v1"), detach=True)
    try:
        assert run_in(docker_client, container, ["sh", "-c", "seq 50000; exit 3"]) == (
            3,
            "".join(f"{number}\n" for number in range(1, 50001)),
        )
        monkeypatch.setattr(http.client.HTTPResponse, "begin", late)
        code, output = run_in(docker_client, container, ["sh", "-c", "echo out; echo err >&2"])
        assert (code, sorted(output.split())) == (0, ["err", "out"])
        monkeypatch.undo()
        container.kill()
        container.wait()
        with pytest.raises(APIError, match="is not running"):
            run_in(docker_client, container, ["true"])
    finally:
        container.remove(force=True, v=True)


def push(client: docker.DockerClient, image: str, repository: str, auth: dict[str, str]) -> str:
    """Push an image and forget that it is there under this name; returns its reference by digest."""
    client.images.get(image).tag(repository, "pushed")
    lines = list(client.api.push(repository, "pushed", stream=True, decode=True, auth_config=auth))
    digest = next(line["aux"]["Digest"] for line in lines if "aux" in line)
    client.images.remove(f"{repository}:pushed")
    return f"{repository}@{digest}"

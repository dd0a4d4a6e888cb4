"""The runtimes under test, each with services of its own that are destroyed afterwards."""

import uuid
from collections.abc import Callable, Iterator

import docker
import pytest

from linkspan.runtimes.base import Runtime, Service
from tests.runtimes.harness import DockerHarness, Harness


@pytest.fixture(params=["docker"])
def harness(request: pytest.FixtureRequest, docker_client: docker.DockerClient) -> Harness:
    assert request.param == "docker"
    return DockerHarness(docker_client)


@pytest.fixture
def runtime(harness: Harness) -> Runtime:
    return harness.open()


@pytest.fixture
def new_service(runtime: Runtime) -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def make() -> Service:
        made.append(Service(app=f"t{uuid.uuid4().hex[:8]}", environment="production"))
        return made[-1]

    yield make
    for service in made:
        runtime.destroy(service)


@pytest.fixture
def service(new_service: Callable[[], Service]) -> Service:
    return new_service()

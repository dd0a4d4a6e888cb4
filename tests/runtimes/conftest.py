"""The runtimes under test, each with services of its own that are destroyed afterwards."""

import uuid
from collections.abc import Callable, Iterator

import docker
import pytest

from linkspan.runtimes.base import Runtime, Service
from tests.runtimes.harness import DockerHarness, Harness, KubernetesHarness, as_linkspan
from tests.services.cluster import RunningCluster
from tests.services.registry import RunningRegistry


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.needs("rollouts")),
        pytest.param("kubernetes", marks=pytest.mark.needs("cluster", "registry")),
    ]
)
def harness(request: pytest.FixtureRequest, docker_client: docker.DockerClient) -> Harness:
    if request.param == "docker":
        return DockerHarness(docker_client)
    kubernetes: KubernetesHarness = request.getfixturevalue("kubernetes")
    return kubernetes


@pytest.fixture(scope="session")
def kubernetes(
    cluster: RunningCluster, registry: RunningRegistry, tmp_path_factory: pytest.TempPathFactory
) -> KubernetesHarness:
    """The cluster as Linkspan's own account may use it."""
    account = as_linkspan(cluster, tmp_path_factory.mktemp("kubernetes") / "kubeconfig")
    return KubernetesHarness(cluster, registry, account)


@pytest.fixture
def runtime(harness: Harness) -> Runtime:
    return harness.open()


@pytest.fixture
def new_service(runtime: Runtime, harness: Harness) -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def make() -> Service:
        made.append(Service(app=f"t{uuid.uuid4().hex[:8]}", environment="production"))
        harness.prepare(made[-1])
        return made[-1]

    yield make
    for service in made:
        runtime.destroy(service)
        harness.forget(service)


@pytest.fixture
def service(new_service: Callable[[], Service]) -> Service:
    return new_service()

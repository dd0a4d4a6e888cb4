"""The runtimes under test, each with services of its own that are destroyed afterwards."""

import uuid
from collections.abc import Callable, Iterator

import docker
import pytest

from linkspan.models.layer import layer_chunks
from linkspan.nouns import Mount
from linkspan.registry.media import model_layer
from linkspan.release.mount import model_image
from linkspan.runtimes.base import Rollout, Runtime, Service
from tests.registry.images import files_with
from tests.runtimes.harness import DockerHarness, Harness, KubernetesHarness, as_linkspan
from tests.services.cluster import RunningCluster
from tests.services.registry import RunningRegistry

Mounting = Callable[[Rollout, dict[str, bytes]], Rollout]
MODEL = "/srv/model"


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.needs("rollouts", "registry")),
        pytest.param("kubernetes", marks=pytest.mark.needs("cluster", "registry")),
    ]
)
def harness(request: pytest.FixtureRequest, docker_client: docker.DockerClient) -> Harness:
    if request.param == "docker":
        return DockerHarness(docker_client, request.getfixturevalue("registry"))
    kubernetes: KubernetesHarness = request.getfixturevalue("kubernetes")
    return kubernetes


@pytest.fixture
def mounting(registry: RunningRegistry, docker_client: docker.DockerClient) -> Iterator[Mounting]:
    """mounting(rollout, {"weights": b"..."}): the same rollout, with those files as its model's image."""
    platform = {"os": "linux", "architecture": docker_client.version()["Arch"]}
    with registry.settings().open(f"models-{uuid.uuid4().hex[:8]}") as repository:

        def add(plan: Rollout, contents: dict[str, bytes]) -> Rollout:
            """A layer for each of them, as big ones have."""
            layers = []
            for file in files_with(contents):
                tar = b"".join(layer_chunks([file], MODEL, lambda file: iter([contents[file.path]])))
                layers.append(model_layer(repository.push_blob(tar), len(tar)))
            image = repository.push_image(model_image(platform, layers))
            reference = f"{repository.name}@{image}"
            mount = Mount(image=reference, content=plan.release.model.digest, path=MODEL)
            return plan.model_copy(update={"mount": mount})

        yield add


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

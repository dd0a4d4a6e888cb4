"""What smoke tests leave on an engine, and which engine it is."""

import uuid

import docker
import pytest
from docker.errors import ImageNotFound

from linkspan.config import SmokeSection
from linkspan.engine import engine_here
from linkspan.errors import ConfigError, SmokeFailed
from linkspan.release.smoke import smoke
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker.runtime import DockerRuntime, DockerRuntimeSettings
from linkspan.runtimes.docker.trial import LABEL, sweep
from tests.runtimes.harness import DockerHarness
from tests.runtimes.releases import quiet, rollout
from tests.services.engine import ImageOf, build_image
from tests.services.registry import RunningRegistry
from tests.skew import DAY, skewed
from tests.test_engine import push

ROOT = SmokeSection(path="/")


@pytest.fixture
def service() -> Service:
    return Service(app=f"smoke{uuid.uuid4().hex[:8]}", environment="production")


def test_only_what_passes_stays_on_the_engine(
    docker_client: docker.DockerClient, image_of: ImageOf, service: Service, registry: RunningRegistry
) -> None:
    auth, app = {"username": registry.username, "password": registry.password}, service.app
    dockerfile = f"FROM {image_of('v1')}\nLABEL of={app}"
    image = build_image(docker_client, {"Dockerfile": dockerfile}, tag=app)
    reference = push(docker_client, image, f"{registry.host}/{app}", auth)
    docker_client.images.remove(app)
    runtime, plan = DockerRuntimeSettings().open(auth), rollout(service, "v1", reference)
    smoke(runtime, plan, ROOT, say=quiet)
    assert docker_client.images.get(reference)
    with pytest.raises(SmokeFailed):
        smoke(runtime, plan, SmokeSection(path="/", expect_status=201), say=quiet)
    with pytest.raises(ImageNotFound):
        docker_client.images.get(reference)


def test_containers_of_killed_smoke_tests_are_swept(
    docker_client: docker.DockerClient, image_of: ImageOf, service: Service
) -> None:
    harness = DockerHarness(docker_client)
    stale = docker_client.containers.create(image_of("v1"), labels={LABEL: service.app})
    sweep(docker_client)
    assert harness.trials(service) == [stale.name], "one that is not an hour old may be in use"
    with skewed(DAY):
        sweep(docker_client)
    assert harness.trials(service) == [stale.name], "by the engine's clock, not by one that is a day ahead"
    sweep(docker_client, label=f"{LABEL}={service.app}", older_seconds=0)
    assert harness.trials(service) == []


def test_a_runtime_on_another_machine_is_tried_on_this_one(image_of: ImageOf, service: Service) -> None:
    elsewhere = docker.DockerClient(base_url="tcp://192.0.2.1:2375", version="1.41")
    runtime = DockerRuntime(elsewhere, DockerRuntimeSettings())
    assert smoke(runtime, rollout(service, "v1", image_of("v1")), ROOT, say=quiet).status == 200
    elsewhere.close()


def test_there_must_be_an_engine_here(monkeypatch: pytest.MonkeyPatch) -> None:
    client = docker.DockerClient(base_url="tcp://192.0.2.1:2375", version="1.41")
    monkeypatch.setattr("linkspan.engine.engine", lambda: client)
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(ConfigError, match=r"expected a Docker Engine on this machine, found tcp://192"):
        engine_here()
    client.close()

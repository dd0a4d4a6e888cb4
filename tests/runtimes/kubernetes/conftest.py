"""The runtime under test is that of a cluster."""

import docker
import pytest

from tests.runtimes.harness import KubernetesHarness
from tests.services.engine import ImageOf


@pytest.fixture
def harness(kubernetes: KubernetesHarness) -> KubernetesHarness:
    return kubernetes


@pytest.fixture
def image_of(kubernetes: KubernetesHarness, docker_client: docker.DockerClient, image_of: ImageOf) -> ImageOf:
    """The test service's images, in a repository of the private registry that no node has pulled from."""
    return kubernetes.images(docker_client, image_of)

"""Worlds for the end-to-end tests, before one registry per session whose disk is in memory."""

import copy
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import docker
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.logging.handlers import APILogHandler
from pydantic import SecretStr

from blocks import KubernetesRuntime
from flows.app_stream import app_stream
from flows.build_and_deploy import build_and_deploy
from flows.model_stream import model_stream
from linkspan.runtimes.kubernetes.app_objects import default_objects
from tests.e2e.front import FaultyProxy
from tests.e2e.plain import PlainWorld
from tests.e2e.world import World
from tests.runtimes.harness import allow, as_linkspan
from tests.runtimes.objects import app_of
from tests.services.cluster import RunningCluster
from tests.services.prefect_server import PrefectServer
from tests.services.registry import RunningRegistry, start_registry

W = TypeVar("W", bound=PlainWorld)
V = TypeVar("V", bound=World)


@dataclass
class Disk:
    """Where the registry keeps its blobs. `small` if it is a disk of its own that a test may fill."""

    path: Path
    small: bool


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    path = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(path)]
    small = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield Disk(path, small)
    if small:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture(scope="session")
def e2e_registry(
    disk: Disk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningRegistry, FaultyProxy]]:
    child, running = start_registry(tmp_path_factory.mktemp("e2e-registry"), disk.path / "storage")
    try:
        with FaultyProxy(running.host) as front:
            yield running, front
    finally:
        child.stop()


def new_world(
    folder: Path,
    server: PrefectServer,
    registry: tuple[RunningRegistry, FaultyProxy],
    client: docker.DockerClient,
    base: str,
) -> AbstractContextManager[World]:
    """A world for an app that no other test has, gone when the block ends."""
    return new_world_of(World, folder, server, registry, client, base)


def new_world_of(
    kind: type[V],
    folder: Path,
    server: PrefectServer,
    registry: tuple[RunningRegistry, FaultyProxy],
    client: docker.DockerClient,
    base: str,
) -> AbstractContextManager[V]:
    """The same with an app of another kind."""
    return _of_its_own(folder, kind(_name(), folder / "world", *registry, client, base, server=server))


@pytest.fixture
def plain_world(
    tmp_path: Path,
    e2e_registry: tuple[RunningRegistry, FaultyProxy],
    docker_client: docker.DockerClient,
    base_image: str,
) -> Iterator[PlainWorld]:
    """A world without Prefect."""
    made = PlainWorld(_name(), tmp_path / "world", *e2e_registry, docker_client, base_image)
    with _of_its_own(tmp_path, made) as world:
        yield world


def _name() -> str:
    return f"e2e-{uuid.uuid4().hex[:8]}"


@contextmanager
def _of_its_own(folder: Path, made: W) -> Iterator[W]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        try:
            yield made
        finally:
            made.front.fail(None)
            made.destroy()


@contextmanager
def allowed(cluster: RunningCluster, namespace: str) -> Iterator[None]:
    """A namespace to which Linkspan's account may release; it goes when the block ends."""
    allow(cluster, namespace)
    try:
        yield
    finally:
        cluster.api.delete_namespace(namespace)


NewWorld = Callable[[], Awaitable[World]]


@pytest.fixture
async def new_cluster_world(
    tmp_path: Path,
    cluster: RunningCluster,
    prefect_api: PrefectServer,
    e2e_registry: tuple[RunningRegistry, FaultyProxy],
    docker_client: docker.DockerClient,
    base_image: str,
) -> AsyncIterator[NewWorld]:
    """Makes worlds with blocks whose releases run on the cluster, with the rights in k8s/linkspan only."""
    account = SecretStr(as_linkspan(cluster, tmp_path / "kubeconfig").read_text())
    with ExitStack() as stack:

        async def make() -> World:
            folder = tmp_path / uuid.uuid4().hex
            made = stack.enter_context(
                new_world(folder, prefect_api, e2e_registry, docker_client, base_image)
            )
            made.place = KubernetesRuntime(kubeconfig=account)
            stack.enter_context(allowed(cluster, str(made.service)))
            await made.save_blocks()
            return made

        yield make
        await APILogHandler.aflush()  # else the last lines look for the server when the session is over


def patient_objects() -> str:
    """Our own, but for a node that may be too busy to answer three probes in a row."""
    objects = [copy.deepcopy(each) for each in default_objects()]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        app_of(objects)[probe]["failureThreshold"] = 240
    return yaml.safe_dump_all(objects)


@pytest.fixture
async def cluster_world(new_cluster_world: NewWorld) -> World:
    """One whose replicas stay in service however busy the machine is."""
    made = await new_cluster_world()
    made.also = {"k8s/app.yaml": patient_objects()}
    return made


@pytest.fixture
async def world(
    tmp_path: Path,
    prefect_api: PrefectServer,
    e2e_registry: tuple[RunningRegistry, FaultyProxy],
    docker_client: docker.DockerClient,
    base_image: str,
) -> AsyncIterator[World]:
    """A world with blocks and with deployments on which nobody works: tests call the flows themselves."""
    with new_world(tmp_path, prefect_api, e2e_registry, docker_client, base_image) as made:
        await made.save_blocks()
        async with get_client() as client:
            for flow, name in (
                (app_stream, made.app),
                (model_stream, made.app),
                (build_and_deploy, str(made.service)),
            ):
                await client.create_deployment(flow_id=await client.create_flow(flow), name=name)
        yield made
        await APILogHandler.aflush()  # else the last lines look for the server when the session is over

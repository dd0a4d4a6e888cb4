"""Everything that runs while the figures of releases are taken: a world whose flows a worker runs.

Server, worker and the process that runs are forked from are as `linkspan up` has them.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import yaml
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks import KubernetesRuntime
from linkspan.engine import engine
from linkspan.local.wake import WAKE
from tests.bench.figures import Say
from tests.e2e.conftest import allowed, new_world_of
from tests.e2e.deployed import prefect_file
from tests.e2e.front import FaultyProxy
from tests.e2e.world import World
from tests.runtimes.harness import as_linkspan
from tests.services.cluster import RunningCluster, shared_cluster
from tests.services.engine import BASE
from tests.services.prefect_server import PrefectServer
from tests.services.registry import start_registry

W = TypeVar("W", bound=World)


@contextmanager
def running_cluster(say: Say) -> Iterator[RunningCluster]:
    """The cluster, for as long as the block lasts."""
    say("starting the cluster, unless it is up (its first build takes minutes)")
    with shared_cluster() as cluster:
        yield cluster


@contextmanager
def stage(say: Say, kind: type[W], cluster: RunningCluster | None) -> Iterator[W]:
    """An app's world, its blocks saved, its flows deployed and a worker waiting for runs of them.

    It is released to `cluster`, or where there is none, to the Docker Engine.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linkspan-bench-")))
        say("starting a registry and a Prefect server")
        child, registry = start_registry(folder, folder / "storage")
        stack.callback(child.stop)
        front = stack.enter_context(FaultyProxy(registry.host))
        server = stack.enter_context(PrefectServer(folder / "prefect").running())
        settings = {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth}
        stack.enter_context(temporary_settings(settings))
        client = stack.enter_context(closing(engine()))
        world = stack.enter_context(
            new_world_of(kind, folder / "app", server, (registry, front), client, BASE)
        )
        if cluster:
            account = SecretStr(as_linkspan(cluster, folder / "kubeconfig").read_text())
            world.place = KubernetesRuntime(kubeconfig=account)
            stack.enter_context(allowed(cluster, str(world.service)))
        say("deploying the flows, starting a worker")
        file = world.folder / "prefect.yaml"
        file.write_text(yaml.safe_dump(prefect_file(world)))
        server.set_up(file)
        asyncio.run(world.save_blocks())
        # What is typed here wakes the worker, as it does where `linkspan up` runs.
        stack.enter_context(pytest.MonkeyPatch.context()).setenv(WAKE, str(folder / "wake"))
        stack.enter_context(server.worker(**{WAKE: str(folder / "wake")}))
        yield world

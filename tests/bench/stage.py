"""Everything that runs while the cluster's figures are taken: a world whose flows a worker runs.

Server, worker and the process that runs are forked from are as `linkspan up` has them.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks import KubernetesRuntime
from linkspan.engine import engine
from linkspan.local import tether
from linkspan.processes import Child
from tests.bench.figures import Say
from tests.e2e.conftest import allowed, new_world
from tests.e2e.deployed import prefect_file
from tests.e2e.front import FaultyProxy
from tests.e2e.world import World
from tests.runtimes.harness import as_linkspan
from tests.services.cluster import RunningCluster, shared_cluster
from tests.services.engine import BASE
from tests.services.prefect_server import PrefectServer
from tests.services.registry import start_registry


@dataclass(frozen=True)
class Stage:
    """An app on the cluster, its blocks saved, its flows deployed and a worker waiting for runs of them."""

    world: World
    cluster: RunningCluster


@contextmanager
def stage(say: Say) -> Iterator[Stage]:
    """Set it all up, and take it all down."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linkspan-bench-")))
        say("starting the cluster, unless it is up (its first build takes minutes)")
        cluster = stack.enter_context(shared_cluster())
        say("starting a registry and a Prefect server")
        child, registry = start_registry(folder, folder / "storage")
        stack.callback(child.stop)
        front = stack.enter_context(FaultyProxy(registry.host))
        server = stack.enter_context(PrefectServer(folder / "prefect").running())
        settings = {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth}
        stack.enter_context(temporary_settings(settings))
        account = SecretStr(as_linkspan(cluster, folder / "kubeconfig").read_text())
        client = stack.enter_context(closing(engine()))
        world = stack.enter_context(new_world(folder / "app", server, (registry, front), client, BASE))
        world.place = KubernetesRuntime(kubeconfig=account)
        stack.enter_context(allowed(cluster, str(world.service)))
        say("deploying the flows, starting a worker")
        file = world.folder / "prefect.yaml"
        file.write_text(yaml.safe_dump(prefect_file(world)))
        server.set_up(file)
        asyncio.run(world.save_blocks())
        warm = folder / "warm"
        warm.mkdir()
        program = [sys.executable, "-m", "flows.warm", str(warm)]
        forks = Child("warm", program, log=folder / "warm.log", env=server.worker_env, cwd=server.home)
        stack.callback(forks.stop)
        forks.wait_until((warm / "socket").exists, seconds=600)
        stack.enter_context(server.worker(**{tether.WARM: str(warm)}))
        yield Stage(world, cluster)

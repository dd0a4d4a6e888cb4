"""The real Kubernetes cluster, shared by all test processes; each test has a namespace of its own."""

import fcntl
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import parts
from tests.cluster.api import Api
from tests.cluster.network import load
from tests.cluster.places import ADMIN, CTR, KUBECTL, LOCK, STARTED_BY_TESTS, USERS
from tests.cluster.up import is_up
from tests.gomodule import Unavailable
from tests.needs import needs_of, stop_cluster
from tests.services.shared import for_others_too, shared
from tests.waiting import until

ROOT = Path(__file__).parents[2]
# A share of this one for each test, all of it for one that stops the API server.
API_SERVER = LOCK.with_name("cluster-api-server.lock")


@dataclass(frozen=True)
class RunningCluster:
    """Where it is, and how to ask and to hurt it."""

    kubeconfig: Path
    """The administrator's."""
    node_ip: str
    """Services of type NodePort answer here and on 127.0.0.1."""
    kubectl: Path
    api_server: str
    """Its URL."""

    @cached_property
    def api(self) -> Api:
        """As the administrator, without kubectl."""
        return Api(load())

    def run(self, *arguments: str, given: str = "", check: bool = True, seconds: float = 1200) -> str:
        """What kubectl prints, as the administrator. Fails the test with what it says if it fails."""
        done = subprocess.run(
            [str(self.kubectl), *arguments],
            input=given,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def apply(self, namespace: str, *objects: dict[str, Any]) -> None:
        """Apply objects of one namespace."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "-n", namespace, "-f", "-", given=json.dumps(listed))

    def get(self, namespace: str, *what: str) -> dict[str, Any]:
        """An object, or a list of objects: `get(namespace, "deployment", "web")`."""
        value: dict[str, Any] = json.loads(self.run("get", "-n", namespace, *what, "-o", "json"))
        return value

    def packed(self) -> set[str]:
        """The digests of what the node keeps as it was fetched: manifests, configurations, packed layers."""
        command = [str(CTR), "content", "ls", "--quiet"]
        return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())

    def until_linkspan_may(self, namespace: str, verb: str, group: str, resource: str) -> None:
        """Wait until the API server has heard of a right that was just given to Linkspan's account."""
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
        self.until_may("linkspan:linkspan", attributes)

    def until_may(self, service_account: str, attributes: dict[str, str]) -> None:
        """Wait until the API server has heard of a right of a `namespace:name`."""
        spec = {"user": f"system:serviceaccount:{service_account}", "resourceAttributes": attributes}
        until(lambda: self.api.allows(spec), what=f"a right of {service_account}: {attributes}")

    def kubeconfig_of(self, namespace: str, service_account: str, path: Path) -> Path:
        """Write a kubeconfig with a token of a service account, which may do only what RBAC lets it."""
        token = self.run("create", "token", "-n", namespace, service_account, "--duration=24h").strip()
        value = json.loads(self.kubeconfig.read_text())
        value["users"] = [{"name": service_account, "user": {"token": token}}]
        value["contexts"][0]["context"] = {
            "cluster": value["clusters"][0]["name"],
            "user": service_account,
            "namespace": namespace,
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(value))
        return path

    def stop_api_server(self) -> None:
        """SIGKILL. Pods, Services and everything else go on; all tests on the cluster notice.

        All parts see it again some seconds later: each failed attempt doubles the wait before the next one,
        up to 30 s, and only two minutes without a failure reset it (client-go's reflector). So several stops
        in a row make rollouts slow.
        """
        parts.stop("apiserver", signal.SIGKILL)

    def start_api_server(self) -> None:
        """Start it again, and wait until it is ready."""
        parts.start_again("apiserver")
        end = time.monotonic() + 240
        while not self.api.ready():
            parts.check_running()
            if time.monotonic() > end:
                pytest.fail(f"the API server is not ready after 240 s:\n{parts.tail('apiserver')}")
            time.sleep(0.1)


@contextmanager
def shared_cluster() -> Iterator[RunningCluster]:
    """The cluster of `make cluster`, or one that lives as long as its last user.

    Skips, and says why, where the machine cannot have one (no root, no Go modules).
    """
    with shared(USERS, start=_start, stop=stop_cluster):
        network = load()
        yield RunningCluster(ADMIN, network.node_ip, KUBECTL, network.api_server)


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    with shared_cluster() as running:
        yield running


@pytest.fixture(autouse=True)
def share_of_the_api_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of the cluster run side by side, but for those that are `alone_on_the_cluster`."""
    if "cluster" not in needs_of(request.node):
        yield
        return
    alone = request.node.get_closest_marker("alone_on_the_cluster") is not None
    API_SERVER.parent.mkdir(parents=True, exist_ok=True)
    with API_SERVER.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture
def namespace(cluster: RunningCluster) -> Iterator[str]:
    """A new namespace; its deletion is begun at the end and not waited for."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    cluster.api.create_namespace(name)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    until(lambda: cluster.api.get(account), what=account)
    yield name
    cluster.api.delete_namespace(name)


def _start() -> None:
    if is_up():
        return
    script = [str(ROOT / "scripts" / "cluster.sh"), "up"]
    done = subprocess.run(script, env=for_others_too(), capture_output=True, text=True, check=False)
    if done.returncode == Unavailable.exit_code:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
    if "is up already" not in done.stdout:
        STARTED_BY_TESTS.touch()

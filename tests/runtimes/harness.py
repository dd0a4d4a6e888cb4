"""What the conformance suite needs of a runtime beyond the protocol: to open it, hurt it, look behind it.

A new runtime adds one class here and one parameter in conftest.py.
"""

import contextlib
import fcntl
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import docker
from docker.errors import NotFound
from pydantic import SecretStr

from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.docker.runtime import DockerRuntimeSettings
from linkspan.runtimes.docker.trial import LABEL, DockerTrial
from linkspan.runtimes.kubernetes.runtime import KubernetesRuntimeSettings
from linkspan.runtimes.kubernetes.trial import KubeTrial
from tests.services.cluster import API_SERVER, RunningCluster
from tests.services.engine import ImageOf
from tests.services.registry import RunningRegistry

ROOT = Path(__file__).parents[2]
_ACCOUNT = API_SERVER.with_name("cluster-account.lock")


class Harness(Protocol):
    """A runtime under test."""

    steps: ClassVar[Sequence[tuple[str, int]]]
    """What is said before each step of a rollout, and which revision is live if it is killed there."""
    first_steps: ClassVar[Sequence[str]]
    """Steps of a first rollout before which nothing is live yet."""
    heals_itself: ClassVar[bool]
    """Whether the platform replaces a replica that was removed."""
    proxied: ClassVar[bool]
    """Whether a proxy of Linkspan's stands between users and the app."""
    trial: ClassVar[type[Any]]
    """The runtime's Trial."""

    def open(self) -> Runtime: ...

    def prepare(self, service: Service) -> None:
        """What an administrator does before a service's first release."""
        ...

    def forget(self, service: Service) -> None:
        """Undo `prepare`."""
        ...

    def images(self, client: docker.DockerClient, image_of: ImageOf) -> ImageOf:
        """Makes test images as this runtime can run them."""
        ...

    def opener(self) -> str:
        """A Python expression that gives the same runtime in another process."""
        ...

    def replicas(self, service: Service) -> Sequence[str]:
        """The names of all replicas that exist, of every revision."""
        ...

    def trials(self, service: Service) -> Sequence[str]:
        """The names of what exists because of smoke tests of the service."""
        ...

    def kill_replica(self, service: Service) -> None:
        """Remove one replica of what is live, as an operator or a crash would."""
        ...

    def remove_proxy(self, service: Service) -> bool:
        """Remove what stands between users and replicas; False if the runtime has no such thing."""
        ...

    def resources(self, service: Service) -> Sequence[str]:
        """Everything that exists because of the service."""
        ...


class DockerHarness:
    steps: ClassVar[Sequence[tuple[str, int]]] = (
        ("pulling", 1),
        ("starting", 1),
        ("waiting", 1),
        ("switching", 1),
        ("letting the requests", 2),
        ("removing what it replaces", 2),
        (": live", 2),
    )
    first_steps: ClassVar[Sequence[str]] = ("pulling", "starting 2", "waiting until", "switching")
    heals_itself: ClassVar[bool] = False
    proxied: ClassVar[bool] = True
    trial: ClassVar[type[Any]] = DockerTrial

    def __init__(self, client: docker.DockerClient, registry: RunningRegistry | None = None) -> None:
        self._client = client
        self._auth = registry.settings().docker_auth() if registry else None

    def open(self) -> Runtime:
        return DockerRuntimeSettings().open(self._auth)

    def opener(self) -> str:
        return "__import__('linkspan.runtimes.docker.runtime', fromlist=['x']).DockerRuntimeSettings().open()"

    def prepare(self, service: Service) -> None: ...

    def forget(self, service: Service) -> None: ...

    def images(self, client: docker.DockerClient, image_of: ImageOf) -> ImageOf:
        return image_of

    def replicas(self, service: Service) -> Sequence[str]:
        return sorted(name for name in self.resources(service) if f"linkspan-{service}-r" in name)

    def trials(self, service: Service) -> Sequence[str]:
        label = f"{LABEL}={service.app}"
        found = self._client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return [str(container.name) for container in found]

    def kill_replica(self, service: Service) -> None:
        self._client.containers.get(self.replicas(service)[0]).remove(force=True)

    def remove_proxy(self, service: Service) -> bool:
        self._client.containers.get(f"linkspan-{service}").remove(force=True)
        return True

    def resources(self, service: Service) -> Sequence[str]:
        name = f"linkspan-{service}"
        found = self._client.containers.list(all=True, filters={"name": name}, ignore_removed=True)
        names = [str(container.name) for container in found]
        names += [f"network {network.name}" for network in self._client.networks.list(names=[name])]
        with contextlib.suppress(NotFound):
            names.append(f"volume {self._client.volumes.get(name).name}")
        return names


class KubernetesHarness:
    """A cluster, used with the rights in k8s/linkspan and no others."""

    steps: ClassVar[Sequence[tuple[str, int]]] = (
        ("applying", 1),
        ("waiting until", 1),
        ("all are ready", 1),
        (": live", 2),
    )
    first_steps: ClassVar[Sequence[str]] = ("applying", "waiting until", "all are ready")
    heals_itself: ClassVar[bool] = True
    proxied: ClassVar[bool] = False
    trial: ClassVar[type[Any]] = KubeTrial

    def __init__(self, cluster: RunningCluster, registry: RunningRegistry, kubeconfig: Path) -> None:
        self._cluster = cluster
        self.registry = registry
        self._kubeconfig = kubeconfig

    def open(self, auth: Mapping[str, str] | None = None, **fields: Any) -> Runtime:
        """`auth` instead of the registry's own."""
        settings = KubernetesRuntimeSettings(kubeconfig=SecretStr(self._kubeconfig.read_text()), **fields)
        return settings.open(auth or self.registry.settings().docker_auth())

    def opener(self) -> str:
        auth = self.registry.settings().docker_auth()
        settings = f"KubernetesRuntimeSettings(kubeconfig=open({str(self._kubeconfig)!r}).read())"
        module = "__import__('linkspan.runtimes.kubernetes.runtime', fromlist=['x'])"
        return f"{module}.{settings}.open({dict(auth or {})!r})"

    def prepare(self, service: Service) -> None:
        allow(self._cluster, str(service))

    def forget(self, service: Service) -> None:
        self._cluster.api.delete_namespace(str(service))

    def images(self, client: docker.DockerClient, image_of: ImageOf) -> ImageOf:
        repository = f"{self.registry.host}/conformance-{uuid.uuid4().hex[:8]}"

        def pushed(version: str, behaviour: str = "good") -> str:
            tag = f"{version}-{behaviour}"
            client.images.get(image_of(version, behaviour)).tag(repository, tag)
            try:
                return push(client, repository, tag, self.registry)
            finally:
                client.images.remove(f"{repository}:{tag}")  # the name only: the image has another

        return pushed

    def replicas(self, service: Service) -> Sequence[str]:
        pods = self._cluster.get(str(service), "pods", "-l", f"linkspan.dev/service={service}")["items"]
        return sorted(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"])

    def trials(self, service: Service) -> Sequence[str]:
        found = self._cluster.get(
            str(service), "pods,configmaps,networkpolicies", "-l", f"linkspan.dev/trial={service}"
        )
        items = [each["metadata"] for each in found["items"]]
        return [meta["name"] for meta in items if "deletionTimestamp" not in meta]

    def kill_replica(self, service: Service) -> None:
        self._cluster.run("delete", "pod", "-n", str(service), self.replicas(service)[0])

    def remove_proxy(self, service: Service) -> bool:
        self._cluster.run("delete", "service", "-n", str(service), "app")
        return True

    def resources(self, service: Service) -> Sequence[str]:
        kinds = (
            "deployment,replicaset,controllerrevision,secret,service,ingress,serviceaccount,networkpolicy,"
            "horizontalpodautoscaler,poddisruptionbudget,configmap"
        )
        found = self._cluster.get(str(service), kinds)["items"]
        names = [f"{each['kind']}/{each['metadata']['name']}" for each in found]
        # What the cluster puts into every namespace.
        return sorted(set(names) - {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"})


def as_linkspan(cluster: RunningCluster, path: Path) -> Path:
    """Apply k8s/linkspan and write a kubeconfig of its account, which has those rights and no others."""
    # Of two that apply something new at once the later one is told that it is there already.
    with _ACCOUNT.open("w") as turn, API_SERVER.open("w") as share:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(share, fcntl.LOCK_SH)
        cluster.run("apply", "-k", str(ROOT / "k8s" / "linkspan"))
    return cluster.kubeconfig_of("linkspan", "linkspan", path)


def allow(cluster: RunningCluster, namespace: str) -> None:
    """Make a namespace and let Linkspan's account release to it, as the README tells an administrator to."""
    cluster.api.create_namespace(namespace)
    binding = ["create", "rolebinding", "linkspan", "-n", namespace, "--clusterrole=linkspan-deployer"]
    cluster.run(*binding, "--serviceaccount=linkspan:linkspan")
    cluster.until_linkspan_may(namespace, "patch", "apps", "deployments")


def push(client: docker.DockerClient, repository: str, tag: str, registry: RunningRegistry) -> str:
    """Push an image; returns its reference by digest."""
    auth = registry.settings().docker_auth()
    for line in client.images.push(repository, tag=tag, auth_config=auth, stream=True, decode=True):
        if "error" in line:
            raise AssertionError(line["error"])
        if "Digest" in line.get("aux", {}):
            digest = str(line["aux"]["Digest"])
    return f"{repository}@{digest}"


ROLLS_OUT = "runtime.roll_out(asked, say=say)"
TRIES = """
from linkspan.release.smoke import smoke
from linkspan.config import SmokeSection
smoke(runtime, asked, SmokeSection(path="/"), say=say)
"""


def child_program(opener: str, rollout: dict[str, object], die_at: str, does: str = ROLLS_OUT) -> str:
    """A program that kills itself, without any clean-up, when a line with `die_at` is said."""
    return f"""
import json, os, signal
from linkspan.runtimes.base import Rollout
def say(line):
    print(line, flush=True)
    if {die_at!r} in line:
        os.kill(os.getpid(), signal.SIGKILL)
runtime = {opener}
asked = Rollout.model_validate(json.loads({json.dumps(rollout)!r}))
{does}
"""

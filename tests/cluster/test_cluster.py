"""The cluster is a real one: it pulls with a password, balances, refuses, outlives its API server.

Its node mounts images, and keeps nothing packed that it has unpacked.
"""

import base64
import hashlib
import json
import platform
import random
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from linkspan.registry import media
from tests.cluster.pause import ARCHITECTURES
from tests.cluster.places import NODE
from tests.cluster.program import CONTAINERD, KUBERNETES
from tests.registry.images import a_code_image, tar_of
from tests.services.cluster import ROOT, RunningCluster
from tests.services.engine import ImageOf
from tests.services.registry import RunningRegistry
from tests.waiting import until

Pushed = Callable[[str], str]


@pytest.fixture
def pushed(
    docker_client: docker.DockerClient, image_of: ImageOf, registry: RunningRegistry
) -> Iterator[Pushed]:
    """Push the test service in a version; returns its address in the registry."""
    repository = f"{registry.host}/web-{uuid.uuid4().hex[:8]}"
    tags: list[str] = []

    def push(version: str) -> str:
        docker_client.images.get(image_of(version)).tag(repository, version)
        tags.append(f"{repository}:{version}")
        login = {"username": registry.username, "password": registry.password}
        for event in docker_client.images.push(
            repository, version, auth_config=login, stream=True, decode=True
        ):
            assert "error" not in event, event
        return tags[-1]

    yield push
    for tag in tags:
        docker_client.images.remove(tag)


def pull_secret(registry: RunningRegistry) -> dict[str, Any]:
    login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    config = json.dumps({"auths": {registry.host: {"auth": login}}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }


def deployment(image: str, *, secret: bool = True) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": image,
        "command": ["sh", "-c", 'echo "this is $VERSION"; exec python3 /app.py'],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
        # A pod that ends still gets requests until kube-proxy has heard of it.
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
        "resources": {
            "requests": {"cpu": "50m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
    }
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 5}
    if secret:
        spec["imagePullSecrets"] = [{"name": "registry"}]
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


def versions(urls: list[str]) -> set[str]:
    """What answers; "" for no answer: a pod that has ended refuses, or says nothing at all."""
    found = set()
    for url in urls:
        try:
            found.add(str(httpx.get(url, timeout=60, trust_env=False).json()["version"]))
        except httpx.TransportError:
            found.add("")
    return found


def answered_by(urls: list[str], wanted: str) -> None:
    """This version is soon all that answers: kube-proxy hears of new and ending pods a bit later."""
    until(lambda: versions(urls * 5) == {wanted}, what=f"{wanted} alone")


def test_the_releases_of_the_node(cluster: RunningCluster) -> None:
    """Those that the modules pin, and nothing that the machine had."""
    node = cluster.api.get(f"/api/v1/nodes/{NODE}")
    assert node is not None
    info = node["status"]["nodeInfo"]
    assert info["kubeletVersion"] == f"v{KUBERNETES.version}"
    assert info["containerRuntimeVersion"] == f"containerd://{CONTAINERD.version}"
    assert json.loads(cluster.run("get", "--raw", "/version"))["gitVersion"] == f"v{KUBERNETES.version}"


LOOK = """
sha256sum /srv/weights.bin
ls -A /srv
touch /srv/weights.bin || true
touch /srv/new || true
"""


def test_an_image_is_mounted(
    cluster: RunningCluster,
    namespace: str,
    registry: RunningRegistry,
    unique_app: str,
    pushed: Pushed,
) -> None:
    """Pulled with a password, a folder of it, to be read only, even by root; its layer is not kept packed."""
    weights = random.Random(unique_app).randbytes(1 << 20)
    layer = tar_of({"model/": b"", "model/weights.bin": weights, "other/": b"", "other/secret": b"s"})
    image = a_code_image(media.OCI_MANIFEST, layer=layer, architecture=ARCHITECTURES[platform.machine()])
    with registry.settings().open(unique_app) as repository:
        digest = repository.push_blob(layer)
        repository.push_image(image)

    reference = f"{registry.host}/{unique_app}@{image.digest}"
    container = {
        "name": "look",
        "image": pushed("v1"),
        "command": ["sh", "-ec", f"exec 2>&1\n{LOOK}"],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "model", "mountPath": "/srv", "subPath": "model"}],
    }
    spec = {
        "restartPolicy": "Never",
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [container],
        "volumes": [{"name": "model", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "look"}, "spec": spec}
    cluster.apply(namespace, pull_secret(registry), pod)
    assert ended(cluster, namespace, "look") == "Succeeded"
    assert cluster.run("logs", "-n", namespace, "look").splitlines() == [
        f"{hashlib.sha256(weights).hexdigest()}  /srv/weights.bin",
        "weights.bin",
        "touch: cannot touch '/srv/weights.bin': Read-only file system",
        "touch: cannot touch '/srv/new': Read-only file system",
    ]
    assert image.digest in cluster.packed()
    until(lambda: digest not in cluster.packed(), what="an unpacked layer that is thrown away")


def test_no_layer_of_a_container_is_kept_packed(
    cluster: RunningCluster, namespace: str, registry: RunningRegistry, pushed: Pushed
) -> None:
    """It is unpacked once, and lies on the disk once: as on EKS and GKE."""
    address = pushed("v1")
    app, _, tag = address.rpartition("/")[2].partition(":")
    with registry.settings().open(app) as repository:
        manifest = repository.manifest(tag)
    cluster.apply(namespace, pull_secret(registry), deployment(address))
    cluster.run("rollout", "status", "-n", namespace, "deployment/web", "--timeout=600s")
    assert manifest.digest in cluster.packed()
    layers = {each["digest"] for each in manifest.document["layers"]}
    until(lambda: not layers & cluster.packed(), what="unpacked layers that are thrown away")


def ended(cluster: RunningCluster, namespace: str, pod: str) -> str:
    """How a pod has ended."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"

    def phase() -> str:
        found = str((cluster.api.get(path) or {}).get("status", {}).get("phase", ""))
        return found if found in {"Succeeded", "Failed"} else ""

    return until(phase, what=f"the end of pod {pod}")


@pytest.mark.alone_on_the_cluster
def test_a_service_is_rolled_out(
    cluster: RunningCluster, namespace: str, registry: RunningRegistry, pushed: Pushed
) -> None:
    """Pulled with a password, answered through kube-proxy, seen into, and replaced while the API is away."""
    first, second = pushed("v1"), pushed("v2")
    cluster.apply(namespace, pull_secret(registry), SERVICE, deployment(first))
    cluster.run("rollout", "status", "-n", namespace, "deployment/web", "--timeout=600s")
    port = cluster.get(namespace, "service", "web")["spec"]["ports"][0]["nodePort"]
    urls = [f"http://{host}:{port}/" for host in (cluster.node_ip, "127.0.0.1")]
    answered_by(urls, "v1")

    assert "this is v1" in cluster.run("logs", "-n", namespace, "deployment/web")
    ask = "import urllib.request as u; print(u.urlopen('http://web', timeout=120).read().decode())"
    inside = cluster.run("exec", "-n", namespace, "deployment/web", "--", "python3", "-c", ask)
    assert json.loads(inside)["version"] == "v1"

    cluster.run("set", "image", "-n", namespace, "deployment/web", f"web={second}")
    cluster.stop_api_server()
    until(lambda: versions(urls) <= {"v1", "v2"}, what="an answer without the API server")
    cluster.start_api_server()
    cluster.run("rollout", "status", "-n", namespace, "deployment/web", "--timeout=600s")
    answered_by(urls, "v2")


def test_the_registry_wants_its_password(cluster: RunningCluster, namespace: str, pushed: Pushed) -> None:
    """Without the secret nothing is pulled: the other test's pull did prove something."""
    cluster.apply(namespace, deployment(pushed("v3"), secret=False))
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Dweb"

    def reasons() -> set[str]:
        pods = (cluster.api.get(path) or {}).get("items", [])
        states = [pod["status"].get("containerStatuses", [{}])[0].get("state", {}) for pod in pods]
        return {state.get("waiting", {}).get("reason", "") for state in states}

    # The first is there only for a moment after each attempt.
    wanted = {"ErrImagePull", "ImagePullBackOff"}
    until(lambda: (seen := reasons()) and seen <= wanted, what="pods that cannot pull")


def test_rights_are_checked(cluster: RunningCluster, namespace: str, tmp_path: Path) -> None:
    """A service account may do what its role says and nothing else."""
    cluster.run("create", "role", "-n", namespace, "reader", "--verb=get,list", "--resource=pods")
    cluster.run(
        "create",
        "rolebinding",
        "-n",
        namespace,
        "reads",
        "--role=reader",
        f"--serviceaccount={namespace}:default",
    )
    config = cluster.kubeconfig_of(namespace, "default", tmp_path / "kubeconfig")
    pods = ("get", "pods", f"--kubeconfig={config}")
    # The API server hears of a new role a moment after it is made.
    until(lambda: "Forbidden" not in cluster.run(*pods, check=False), what="its right to read pods")
    cluster.run(*pods)
    assert "Forbidden" in cluster.run("get", "secrets", f"--kubeconfig={config}", check=False)


def refused(cluster: RunningCluster, says: str, *command: str) -> None:
    """It soon is: admission hears of labels and quotas a moment later. An attempt before leaves nothing."""
    until(lambda: says in cluster.run(*command, "--dry-run=server", check=False), what=says)
    assert says in cluster.run(*command, check=False)


def test_admission_refuses(cluster: RunningCluster, namespace: str) -> None:
    """Pod Security and quotas are enforced."""
    cluster.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    pod = ("run", "-n", namespace, "--image=example.invalid/any", "privileged")
    refused(cluster, 'violates PodSecurity "restricted', *pod)
    cluster.run("create", "quota", "-n", namespace, "none", "--hard=services=0")
    service = ("create", "service", "clusterip", "-n", namespace, "web", "--tcp=80")
    refused(cluster, "exceeded quota", *service)


def test_up_twice(cluster: RunningCluster) -> None:
    """It is found, and left as it is."""
    again = subprocess.run(
        [str(ROOT / "scripts" / "cluster.sh"), "up"], capture_output=True, text=True, check=True
    )
    assert "is up already" in again.stdout

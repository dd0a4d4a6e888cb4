"""Which clusters mount images: by what their nodes say, if we may ask, and where pods may do little else."""

import uuid
from pathlib import Path

import pytest
from pydantic import SecretStr

from linkspan.errors import RolloutFailed
from linkspan.runtimes.base import Mounting, Runtime, Service
from linkspan.runtimes.kubernetes.nodes import Node, offer
from linkspan.runtimes.kubernetes.runtime import KubernetesRuntimeSettings
from tests.runtimes.conftest import Mounting as Add
from tests.runtimes.harness import KubernetesHarness
from tests.runtimes.kubernetes.webhook import webhook
from tests.runtimes.releases import quiet, rollout
from tests.services.cluster import RunningCluster
from tests.services.engine import ImageOf

NEW = ("v1.36.3", "containerd://2.4.2")


def nodes(*versions: tuple[str, str]) -> list[Node]:
    return [Node(f"n{number}", *each) for number, each in enumerate(versions)]


@pytest.mark.parametrize(
    "node", [NEW, ("v1.35.0-eks-1a2b", "containerd://2.2.0"), ("v1.35.1", "cri-o://1.33.0")]
)
def test_where_every_node_can_it_is_chosen(node: tuple[str, str]) -> None:
    assert offer(nodes(node, NEW)) == Mounting("all")


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (("v1.34.9", NEW[1]), "node n1 has Kubernetes v1.34.9, older than 1.35"),
        (("v1.9.0", NEW[1]), "node n1 has Kubernetes v1.9.0, older than 1.35"),
        (
            ("v1.35.0", "containerd://2.0.5"),
            "node n1 has containerd://2.0.5, not containerd 2.2 or cri-o 1.33",
        ),
        (("v1.35.0", "containerd://1.7.29"), "node n1 has containerd://1.7.29, not containerd 2.2"),
        (("v1.36.0", "containerd://2.1.9"), "node n1 has containerd://2.1.9, not containerd 2.2"),
        (("v1.35.0", "cri-o://1.32.1"), "node n1 has cri-o://1.32.1, not"),
        (("v1.35.0", "docker://28.0.1"), "node n1 has docker://28.0.1, not"),
        (("v1.35.0", ""), "node n1 has an unknown engine, not"),
        (("", "containerd://2.4.2"), "node n1 has Kubernetes , older"),
    ],
)
def test_one_node_that_cannot_is_enough(node: tuple[str, str], why: str) -> None:
    """But an app may have its pods on the others, and say so itself."""
    found = offer(nodes(NEW, node))
    assert found.places == "some"
    assert found.reason.startswith(why)


def test_where_no_node_can_it_is_not_possible() -> None:
    assert offer(nodes(("v1.32.0", NEW[1]), ("v1.36.0", "containerd://1.7.1"))).places == "none"
    assert offer(nodes(("v1.33.0", "containerd://2.2.4"))) == Mounting(
        "some", "node n0 has Kubernetes v1.33.0, older than 1.35"
    ), "its gate may be on, which no node says"
    assert offer([]) == Mounting("unknown", "the cluster has no node yet")


@pytest.mark.needs("cluster")
def test_the_account_sees_the_nodes_once_an_administrator_lets_it(
    cluster: RunningCluster, kubernetes: KubernetesHarness, namespace: str, tmp_path: Path
) -> None:
    assert kubernetes.open().mounting("/model", ()) == Mounting(
        "unknown", "Linkspan's account may not see which nodes there are"
    )
    name = f"sees-{uuid.uuid4().hex[:8]}"
    cluster.run("create", "serviceaccount", name, "-n", namespace)
    account = f"--serviceaccount={namespace}:{name}"
    cluster.run("create", "clusterrolebinding", name, "--clusterrole=linkspan-nodes", account)
    try:
        cluster.until_may(f"{namespace}:{name}", {"verb": "list", "group": "", "resource": "nodes"})
        file = cluster.kubeconfig_of(namespace, name, tmp_path / "kubeconfig")
        assert KubernetesRuntimeSettings(kubeconfig=SecretStr(file.read_text())).open().mounting(
            "/model", ()
        ) == Mounting("all")
    finally:
        cluster.run("delete", "clusterrolebinding", name)


@pytest.mark.needs("cluster", "registry")
def test_a_model_is_mounted_where_pods_are_restricted(
    cluster: RunningCluster,
    kubernetes: KubernetesHarness,
    runtime: Runtime,
    service: Service,
    image_of: ImageOf,
    mounting: Add,
) -> None:
    cluster.run("label", "namespace", str(service), "pod-security.kubernetes.io/enforce=restricted")
    plan = mounting(rollout(service, "v1", image_of("v1"), replicas=1), {"weights": b"1"})
    assert runtime.roll_out(plan, say=quiet).number == 1
    assert not runtime.drift(service, 1)


@pytest.mark.needs("cluster", "registry")
def test_where_the_gate_is_off_nothing_is_tried(
    *,
    cluster: RunningCluster,
    runtime: Runtime,
    service: Service,
    image_of: ImageOf,
    mounting: Add,
    tmp_path: Path,
) -> None:
    """The API server takes the volume out without a word; that says nothing about the release."""
    live = runtime.roll_out(rollout(service, "v1", image_of("v1"), replicas=1), say=quiet)
    plan = mounting(rollout(service, "v2", image_of("v2"), replicas=1, expect=1), {"weights": b"1"})
    with (
        webhook(cluster, service, tmp_path, dry_run=True, drops=True),
        pytest.raises(RolloutFailed, match="the cluster's API server drops such volumes"),
    ):
        runtime.roll_out(plan, say=quiet)
    assert runtime.history(service) == [live]

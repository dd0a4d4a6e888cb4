"""The objects of a release in a cluster: whose they are, what they say, and what somebody did to them."""

import base64
import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from linkspan.errors import RolloutFailed, RuntimeDenied, RuntimeUnavailable
from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.kubernetes import containers
from linkspan.runtimes.kubernetes.app_objects import default_objects
from tests.runtimes.harness import KubernetesHarness
from tests.runtimes.kubernetes.passwords import password_in
from tests.runtimes.objects import app_of, config_map
from tests.runtimes.releases import quiet, rollout
from tests.services.cluster import RunningCluster
from tests.services.engine import ImageOf
from tests.services.registry import PASSWORD, USER, RunningRegistry
from tests.waiting import until

LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture
def neighbour(service: Service, runtime: Runtime) -> Iterator[Service]:
    """Another service that was given the same namespace."""
    other = Service(app=f"{service.app}2", environment="production", namespace=str(service))
    yield other
    runtime.destroy(other)


@pytest.fixture
def widgets(cluster: RunningCluster, service: Service) -> Iterator[str]:
    """The API group of a kind, Widget, that nobody but this cluster knows."""
    group = f"{service.app}.example.org"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    kind = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [version],
        },
    }
    cluster.apply("default", kind)
    cluster.run("wait", f"crd/widgets.{group}", "--for=condition=Established", "--timeout=600s")
    yield group
    cluster.run("delete", f"crd/widgets.{group}", "--wait=false")


def grant(cluster: RunningCluster, service: Service, group: str) -> None:
    """What an administrator adds for an app that brings other kinds than Linkspan's own."""
    verbs = ["get", "create", "patch", "delete"]
    rules = [
        {"apiGroups": [group], "resources": ["widgets"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": verbs},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "own"}}
    cluster.apply(str(service), {**role, "rules": rules})
    who = "--serviceaccount=linkspan:linkspan"
    cluster.run("create", "rolebinding", "own", "-n", str(service), "--role=own", who)
    cluster.until_linkspan_may(str(service), "patch", group, "widgets")


def test_objects_of_an_apps_own_come_and_go_with_its_releases(
    *,
    cluster: RunningCluster,
    runtime: Runtime,
    harness: KubernetesHarness,
    service: Service,
    image_of: ImageOf,
    widgets: str,
) -> None:
    widget = {
        "apiVersion": f"{widgets}/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"any": [1]},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    own = [*default_objects(), widget, claim, config_map("settings", "old"), config_map("theirs")]
    first = rollout(service, "v1", image_of("v1"), objects=own)

    with pytest.raises(RuntimeDenied, match=r'cannot get resource "(widgets|persistentvolumeclaims)"'):
        runtime.roll_out(first, say=quiet)
    assert harness.resources(service) == [], "nothing was begun"
    grant(cluster, service, widgets)
    live = runtime.roll_out(first, say=quiet)
    assert not runtime.drift(service, 2)
    assert cluster.get(str(service), f"widgets.{widgets}", "w")["spec"] == {"any": [1]}

    # A release that the cluster refuses takes its other objects with it.
    wrong = copy.deepcopy([*default_objects(), config_map("settings", "new"), config_map("more")])
    app_of(wrong)["ports"][0]["containerPort"] = 99999
    plan = rollout(service, "v2", image_of("v2"), objects=wrong, expect=1)
    with pytest.raises(RolloutFailed, match=r"Deployment/app is refused: .*99999"):
        runtime.roll_out(plan, say=quiet)
    assert (runtime.live(service), runtime.drift(service, 2)) == (live, "")
    assert cluster.get(str(service), "configmap", "settings")["data"] == {"text": "old"}
    assert "ConfigMap/more" not in harness.resources(service)

    # Somebody makes one of them anew, as his own.
    cluster.run("delete", "configmap", "theirs", "-n", str(service))
    cluster.run("create", "configmap", "theirs", "-n", str(service))
    said: list[str] = []
    runtime.roll_out(rollout(service, "v2", image_of("v2"), expect=1), say=said.append)
    removed = sorted(line for line in said if "removed" in line)
    assert [re.sub("revision 3: removed (.*), which it has no more", r"\1", line) for line in removed] == [
        "ConfigMap/settings",
        "Widget/w",
    ]
    assert "ConfigMap/settings" not in harness.resources(service)
    assert "ConfigMap/theirs" in harness.resources(service)
    assert not cluster.get(str(service), f"widgets.{widgets}")["items"]
    assert cluster.get(str(service), "persistentvolumeclaim", "data"), "with it would go the data"


def test_a_release_says_where_it_came_from_and_keeps_the_password_to_itself(
    *,
    cluster: RunningCluster,
    runtime: Runtime,
    harness: KubernetesHarness,
    service: Service,
    neighbour: Service,
    image_of: ImageOf,
    registry: RunningRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    plans = [
        rollout(service, name, image_of(name), expect=i, run="http://prefect.example/runs/7")
        for i, name in enumerate(["v1", "v2"])
    ]
    # It is no verdict on a release as long as it may pass.
    monkeypatch.setattr(containers, "PATIENCE", math.inf)
    with pytest.raises(RuntimeUnavailable, match=r"cannot pull .*: no basic auth credentials"):
        harness.open(pull_secret=False).roll_out(
            plans[0].model_copy(update={"ready_seconds": 30}), say=said.append
        )
    for plan in plans:
        runtime.roll_out(plan, say=said.append)
        # As an autoscaler does when many users come: there is one, so it is not for a release to undo.
        cluster.run("scale", "-n", str(service), "deployment/app", "--replicas=3")
        assert not runtime.drift(service, 2)
    until(lambda: len(harness.replicas(service)) == 3, what="the third replica")

    history = cluster.run("rollout", "history", "-n", str(service), "deployment/app")
    for plan in plans:
        assert re.search(rf"^\d+\s+{re.escape(plan.release.title)}, test$", history, re.MULTILINE), history
    release = plans[1].release
    expected: dict[str, Any] = {
        "revision": "2",
        "release": release.title,
        "commit": release.commit.sha,
        "commit-author": "Ada <ada@example.org>",
        "commit-subject": "Change to v2",
        "model": "digits v2",
        "model-digest": release.model.digest,
        "image": release.image,
        "cause": "test",
        "run": "http://prefect.example/runs/7",
    }
    pods = cluster.get(str(service), "pods", "-l", "linkspan.dev/revision=2")["items"]
    for thing in [cluster.get(str(service), "deployment", "app"), *pods]:
        found = thing["metadata"]["annotations"]
        assert {name: found.get(f"linkspan.dev/{name}") for name in expected} == expected
    assert len(pods) == 3

    assert password_in(cluster, service) == PASSWORD
    kinds = "deployment,replicaset,pod,controllerrevision,event,configmap,serviceaccount"
    everything = cluster.run("get", kinds, "-n", str(service), "-o", "yaml", "--show-managed-fields")
    assert "linkspan.dev/history" in everything
    for text in (everything, "\n".join(said)):
        for secret in (PASSWORD, LOGIN):
            assert secret not in text

    before = harness.resources(service)
    version = cluster.get(str(service), "deployment", "app")["metadata"]["generation"]
    with pytest.raises(
        RolloutFailed, match=f"belongs to {service}: give each service a namespace of its own"
    ):
        runtime.roll_out(rollout(neighbour, "v1", image_of("v1")), say=quiet)
    assert harness.resources(service) == before
    assert cluster.get(str(service), "deployment", "app")["metadata"]["generation"] == version
    assert not runtime.drift(service, 2)

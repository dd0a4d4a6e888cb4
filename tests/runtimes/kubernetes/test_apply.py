"""Objects on a real API server: what somebody adds to them is seen and goes with the next apply.

None of them has a pod, so each case takes no longer than its requests.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from linkspan.errors import RolloutConflict, RuntimeDenied, RuntimeUnavailable
from linkspan.runtimes.base import KubeObject, Service
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.apply import apply, drift
from linkspan.runtimes.kubernetes.client import Cluster, Refused, _translated, open_client
from linkspan.runtimes.kubernetes.containers import PASSES
from linkspan.runtimes.kubernetes.drift import taken_over
from linkspan.runtimes.kubernetes.marks import reference
from linkspan.runtimes.kubernetes.render import render
from linkspan.runtimes.kubernetes.service import KubeService
from tests.runtimes.harness import as_linkspan
from tests.runtimes.objects import app_of, config_map, hands, pod_of, the
from tests.runtimes.releases import rollout
from tests.services.cluster import RunningCluster
from tests.values import NOW

Hand = Callable[..., None]


@pytest.fixture(scope="module")
def account(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A kubeconfig with the rights in k8s/linkspan."""
    return as_linkspan(cluster, tmp_path_factory.mktemp("account") / "kubeconfig").read_text()


@pytest.fixture
def api(account: str) -> Cluster:
    return Cluster(open_client(account, ""))


@pytest.fixture
def objects(service: Service) -> list[KubeObject]:
    plan = rollout(service, "v1", f"registry.invalid/digits@sha256:{'a' * 64}", host="digits.example")
    own = [*default_objects(), config_map("settings", "ours")]
    made = render(own, plan, namespace=str(service), revision=1, at=NOW)
    the("Deployment", made)["spec"]["replicas"] = 0
    return made


@pytest.fixture
def hand(cluster: RunningCluster, service: Service) -> Hand:
    """Changes an object as people do."""

    def patch(what: str, change: object, *options: str) -> None:
        cluster.run("patch", what, "-n", str(service), "-p", json.dumps(change), *options)

    return patch


def specs(cluster: RunningCluster, service: Service) -> dict[str, Any]:
    kinds = "deployment,service,configmap,networkpolicy,poddisruptionbudget,ingress,hpa"
    items = cluster.get(str(service), kinds)["items"]
    return {each["kind"]: each.get("spec") or each.get("data") for each in items}


def test_each_addition_is_noticed_in_one_line_and_goes(
    *,
    cluster: RunningCluster,
    api: Cluster,
    service: Service,
    objects: list[KubeObject],
    hand: Hand,
) -> None:
    apply(api, str(service), objects)
    before = specs(cluster, service)
    image = app_of(objects)["image"]
    for what, change, where in hands(image):
        hand(what, change)
        assert specs(cluster, service) != before, what
        assert drift(api, objects).endswith(f"/{what.partition('/')[2]}: {where} was set by kubectl-patch")
        apply(api, str(service), objects)
        assert specs(cluster, service) == before, where
        assert drift(api, objects) == ""
    for what, change, _ in hands(image):
        hand(what, change)
    assert "\n" not in drift(api, objects)
    assert " and 6 more; " in drift(api, objects) + "; "
    apply(api, str(service), objects)
    assert specs(cluster, service) == before
    assert drift(api, objects) == ""


def test_a_run_that_was_killed_after_it_took_over_is_finished_by_the_next(
    *,
    cluster: RunningCluster,
    api: Cluster,
    service: Service,
    objects: list[KubeObject],
    hand: Hand,
) -> None:
    apply(api, str(service), objects)
    before = specs(cluster, service)
    for what, change, _ in hands(app_of(objects)["image"]):
        hand(what, change)
    for obj in objects:
        if (found := api.find(obj)) and (fields := taken_over(found, obj)):
            api.merge(obj, {"managedFields": fields})
    assert "spec.paused is True instead of missing" in drift(api, [the("Deployment", objects)])
    apply(api, str(service), objects)
    assert specs(cluster, service) == before
    assert drift(api, objects) == ""


def test_objects_that_somebody_else_made_become_what_the_manifests_say(
    cluster: RunningCluster, api: Cluster, service: Service, objects: list[KubeObject]
) -> None:
    apply(api, str(service), objects)
    before = specs(cluster, service)
    deployment = the("Deployment", objects)
    cluster.run("delete", "deployment,service", "app", "-n", str(service))
    theirs = json.loads(json.dumps([deployment, the("Service", objects)]))
    pod_of(theirs[0])["containers"].append({"name": "side", "image": "registry.invalid/side"})
    theirs[1]["spec"]["ports"].append({"name": "more", "port": 81})
    cluster.apply(str(service), *theirs)
    address = cluster.get(str(service), "service", "app")["spec"]
    assert "was set by kubectl-client-side-apply" in drift(api, objects)
    apply(api, str(service), objects)
    assert drift(api, objects) == ""
    after = specs(cluster, service)
    assert after["Deployment"] == before["Deployment"]
    assert after["Service"] == {**address, "ports": address["ports"][:1]}, (
        "it keeps its address and node port"
    )


def test_an_object_that_forgot_who_set_what_is_no_drift_and_can_be_applied(
    *,
    cluster: RunningCluster,
    api: Cluster,
    service: Service,
    objects: list[KubeObject],
    hand: Hand,
) -> None:
    apply(api, str(service), objects)
    before = specs(cluster, service)
    for what in ("deployment/app", "service/app"):
        hand(what, [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}], "--type=json")
    apply(api, str(service), objects)
    apply(api, str(service), objects)
    assert drift(api, objects) == ""
    assert specs(cluster, service) == before


def test_who_writes_between_the_look_and_the_change_is_not_overwritten_unseen(
    *,
    cluster: RunningCluster,
    account: str,
    service: Service,
    objects: list[KubeObject],
    hand: Hand,
) -> None:
    class Slow(Cluster):
        """Somebody else is quicker, once for each object."""

        def __init__(self, *, released: bool) -> None:
            super().__init__(open_client(account, ""))
            self.seen: set[str] = set()
            self.released = released

        def merge(self, obj: KubeObject, metadata: KubeObject) -> KubeObject:
            what = f"{obj['kind']}/{obj['metadata']['name']}"
            if what not in self.seen:
                self.seen.add(what)
                said = {"linkspan.dev/revision": "2"} if self.released else {"any": "1"}
                hand(what, {"metadata": {"annotations": said}})
            return super().merge(obj, metadata)

    quick = Cluster(open_client(account, ""))
    apply(quick, str(service), objects)
    before = specs(cluster, service)
    for what, change, _ in hands(app_of(objects)["image"]):
        hand(what, change)
    slow = Slow(released=False)
    apply(slow, str(service), objects)
    assert slow.seen == {
        "Deployment/app",
        "Service/app",
        "ConfigMap/settings",
        "HorizontalPodAutoscaler/app",
    }
    assert specs(cluster, service) == before
    hand("deployment/app", {"spec": {"paused": True}})
    with pytest.raises(RolloutConflict, match=r"revision 1 in Deployment/app, found revision 2"):
        apply(Slow(released=True), str(service), objects)
    assert cluster.get(str(service), "deployment", "app")["spec"]["paused"]


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("v1", "../../kube-system/configmaps/kube-root-ca.crt"),
        ("v1", "kube-root-ca.crt?pretty=true"),
        ("v1", "kube-root-ca.crt%3Fpretty"),
        ("v1", ".."),
        ("apps/v1/../../../api/v1", "kube-root-ca.crt"),
    ],
)
def test_a_name_leads_to_no_other_object(
    cluster: RunningCluster, service: Service, version: str, name: str
) -> None:
    """Though the account were allowed to: names come from an app's folder."""
    everything = Cluster(open_client(cluster.kubeconfig.read_text(), ""))
    obj = {"apiVersion": version, "kind": "ConfigMap"}
    try:
        found = everything.find({**obj, "metadata": {"name": name, "namespace": str(service)}})
    except Refused:
        return
    assert found is None


def test_a_namespace_that_has_gone_is_a_refusal(cluster: RunningCluster, service: Service) -> None:
    everything = Cluster(open_client(cluster.kubeconfig.read_text(), ""))
    obj = config_map("settings")
    obj["metadata"]["namespace"] = f"{service}-gone"
    for make in (everything.apply, everything.create):
        with pytest.raises(Refused, match="not found"):
            make(obj)


@pytest.mark.parametrize("megabytes", [2, 2.9, 4])
def test_an_object_that_is_too_large_is_a_refusal(
    cluster: RunningCluster, service: Service, megabytes: float
) -> None:
    """etcd's words for it come as 500, with which the API server also says that it is busy."""
    everything = Cluster(open_client(cluster.kubeconfig.read_text(), ""))
    obj = {**reference(service, str(service), 1), "revision": 1, "data": {"x": "x" * int(megabytes * 1e6)}}
    with pytest.raises(Refused, match=r"too large|larger than max"):
        everything.create(obj)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("etcdserver: request is too large", Refused),
        (
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2100 vs. 2)",
            Refused,
        ),
        ("etcdserver: mvcc: database space exceeded", RuntimeDenied),
        ("etcdserver: leader changed", RuntimeUnavailable),
        ("etcdserver: too many requests", RuntimeUnavailable),
    ],
)
def test_what_etcd_says_passes_or_not(said: str, kind: type[Exception]) -> None:
    error = ApiException(status=500, reason="Internal Server Error")
    error.body = json.dumps({"message": said, "code": 500})
    assert type(_translated(error, "cluster.example")) is kind
    assert (PASSES.search(said) is not None) is (kind is RuntimeUnavailable)


def test_a_kind_that_was_uninstalled_stops_neither_a_look_nor_the_removal_of_the_rest(
    api: Cluster, service: Service, objects: list[KubeObject]
) -> None:
    mine = KubeService(api, service, str(service))
    mine.apply(objects)
    meta = {"name": "app", "namespace": str(service)}
    gone: KubeObject = {"apiVersion": "monitoring.example/v1", "kind": "Monitor", "metadata": meta}
    assert mine.drift([*objects, gone]) == "Monitor/app is missing"
    assert mine.prune([gone, the("ConfigMap", objects)], []) == ["ConfigMap/settings"]

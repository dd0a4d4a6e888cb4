"""Who set which field: what others added is found, and taken over so that an apply removes it."""

import copy
from typing import Any

import pytest

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.drift import drift_of, foreign, taken_over

APP = 'k:{"name":"app"}'
OURS: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:a": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:template": {
            "f:metadata": {"f:annotations": {"f:linkspan.dev/run": {}}, "f:labels": {"f:app": {}}},
            "f:spec": {
                "f:containers": {APP: {".": {}, "f:image": {}, "f:name": {}}},
                "f:nodeSelector": {},
            },
        },
    },
}
WANTED: KubeObject = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "app"},
    "spec": {"replicas": 2, "template": {}},
}


def entry(manager: str, fields: dict[str, Any], *, operation: str = "Update", **more: str) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        **more,
    }


def found(*entries: dict[str, Any], ours: dict[str, Any] = OURS) -> KubeObject:
    fields = [entry("linkspan", ours, operation="Apply"), *entries]
    return {**WANTED, "metadata": {"name": "app", "managedFields": fields}}


def pod(fields: dict[str, Any]) -> dict[str, Any]:
    return {"f:spec": {"f:template": {"f:spec": fields}}}


def on_pod(key: str, name: str) -> dict[str, Any]:
    return {"f:spec": {"f:template": {"f:metadata": {key: {".": {}, name: {}}}}}}


ENV = pod({"f:containers": {APP: {"f:env": {".": {}, 'k:{"name":"DEBUG"}': {".": {}, "f:name": {}}}}}})
PORT = 'k:{"containerPort":9,"protocol":"TCP"}'


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        (ENV, "spec.template.spec.containers[app].env"),
        (
            pod({"f:containers": {APP: {"f:ports": {PORT: {".": {}, "f:containerPort": {}}}}}}),
            "spec.template.spec.containers[app].ports",
        ),
        (pod({"f:containers": {'k:{"name":"side"}': {".": {}}}}), "spec.template.spec.containers[side]"),
        (pod({"f:volumes": {'k:{"name":"v"}': {".": {}}}}), "spec.template.spec.volumes"),
        (pod({"f:tolerations": {}}), "spec.template.spec.tolerations"),
        ({"f:spec": {"f:paused": {}}}, "spec.paused"),
        (on_pod("f:labels", "f:mine"), "spec.template.metadata.labels.mine"),
        (on_pod("f:annotations", "f:example.org/x"), "spec.template.metadata.annotations.example.org/x"),
    ],
)
def test_what_somebody_added_is_found(fields: dict[str, Any], where: str) -> None:
    seen = found(entry("kubectl-edit", fields))
    assert [str(each) for each in foreign(seen, WANTED)] == [f"{where} was set by kubectl-edit"]
    assert drift_of(seen, WANTED, seen) == f"Deployment/app: {where} was set by kubectl-edit"


@pytest.mark.parametrize(
    "other",
    [
        entry("controller-manager", {"f:spec": {"f:paused": {}}, "f:status": {}}, subresource="status"),
        entry("horizontal-pod-autoscaler", {"f:spec": {"f:minReady": {}}}, subresource="scale"),
        entry("kubectl-annotate", {"f:metadata": {"f:annotations": {"f:mine": {}}}}),
        entry("kubectl-edit", {"f:spec": {"f:replicas": {}}}),
        entry("kubectl-rollout", on_pod("f:annotations", "f:kubectl.kubernetes.io/restartedAt")),
        entry("argocd", {"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}}}}}, operation="Apply"),
        entry("kubectl-edit", {"f:spec": {"f:paused": {}}}, apiVersion="apps/v2"),
        entry("kubectl-edit", {}),
    ],
    ids=["status", "scale", "metadata", "replicas", "restart", "ours too", "another version", "nothing"],
)
def test_what_is_others_business_is_left_alone(other: dict[str, Any]) -> None:
    assert foreign(found(other), WANTED) == []
    assert taken_over(found(other), WANTED) is None


def test_a_part_of_which_the_manifest_says_nothing_and_kinds_of_others_are_left_alone() -> None:
    added = entry("kubectl-edit", {"f:data": {"f:ca.crt": {}}}, apiVersion="v1")
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "managedFields": [added]}}
    assert foreign(settings, settings) == [], "an injected certificate"
    assert foreign(settings, {**settings, "data": {"a": "b"}})
    widget = {**WANTED, "apiVersion": "example.org/v1", "kind": "Deployment"}
    assert foreign(found(entry("its-controller", ENV, apiVersion="example.org/v1")), widget) == []


def test_what_the_server_gives_a_service_is_no_addition() -> None:
    port = 'k:{"port":80,"protocol":"TCP"}'
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {}}
    ours = entry(
        "linkspan", {"f:spec": {"f:ports": {port: {"f:port": {}}}}}, operation="Apply", apiVersion="v1"
    )
    extra = 'k:{"port":81,"protocol":"TCP"}'
    theirs: dict[str, Any] = {
        "f:clusterIP": {},
        "f:loadBalancerIP": {},
        "f:ports": {port: {"f:nodePort": {}}, extra: {".": {}, "f:nodePort": {}, "f:port": {}}},
    }
    hand = entry("kubectl-edit", {"f:spec": theirs}, apiVersion="v1")
    seen = {**service, "metadata": {"name": "app", "managedFields": [ours, hand]}}
    assert [str(each) for each in foreign(seen, service)] == ["spec.ports[81/TCP] was set by kubectl-edit"]
    [mine, kept] = taken_over(seen, service) or []
    assert kept["fieldsV1"] == {
        "f:spec": {"f:clusterIP": {}, "f:loadBalancerIP": {}, "f:ports": {port: {"f:nodePort": {}}}}
    }
    assert mine["fieldsV1"]["f:spec"]["f:ports"] == {port: {"f:port": {}}, extra: theirs["f:ports"][extra]}


def test_what_was_added_becomes_ours_and_nothing_else_changes() -> None:
    status = entry("controller-manager", {"f:status": {}}, subresource="status")
    label: dict[str, Any] = {"f:metadata": {"f:labels": {"f:theirs": {}}}}
    one = entry("kubectl-set", ENV, time="2026-11-22T19:00:00Z")
    two = entry("kubectl-edit", {**label, **pod({"f:tolerations": {}})})
    seen = found(status, one, two)
    before = copy.deepcopy(seen)
    mine, *rest = taken_over(seen, WANTED) or []
    assert seen == before
    assert rest == [status, {**two, "fieldsV1": label}]
    expected = copy.deepcopy(OURS)
    spec = expected["f:spec"]["f:template"]["f:spec"]
    spec["f:tolerations"] = {}
    spec["f:containers"][APP]["f:env"] = ENV["f:spec"]["f:template"]["f:spec"]["f:containers"][APP]["f:env"]
    assert mine == entry("linkspan", expected, operation="Apply")
    assert taken_over({**WANTED, "metadata": {"managedFields": [mine, *rest]}}, WANTED) is None


def test_an_object_that_others_made_becomes_ours() -> None:
    made = entry("kubectl-create", {"f:spec": {"f:paused": {}, "f:replicas": {}}})
    [mine, kept] = taken_over({**WANTED, "metadata": {"managedFields": [made]}}, WANTED) or []
    assert mine == entry("linkspan", {"f:spec": {"f:paused": {}}}, operation="Apply")
    assert kept["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


def test_a_list_that_lost_or_got_an_item_is_compared_by_name() -> None:
    two = {"spec": {"containers": [{"name": "side", "image": "b"}, {"name": "app", "image": "a"}]}}
    one = {"spec": {"containers": [{"name": "app", "image": "c"}]}}
    assert drift_of({**WANTED, **two}, WANTED, {**WANTED, **one}) == (
        "Deployment/app: spec.containers[app].image is a instead of c, "
        "spec.containers[side] is {'name': 'side', 'image': 'b'} instead of missing"
    )


def test_the_cluster_that_will_not_say_what_it_would_do_still_says_who_did_what() -> None:
    assert drift_of(found(entry("kubectl-set", ENV)), WANTED, None).endswith(".env was set by kubectl-set")
    assert drift_of(found(), WANTED, None) == ""

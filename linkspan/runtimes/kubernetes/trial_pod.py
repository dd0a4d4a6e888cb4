"""The pod in which a release is tried, and those that only fetch it on other nodes: pure functions.

The first is what the Deployment would make, apart from the service. It never becomes ready for the cluster (a
gate that nobody opens keeps it from that), so no Service sends it a user's request, whatever it selects; and
it has the app's own labels, so that NetworkPolicies hold for it as they will for the release.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.objects import CLUSTER_SCOPED, app_deployment

SECONDS: Final = 3600
"""A pod that nobody removes is ended by its node after so long."""

_GATE: Final = "linkspan.dev/trial"
_NOTHING: Final = "/linkspan-fetches-this-image-and-runs-nothing-of-it"

# What starts something of its own or leads users to the release: a pod that is tried needs none of it.
_LATER: Final = frozenset({
    "Deployment", "StatefulSet", "DaemonSet", "Pod", "Job", "CronJob",
    "Service", "Ingress", "PodDisruptionBudget", "HorizontalPodAutoscaler",
})  # fmt: skip
_COPIED: Final = {
    "ConfigMap": ("configMap", "configMapRef", "configMapKeyRef"),
    "Secret": ("secret", "secretRef", "secretKeyRef"),
}
"""Kinds whose content a pod reads, and the fields of a pod that refer to them."""
_CONTENT: Final = ("data", "binaryData", "stringData")


def trial_pod(objects: Sequence[KubeObject], name: str, copied: Mapping[str, KubeObject]) -> KubeObject:
    """The pod of rendered `objects`, called `name`, that reads the copies `copied` (by their names).

    It has no demands on where others like it run: those that are live are where the release will be.
    """
    deployment = app_deployment(objects)
    template = copy.deepcopy(deployment["spec"]["template"])
    spec = template["spec"]
    spec |= {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": SECONDS,
        "terminationGracePeriodSeconds": 1,
        "readinessGates": [*(spec.get("readinessGates") or []), {"conditionType": _GATE}],
    }
    spec.pop("topologySpreadConstraints", None)
    (spec.get("affinity") or {}).pop("podAntiAffinity", None)
    for container in _all(spec):
        for port in container.get("ports") or ():
            port.pop("hostPort", None)  # what is live has it
    app = _app(deployment, spec)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        app.pop(probe, None)  # it is asked by us, and without their pauses
    (app.get("lifecycle") or {}).pop("preStop", None)
    names = {(each["kind"], each["metadata"]["name"]): copy for copy, each in copied.items()}
    for kind, reference, key in list(_references(spec)):
        reference[key] = names.get((kind, reference[key]), reference[key])
    return _pod(deployment, template, name, "trial", spec)


def fetching_pod(objects: Sequence[KubeObject], name: str, node: str) -> KubeObject:
    """A pod for which `node` fetches all that the release is made of, and which then fails to start.

    An image need not have a program that does nothing, so it is told to run one that is not there.
    """
    deployment = app_deployment(objects)
    template = copy.deepcopy(deployment["spec"]["template"])
    app = _app(deployment, template["spec"])
    mounted = [each for each in template["spec"].get("volumes") or () if each["name"] == marks.MODEL_VOLUME]
    spec = _some(
        template["spec"],
        "imagePullSecrets", "serviceAccountName", "securityContext", "tolerations", "runtimeClassName",
    )  # fmt: skip
    here = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [here]}]}
    least = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "10m", "memory": "16Mi"}}
    same = _some(app, "name", "image", "imagePullPolicy", "securityContext")
    spec |= {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": SECONDS,
        "terminationGracePeriodSeconds": 1,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        "volumes": mounted,
        "containers": [{**same, "command": [_NOTHING], "resources": least}],
    }
    return _pod(deployment, template, name, "fetch", spec)


def missing_first(objects: Sequence[KubeObject], *, live: bool) -> list[KubeObject]:
    """Those that may be made for a trial if they are not there yet, in their order.

    A pod needs its service account, and perhaps what an operator makes of another object. While a release is
    `live`, no policy is made that would hold for it.
    """
    later = _LATER | CLUSTER_SCOPED | (frozenset({"NetworkPolicy"}) if live else frozenset())
    return [each for each in objects if each["kind"] not in later]


def read_by(some: Sequence[KubeObject], objects: Sequence[KubeObject]) -> list[KubeObject]:
    """Those of `some` ConfigMaps and Secrets that the release's pods read."""
    spec = app_deployment(objects)["spec"]["template"]["spec"]
    named = {(kind, reference[key]) for kind, reference, key in _references(spec)}
    return [each for each in some if (each["kind"], each["metadata"]["name"]) in named]


def same_content(one: KubeObject, other: KubeObject) -> bool:
    """Whether a pod reads the same from both; for `stringData`, which no cluster shows, it is unknown."""
    return "stringData" not in other and all(
        (one.get(key) or {}) == (other.get(key) or {}) for key in _CONTENT
    )


def copy_for(pod: KubeObject, obj: KubeObject, name: str) -> KubeObject:
    """A copy that goes with the pod; `pod` is as the cluster has it."""
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }
    metadata = {
        "name": name,
        "namespace": pod["metadata"]["namespace"],
        "labels": {key: pod["metadata"]["labels"][key] for key in (marks.MANAGED_BY, marks.TRIAL)},
        "ownerReferences": [owner],
    }
    return {**obj, "metadata": metadata}


def the_container(objects: Sequence[KubeObject]) -> dict[str, Any]:
    """The container of rendered objects that runs the release."""
    deployment = app_deployment(objects)
    return _app(deployment, deployment["spec"]["template"]["spec"])


def _app(deployment: KubeObject, spec: KubeObject) -> dict[str, Any]:
    image = deployment["metadata"]["annotations"][marks.IMAGE]
    found: dict[str, Any] = next(each for each in spec["containers"] if each["image"].endswith(image))
    return found


def _some(of: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: of[key] for key in keys if key in of}


def _pod(deployment: KubeObject, template: KubeObject, name: str, role: str, spec: KubeObject) -> KubeObject:
    labels, annotations = template["metadata"]["labels"], template["metadata"]["annotations"]
    ours = {marks.TRIAL: labels[marks.SERVICE], marks.ROLE: role}
    kept = {key: value for key, value in labels.items() if key not in {marks.SERVICE, marks.REVISION}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": deployment["metadata"]["namespace"],
            # A pod that runs nothing needs no sidecar either, which labels of the app may ask for.
            "labels": {**(kept if role == "trial" else {marks.MANAGED_BY: labels[marks.MANAGED_BY]}), **ours},
            "annotations": {key: value for key, value in annotations.items() if key != marks.REVISION},
        },
        "spec": spec,
    }


def _all(spec: KubeObject) -> Iterator[dict[str, Any]]:
    yield from spec.get("initContainers") or ()
    yield from spec["containers"]


def _references(of: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(kind, the part of a pod that refers to one, its key with the name)."""
    if isinstance(of, list):
        for each in of:
            yield from _references(each)
    if not isinstance(of, dict):
        return
    for field, value in of.items():
        for kind, fields in _COPIED.items():
            if field in fields and isinstance(value, dict):
                yield from ((kind, value, key) for key in ("name", "secretName") if key in value)
        yield from _references(value)

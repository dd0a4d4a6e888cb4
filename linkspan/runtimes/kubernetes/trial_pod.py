"""The pod in which a release is tried, and those that only fetch it on other nodes: pure functions.

The first is what the Deployment would make, apart from the service: the labels by which Services, autoscalers
and disruption budgets choose the service's pods have another value. Load balancers that register pods by
themselves (AWS's among them) ask whether its containers are ready, and they never are.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from linkspan.runtimes.base import TRIED, KubeObject
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.objects import app_deployment

SECONDS: Final = 3600
"""A pod that nobody removes is ended by its node after so long."""

_NOTHING: Final = "/linkspan-fetches-this-image-and-runs-nothing-of-it"

# What a pod needs in order to start, and what operators make that of. Nothing else may change what is live.
_NEEDED: Final = frozenset({
    "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Secret", "PersistentVolumeClaim",
    "ExternalSecret", "SealedSecret", "SecretProviderClass", "Certificate",
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
    spec = copy.deepcopy(deployment["spec"]["template"]["spec"])
    spec["activeDeadlineSeconds"] = SECONDS
    # Until its copies are there, which go with it and so come after it.
    spec["schedulingGates"] = [{"name": marks.TRIAL}]
    if not spec.get("initContainers"):  # whose work, such as a migration, is not to be cut short
        spec["terminationGracePeriodSeconds"] = 1
    spec.pop("topologySpreadConstraints", None)
    (spec.get("affinity") or {}).pop("podAntiAffinity", None)
    for container in _all(spec):
        for port in container.get("ports") or ():
            port.pop("hostPort", None)  # what is live has it
    app = _app(deployment, spec)
    # Its first look is never taken, and until then the kubelet calls it not ready. It is asked by us.
    app["readinessProbe"] = _asks(app) | {"initialDelaySeconds": SECONDS}
    (app.get("lifecycle") or {}).pop("preStop", None)
    for container in _all(spec):
        if container["image"] == app["image"]:
            container["env"] = [*(container.get("env") or []), {"name": TRIED, "value": "1"}]
    names = {(each["kind"], each["metadata"]["name"]): copy for copy, each in copied.items()}
    for kind, reference, key in list(_references(spec)):
        reference[key] = names.get((kind, reference[key]), reference[key])
    return _pod(objects, name, "trial", spec)


def _asks(app: KubeObject) -> KubeObject:
    """The app's own readiness probe, or any: policies may want one."""
    return app.get("readinessProbe") or {"exec": {"command": [_NOTHING]}}


def fetching_pod(objects: Sequence[KubeObject], name: str, node: str) -> KubeObject:
    """A pod for which `node` fetches all that the release is made of, and which then fails to start.

    An image need not have a program that does nothing, so it is told to run one that is not there.
    """
    deployment = app_deployment(objects)
    own = copy.deepcopy(deployment["spec"]["template"]["spec"])
    app = _app(deployment, own)
    mounted = [each for each in own.get("volumes") or () if each["name"] == marks.MODEL_VOLUME]
    spec = _some(
        own,
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
    return _pod(objects, name, "fetch", spec)


def needed(objects: Sequence[KubeObject]) -> list[KubeObject]:
    """Those that a pod of them needs in order to start, in their order."""
    return [each for each in objects if each["kind"] in _NEEDED]


def policies(objects: Sequence[tuple[KubeObject, KubeObject | None]]) -> list[KubeObject]:
    """The release's NetworkPolicies as they are to hold for the pod of its trial.

    `objects` are the release's, each with what the cluster has of it. Policies for the release's pods are for
    that one instead. Of those for others, if they are there for the same pods, the rules that let the
    release's pods in let that one in too: policies add up.
    """
    labels = app_deployment([each for each, _ in objects])["spec"]["template"]["metadata"]["labels"]
    trial = {"matchLabels": {marks.TRIAL: labels[marks.SERVICE], marks.ROLE: "trial"}}
    found = []
    for each, there in objects:
        if each["kind"] != "NetworkPolicy":
            continue
        chosen = each["spec"].get("podSelector") or {}
        if _chooses(chosen, labels):
            found.append({**each, "spec": {**each["spec"], "podSelector": trial}})
        elif there and _shuts_in(there, chosen):
            rules = _letting_in(each["spec"].get("ingress") or [], labels)
            ingress = [{**rule, "from": [{"podSelector": trial}]} for rule in rules]
            spec = {"podSelector": chosen, "policyTypes": ["Ingress"], "ingress": ingress}
            found += [{**each, "spec": spec}] if ingress else []
    return found


def _shuts_in(there: KubeObject, chosen: KubeObject) -> bool:
    """Whether it holds for these pods already, and for what comes to them."""
    spec = there["spec"]
    return (spec.get("podSelector") or {}) == chosen and "Ingress" in (spec.get("policyTypes") or ["Ingress"])


def _letting_in(rules: Sequence[KubeObject], labels: Mapping[str, str]) -> list[KubeObject]:
    """The rules that let in pods of the same namespace with these labels, and not everybody."""

    def mine(peer: KubeObject) -> bool:
        own = "podSelector" in peer and "namespaceSelector" not in peer
        return own and _chooses(peer["podSelector"], labels)

    return [rule for rule in rules if any(map(mine, rule.get("from") or ()))]


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
    """A copy called `name` of what the pod of a trial reads or obeys; it goes with `pod`, which is there."""
    owner = {"apiVersion": "v1", "kind": "Pod", **_some(pod["metadata"], "name", "uid")}
    metadata = {
        "name": name,
        "namespace": pod["metadata"]["namespace"],
        "labels": _some(pod["metadata"]["labels"], marks.MANAGED_BY, marks.TRIAL),
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


def _pod(objects: Sequence[KubeObject], name: str, role: str, spec: KubeObject) -> KubeObject:
    deployment = app_deployment(objects)
    template = deployment["spec"]["template"]["metadata"]
    labels, annotations = template["labels"], template["annotations"]
    ours = {marks.MANAGED_BY: marks.FIELD_MANAGER, marks.TRIAL: labels[marks.SERVICE], marks.ROLE: role}
    # A pod that runs nothing needs no sidecar either, and no identity, which labels of the app may ask for.
    kept = _apart(labels, _selecting(objects, deployment)) if role == "trial" else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": deployment["metadata"]["namespace"],
            "labels": {**kept, **ours},
            "annotations": {key: value for key, value in annotations.items() if key != marks.REVISION},
        },
        "spec": spec,
    }


def _apart(labels: Mapping[str, str], selecting: set[str]) -> dict[str, str]:
    """The labels with another value where pods are chosen by it; policies may want that there is one."""
    # A label's value has at most 63 characters and ends with a letter or a digit.
    named = {key: f"{value[:57]}-trial".lstrip("-") for key, value in labels.items() if key in selecting}
    return {
        key: value for key, value in {**labels, **named}.items() if key not in {marks.SERVICE, marks.REVISION}
    }


def _selecting(objects: Sequence[KubeObject], deployment: KubeObject) -> set[str]:
    """The labels by which the service's pods are chosen."""
    selectors = [(each.get("spec") or {}).get("selector") for each in objects if each["kind"] == "Service"]
    keys = {key for selector in selectors for key in selector or ()}
    return keys | set(deployment["spec"]["selector"].get("matchLabels") or ())


def _chooses(selector: KubeObject | None, labels: Mapping[str, str]) -> bool:
    """Whether a selector may choose pods with these labels; what it says in expressions is taken for yes."""
    return ((selector or {}).get("matchLabels") or {}).items() <= labels.items()


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

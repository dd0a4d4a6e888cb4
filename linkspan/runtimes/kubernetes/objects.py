"""Questions about Kubernetes objects as plain values: which is the app's, what order, how it is called."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from linkspan.errors import ConfigError
from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.marks import IMAGE, PLACEHOLDER

# kubectl api-resources --namespaced=false of Kubernetes 1.36, and what operators brought that is common.
# fmt: off
CLUSTER_SCOPED: Final = frozenset({
    "APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole",
    "ClusterRoleBinding", "ClusterTrustBundle", "CustomResourceDefinition", "DeviceClass",
    "DeviceTaintRule", "FlowSchema", "IPAddress", "IngressClass", "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "Namespace", "Node",
    "PersistentVolume", "PriorityClass", "PriorityLevelConfiguration", "ResourcePoolStatusRequest",
    "ResourceSlice", "RuntimeClass", "ServiceCIDR", "StorageClass", "StorageVersion",
    "StorageVersionMigration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration", "VolumeAttachment", "VolumeAttributesClass", "ClusterExternalSecret",
    "ClusterIssuer", "ClusterSecretStore", "GatewayClass", "VolumeSnapshotClass",
})

# What others need comes first, what sends traffic or starts something comes late, the app itself last.
_EARLY: Final = (
    "Namespace", "CustomResourceDefinition", "ResourceQuota", "LimitRange", "PriorityClass", "StorageClass",
    "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ConfigMap",
    "PersistentVolume", "PersistentVolumeClaim", "NetworkPolicy", "Service", "PodDisruptionBudget",
)
_LATE: Final = (
    "Pod", "Job", "CronJob", "DaemonSet", "StatefulSet", "HorizontalPodAutoscaler", "Ingress", "Deployment",
)
# fmt: on

# What `kubectl get -o yaml` shows beside what was applied, and nobody may apply.
_SERVERS: Final = {
    "creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid",
}  # fmt: skip


def called(obj: KubeObject) -> str:
    """`Deployment/app`: how errors and people name an object."""
    return f"{obj.get('kind')}/{(obj.get('metadata') or {}).get('name')}"


def as_written(obj: KubeObject) -> KubeObject:
    """The object without its status and what else the server keeps in it."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _SERVERS}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def identity(obj: KubeObject) -> tuple[str, str, str]:
    """(apiVersion, kind, name): which object of a namespace, or of the cluster, it is."""
    return obj["apiVersion"], obj["kind"], obj["metadata"]["name"]


def in_order(objects: Iterable[KubeObject]) -> list[KubeObject]:
    """The order of application: what others refer to first, the app's Deployment last."""
    return sorted(objects, key=_place)


def _place(obj: KubeObject) -> tuple[int, bool]:
    kind = obj["kind"]
    if kind in _EARLY:
        return _EARLY.index(kind), False
    if kind in _LATE:
        return len(_EARLY) + 1 + _LATE.index(kind), is_the_app(obj)
    return len(_EARLY), False


def is_the_app(obj: KubeObject) -> bool:
    """Whether it is the Deployment that runs the release: by the placeholder, or as rendered."""
    if obj["kind"] != "Deployment":
        return False
    return IMAGE in (obj["metadata"].get("annotations") or {}) or bool(with_placeholder(obj))


def is_placeholder(image: object) -> bool:
    """Whether it stands for the release's image; a tag or a digest makes no difference."""
    return isinstance(image, str) and image.partition("@")[0].partition(":")[0] == PLACEHOLDER


def app_deployment(objects: Sequence[KubeObject]) -> KubeObject:
    """The Deployment that runs the release: that with the placeholder image, once rendered the marked one.

    Raises ConfigError, naming what was found, unless there is exactly one, with the image in one container.
    """
    found = [each for each in objects if is_the_app(each)]
    deployments = [each for each in objects if each["kind"] == "Deployment"]
    if len(found) != 1:
        raise ConfigError(
            f"the manifests need exactly one Deployment that runs the app, with `image: {PLACEHOLDER}`",
            found=", ".join(map(called, found or deployments)) or "no Deployment",
            fix=f"Put `image: {PLACEHOLDER}` into the container that is the app, and nowhere else",
        )
    names = [each["name"] for each in with_placeholder(found[0])]
    if len(names) > 1:
        several = f"{called(found[0])} has the image {PLACEHOLDER} in several containers"
        raise ConfigError(several, expected="one", found=", ".join(names))
    if elsewhere := [called(each) for each in objects if each is not found[0] and _mentions(each)]:
        raise ConfigError(
            f"the image {PLACEHOLDER} is only replaced in {called(found[0])}",
            found=f"also in {', '.join(elsewhere)}",
            fix="Give the others an image by its own name",
        )
    return found[0]


def _mentions(value: object) -> bool:
    if isinstance(value, dict):
        return is_placeholder(value.get("image")) or any(map(_mentions, value.values()))
    return isinstance(value, list) and any(map(_mentions, value))


def containers(deployment: KubeObject, key: str = "containers") -> list[dict[str, Any]]:
    """The `containers` or `initContainers` of a Deployment. Raises ConfigError for another shape."""
    found = listed(deployment, "spec", "template", "spec", key)
    if not all(isinstance(each.get("name"), str) for each in found):
        raise ConfigError(f"{called(deployment)}: every one of its {key} must have a name")
    return found


def with_placeholder(deployment: KubeObject, key: str = "containers") -> list[dict[str, Any]]:
    """Those of the `containers` that have the placeholder for their image."""
    return [each for each in containers(deployment, key) if is_placeholder(each.get("image"))]


def autoscaler_of(objects: Iterable[KubeObject], deployment: KubeObject) -> KubeObject | None:
    """The HorizontalPodAutoscaler that decides about the Deployment's replicas, if there is one."""
    for each in objects:
        if each["kind"] == "HorizontalPodAutoscaler":
            target = mapping(each, "spec", "scaleTargetRef")
            if (target.get("kind"), target.get("name")) == ("Deployment", deployment["metadata"]["name"]):
                return each
    return None


def services_of(objects: Sequence[KubeObject]) -> list[str]:
    """The names of the Services that lead to the release's pods: an app may bring others, say for a cache."""
    labels = app_deployment(objects)["spec"]["template"]["metadata"]["labels"].items()
    selectors = {
        each["metadata"]["name"]: (each.get("spec") or {}).get("selector") or {}
        for each in objects
        if each["kind"] == "Service"
    }
    return [name for name, selector in selectors.items() if selector and selector.items() <= labels]


def mapping(value: dict[str, Any], *path: str, what: str = "") -> dict[str, Any]:
    """The object at `path`, {} if nothing is there. Raises ConfigError if something else is.

    `what` is how the error calls `value`, if that is no object of Kubernetes.
    """
    what = what or called(value)
    for depth, key in enumerate(path, start=1):
        inner = value.get(key)
        if inner is None:
            return {}
        if not isinstance(inner, dict):
            place = ".".join(path[:depth])
            raise ConfigError(f"{what}: {place} is wrong", expected="an object", found=inner)
        value = inner
    return value


def listed(value: dict[str, Any], *path: str, what: str = "") -> list[dict[str, Any]]:
    """The objects in the list at `path`, [] if nothing is there. As `mapping`."""
    what = what or called(value)
    found = mapping(value, *path[:-1], what=what).get(path[-1])
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        place = ".".join(path)
        raise ConfigError(f"{what}: {place} is wrong", expected="a list of objects", found=found)
    return found

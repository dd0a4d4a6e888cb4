"""From an app's objects and a rollout to the objects that are applied: a pure function.

They stay what they are but for what only Linkspan knows: the image by digest, where the release came from,
and what linkspan.toml says for the environment.
"""

import copy
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from linkspan.errors import ConfigError
from linkspan.nouns import Mount
from linkspan.runtimes.base import KubeObject, Rollout
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.objects import (
    CLUSTER_SCOPED,
    app_deployment,
    autoscaler_of,
    called,
    in_order,
    listed,
    mapping,
    with_placeholder,
)

_PORT: Final = "http"  # the name of the port in Linkspan's own objects
_LAST_WORDS: Final = 5
"""Seconds that a replica has left to end after its longest request."""
_SLACK: Final = 60
"""Seconds by which the Deployment's own deadline is later than that for one replica."""
_UNITS: Final = {"k": "Ki", "m": "Mi", "g": "Gi"}


def render(
    objects: Sequence[KubeObject],
    rollout: Rollout,
    *,
    namespace: str,
    revision: int,
    at: datetime,
    pull_secret: bool = False,
    ours: bool = False,
) -> list[KubeObject]:
    """The objects to apply, in that order: the app's Deployment, which has everybody's new pods, is the last.

    `revision` is the number of this rollout and `at` its time. `pull_secret`: the pods need marks.PULL_SECRET
    to pull the image. `ours`: these are Linkspan's own objects, so that they also follow linkspan.toml's
    [serve]. An Ingress without a host is left out. Raises ConfigError that names the object.
    """
    objects = [copy.deepcopy(each) for each in objects]
    if not rollout.host:
        objects = [each for each in objects if each["kind"] != "Ingress" or _has_host(each)]
    deployment = app_deployment(objects)
    [container] = with_placeholder(deployment)
    if ours:
        _serve(deployment, container, rollout)
    _resources(deployment, container, rollout)
    if rollout.mount:
        mount(deployment, rollout.mount)
    _image_and_env(deployment, rollout)
    if pull_secret:
        _add_pull_secret(deployment)
    _scale(objects, deployment, rollout)
    _mark(deployment, rollout, revision, at)
    service_accounts = {each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"}
    for each in objects:
        _place(each, rollout, namespace, service_accounts)
        if each["kind"] == "Ingress" and rollout.host:
            _set_host(each, rollout.host)
    return in_order(objects)


def service_label(rollout: Rollout) -> str:
    """The value of marks.SERVICE. Raises ConfigError if it is longer than a label may be."""
    label = str(rollout.service)
    if len(label) > 63:
        raise ConfigError(
            f"the names of app and environment {rollout.service} are too long",
            expected="at most 62 characters together, for a label in the cluster",
            found=len(label) - 1,
        )
    return label


def _place(obj: KubeObject, rollout: Rollout, namespace: str, service_accounts: set[str]) -> None:
    metadata = obj["metadata"]
    if obj["kind"] in CLUSTER_SCOPED:
        metadata.pop("namespace", None)
    else:
        metadata["namespace"] = namespace
    _labels(metadata, rollout, called(obj))
    if obj["kind"] in {"RoleBinding", "ClusterRoleBinding"}:
        # A subject must name its namespace, which an app cannot know; as kustomize does it.
        for subject in listed(obj, "subjects"):
            if subject.get("kind") == "ServiceAccount" and subject.get("name") in service_accounts:
                subject["namespace"] = namespace


def _labels(metadata: dict[str, Any], rollout: Rollout, what: str) -> None:
    metadata["labels"] = {
        **mapping(metadata, "labels", what=what),
        marks.MANAGED_BY: "linkspan",
        marks.SERVICE: service_label(rollout),
    }


def _mark(deployment: KubeObject, rollout: Rollout, revision: int, at: datetime) -> None:
    """Say on the Deployment and on its pods what they are and where it came from."""
    said = marks.annotations(rollout, revision, at)
    cause = f"{rollout.release.title}, {rollout.cause}"
    own = deployment["metadata"].get("annotations") or {}
    deployment["metadata"]["annotations"] = {**own, **said, marks.CHANGE_CAUSE: cause}
    metadata = mapping(deployment, "spec", "template", "metadata")
    deployment["spec"]["template"]["metadata"] = metadata
    what = f"{called(deployment)}, spec.template.metadata"
    metadata["annotations"] = {**mapping(metadata, "annotations", what=what), **said}
    _labels(metadata, rollout, what)
    metadata["labels"][marks.REVISION] = str(revision)


def _image_and_env(deployment: KubeObject, rollout: Rollout) -> None:
    for each in _with_release(deployment):
        each["image"] = rollout.image
        if rollout.env:
            each["env"] = _merged_env(deployment, each, rollout.env)


def mount(deployment: KubeObject, model: Mount) -> None:
    """Give what runs the release the model's image, read-only at its folder.

    What the image holds lies where the container is to see it, so its folder is the same there.
    https://kubernetes.io/docs/tasks/configure-pod-container/image-volumes/
    """
    pod = mapping(deployment, "spec", "template", "spec")
    source = {"reference": model.image, "pullPolicy": "IfNotPresent"}
    volumes = listed(deployment, "spec", "template", "spec", "volumes")
    pod["volumes"] = [*volumes, {"name": marks.MODEL_VOLUME, "image": source}]
    place = {"mountPath": model.path, "subPath": model.path.strip("/"), "readOnly": True}
    for each in _with_release(deployment):
        each["volumeMounts"] = [*_mounts(deployment, each), {"name": marks.MODEL_VOLUME, **place}]


def in_the_way(objects: Sequence[KubeObject], path: str) -> str:
    """What of an app's own objects keeps its model from being mounted at `path`; empty if nothing does.

    A mount in the model's folder: nobody can make its mount point where nothing can be written.
    """
    deployment = app_deployment(objects)
    volumes = listed(deployment, "spec", "template", "spec", "volumes")
    if any(each.get("name") == marks.MODEL_VOLUME for each in volumes):
        return f"{called(deployment)} has a volume {marks.MODEL_VOLUME} of its own"
    for each in _with_release(deployment):
        for other in _mounts(deployment, each):
            if f"{other.get('mountPath')}/".startswith(f"{path}/"):
                place = other["mountPath"]
                return f"container {each['name']} of {called(deployment)} mounts something at {place}"
    return ""


def _with_release(deployment: KubeObject) -> list[dict[str, Any]]:
    return [each for key in ("initContainers", "containers") for each in with_placeholder(deployment, key)]


def _mounts(deployment: KubeObject, container: dict[str, Any]) -> list[dict[str, Any]]:
    return listed(container, "volumeMounts", what=f"{called(deployment)}, container {container['name']}")


def _merged_env(
    deployment: KubeObject, container: dict[str, Any], env: dict[str, str]
) -> list[dict[str, Any]]:
    own = listed(container, "env", what=f"{called(deployment)}, container {container['name']}")
    # Kubernetes would expand $(NAME); linkspan.toml means what it says, here as on Docker.
    ours = {name: {"name": name, "value": value.replace("$", "$$")} for name, value in env.items()}
    kept = [ours.pop(str(each.get("name")), each) for each in own]
    return [*kept, *ours.values()]


def _resources(deployment: KubeObject, container: dict[str, Any], rollout: Rollout) -> None:
    """Memory as limit and request, so that what was scheduled is never killed for a neighbour's sake."""
    asked: dict[str, dict[str, str]] = {}
    if rollout.memory:
        memory = rollout.memory[:-1] + _UNITS[rollout.memory[-1]]
        asked = {"requests": {"memory": memory}, "limits": {"memory": memory}}
    if rollout.cpu:
        asked.setdefault("requests", {})["cpu"] = rollout.cpu
    what = f"{called(deployment)}, container {container['name']}"
    for key, each in asked.items():
        own = mapping(container, "resources", what=what)
        container["resources"] = {**own, key: {**mapping(own, key, what=f"{what}, resources"), **each}}


def _add_pull_secret(deployment: KubeObject) -> None:
    secrets = listed(deployment, "spec", "template", "spec", "imagePullSecrets")
    if all(each.get("name") != marks.PULL_SECRET for each in secrets):
        pod = mapping(deployment, "spec", "template", "spec")
        pod["imagePullSecrets"] = [*secrets, {"name": marks.PULL_SECRET}]


def _scale(objects: Sequence[KubeObject], deployment: KubeObject, rollout: Rollout) -> None:
    deployment["spec"]["replicas"] = rollout.replicas
    if scaler := autoscaler_of(objects, deployment):
        most = scaler["spec"].get("maxReplicas")
        if not isinstance(most, int):
            raise ConfigError(f"{called(scaler)}: spec.maxReplicas is wrong", expected="a number", found=most)
        scaler["spec"] |= {"minReplicas": rollout.replicas, "maxReplicas": max(most, rollout.replicas)}


def _has_host(ingress: KubeObject) -> bool:
    return any(rule.get("host") for rule in listed(ingress, "spec", "rules"))


def _set_host(ingress: KubeObject, host: str) -> None:
    for rule in listed(ingress, "spec", "rules"):
        rule["host"] = host
    for tls in listed(ingress, "spec", "tls"):
        tls["hosts"] = [host]


def _serve(deployment: KubeObject, container: dict[str, Any], rollout: Rollout) -> None:
    """What linkspan.toml's [serve] says, put into Linkspan's own Deployment."""
    for port in container["ports"]:
        if port["name"] == _PORT:
            port["containerPort"] = rollout.port
    for probe in ("startupProbe", "readinessProbe"):
        container[probe]["httpGet"]["path"] = rollout.ready_path
    startup = container["startupProbe"]
    startup["failureThreshold"] = math.ceil(rollout.ready_seconds / startup["periodSeconds"])
    leaving = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    pod = deployment["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = leaving + math.ceil(rollout.request_seconds) + _LAST_WORDS
    deadline = math.ceil(rollout.ready_seconds) + _SLACK
    deployment["spec"]["progressDeadlineSeconds"] = max(
        deployment["spec"]["progressDeadlineSeconds"], deadline
    )

"""A rollout, small manifests, and what is rendered of them, for tests of values that go to a cluster."""

import copy
from typing import Any

import yaml

from linkspan.nouns import Release
from linkspan.runtimes.base import KubeObject, Rollout, Service
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.render import render
from tests.values import NOW, model, release

IMAGE = "registry.example/team/digits@sha256:" + "a" * 64
MODEL = model("v12", metrics={"f1": 0.5, "accuracy": 0.97}, published_by="bob")
RELEASE = Release(**{**dict(release(1, "v12")), "model": MODEL, "image": IMAGE.rpartition("@")[2]})

SMALL = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: left
  labels: {mine: "1", app.kubernetes.io/managed-by: me}
  annotations: {mine: "2"}
spec:
  selector: {matchLabels: {mine: "1"}}
  template:
    metadata:
      labels: {mine: "1"}
      annotations: {mine: "3"}
    spec:
      initContainers:
        - {name: migrate, image: "linkspan.dev/app:latest"}
        - {name: wait, image: busybox}
      containers:
        - {name: sidecar, image: envoy, env: [{name: A, value: theirs}]}
        - name: web
          image: linkspan.dev/app:latest
          ports: [{containerPort: 9}]
          env:
            - {name: KEPT, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
            - {name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}
          resources: {limits: {cpu: "2", memory: 1Gi}}
"""


def parsed(*texts: str) -> list[KubeObject]:
    return [each for text in texts for each in yaml.safe_load_all(text)]


def a_rollout(**fields: object) -> Rollout:
    service = Service(app="digits", environment="production")
    return Rollout.model_validate(
        {"service": service, "release": RELEASE, "image": IMAGE, "cause": "a push", **fields}
    )


def rendered(
    objects: list[KubeObject], *, ours: bool = False, secret: bool = False, **fields: Any
) -> list[KubeObject]:
    return render(
        objects,
        a_rollout(**fields),
        namespace="there",
        revision=7,
        at=NOW,
        pull_secret=secret,
        ours=ours,
    )  # fmt: skip


def the(kind: str, objects: list[KubeObject]) -> Any:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def pod_of(deployment: KubeObject) -> Any:
    return deployment["spec"]["template"]["spec"]


def without_autoscaler() -> list[KubeObject]:
    """Our own; and with pods that leave at once, for a test that asks nothing of them."""
    kept = [copy.deepcopy(e) for e in default_objects() if e["kind"] != "HorizontalPodAutoscaler"]
    del app_of(kept)["lifecycle"]
    # A pod that is told to end before its program hears it stays that long.
    pod_of(the("Deployment", kept))["terminationGracePeriodSeconds"] = 2
    return kept


def app_of(objects: list[KubeObject]) -> Any:
    """The container that is the app, in our own."""
    return pod_of(the("Deployment", objects))["containers"][0]


def config_map(name: str, text: str = "") -> KubeObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}}


def hands(image: str) -> list[tuple[str, dict[str, Any], str]]:
    """What people add to our own manifests and a ConfigMap: the object, the patch, and where it ends up."""

    def pods(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        return {"spec": {"template": {"metadata": metadata, "spec": spec}}}

    def app(**fields: Any) -> dict[str, Any]:
        return pods({"containers": [{"name": "app", **fields}]})

    deployment, template = "deployment/app", "spec.template"
    container = f"{template}.spec.containers[app]"
    late = {"postStart": {"sleep": {"seconds": 1}}}
    sidecar = {"name": "side", "image": image, "command": ["sh", "-c", "trap exit TERM; sleep 3600 & wait"]}
    return [
        (deployment, app(env=[{"name": "DEBUG", "value": "1"}]), f"{container}.env"),
        (deployment, app(ports=[{"containerPort": 9}]), f"{container}.ports[9/TCP]"),
        (deployment, app(lifecycle=late), f"{container}.lifecycle.postStart"),
        (deployment, pods({"containers": [sidecar]}), f"{template}.spec.containers[side]"),
        (deployment, pods({"volumes": [{"name": "v", "emptyDir": {}}]}), f"{template}.spec.volumes[v]"),
        (deployment, pods({"tolerations": [{"operator": "Exists"}]}), f"{template}.spec.tolerations"),
        (deployment, pods({}, labels={"mine": "1"}), f"{template}.metadata.labels.mine"),
        (deployment, pods({}, annotations={"mine": "1"}), f"{template}.metadata.annotations.mine"),
        (deployment, {"spec": {"paused": True}}, "spec.paused"),
        ("service/app", {"spec": {"ports": [{"name": "more", "port": 81}]}}, "spec.ports[81/TCP]"),
        ("service/app", {"spec": {"externalTrafficPolicy": "Local"}}, "spec.externalTrafficPolicy"),
        ("configmap/settings", {"data": {"mine": "1"}}, "data.mine"),
        ("hpa/app", {"spec": {"behavior": {"scaleDown": {"selectPolicy": "Min"}}}}, "spec.behavior"),
    ]

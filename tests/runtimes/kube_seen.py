"""Objects of a cluster as `kubectl get -o json` shows them, for tests of what is concluded from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.readiness import Observed, rollout_readiness

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"registry.example:5000/linkspan/digits@{DIGEST}"
SHORT = "registry.example:5000/linkspan/digits@sha256:0123456789ab"

RUNNING: KubeObject = {"running": {"startedAt": "2026-11-22T19:00:02Z"}}


def deployment(
    revision: int = 2,
    *,
    wanted: int = 2,
    updated: int = 2,
    replicas: int = 2,
    available: int = 2,
    **status: Any,
) -> KubeObject:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "app",
            "uid": "d-1",
            "generation": 5,
            "annotations": {"linkspan.dev/revision": str(revision)},
        },
        "spec": {
            "replicas": wanted,
            "template": {"metadata": {"labels": {"linkspan.dev/revision": str(revision)}}},
        },
        "status": {
            "observedGeneration": 5,
            "replicas": replicas,
            "updatedReplicas": updated,
            "availableReplicas": available,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
                {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "…"},
            ],
            **status,
        },
    }


def replica_set(revision: int, *, wanted: int, made: int, refused: str = "") -> KubeObject:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused}
    labels = {"linkspan.dev/revision": str(revision), "pod-template-hash": f"rs{revision}"}
    return {
        "kind": "ReplicaSet",
        "metadata": {"name": f"app-rs{revision}", "uid": f"rs-{revision}", "labels": labels},
        "spec": {"replicas": wanted, "template": {"metadata": {"labels": labels}}},
        "status": {"replicas": made, "conditions": [failure] if refused else []},
    }


def container(
    state: KubeObject, *, name: str = "app", last: KubeObject | None = None, restarts: int = 0
) -> KubeObject:
    return {
        "name": name,
        "image": IMAGE,
        "ready": False,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }


def waiting(reason: str, message: str = "") -> KubeObject:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(code: int, reason: str = "Error", message: str = "") -> KubeObject:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": "2026-11-22T19:00:02Z",
            "finishedAt": "2026-11-22T19:00:09Z",
        }
    }


def pod(
    letter: str,
    revision: int = 2,
    *,
    containers: Sequence[KubeObject] = (),
    inits: Sequence[KubeObject] = (),
    node: str = "node-1",
    conditions: Sequence[KubeObject] = (),
    leaving: bool = False,
    phase: str = "",
    **status: Any,
) -> KubeObject:
    """A pod called `app-<letter>` that is not ready."""
    statuses = list(containers) or [container(waiting("ContainerCreating"))]
    runs = any("running" in each["state"] for each in statuses)
    metadata: KubeObject = {
        "name": f"app-{letter}",
        "uid": f"pod-{letter}",
        "labels": {"linkspan.dev/revision": str(revision)},
    }
    if leaving:
        metadata["deletionTimestamp"] = "2026-11-22T19:01:00Z"
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": each["name"], "image": IMAGE, "resources": {"limits": {"memory": "64Mi"}}}
                for each in statuses
            ],
        },
        "status": {
            "phase": phase or ("Running" if runs else "Pending"),
            "podIP": f"10.0.0.{ord(letter)}",
            "podIPs": [{"ip": f"10.0.0.{ord(letter)}"}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {
                    "type": "Ready",
                    "status": "False",
                    "reason": "ContainersNotReady",
                    "lastTransitionTime": "2026-11-22T19:00:01Z",
                },
                *conditions,
            ],
            "initContainerStatuses": list(inits),
            "containerStatuses": statuses,
            **status,
        },
    }


def ready(letter: str, revision: int = 2, **more: Any) -> KubeObject:
    made = pod(letter, revision, containers=[container(RUNNING) | {"ready": True}], **more)
    made["status"]["conditions"][1] = {"type": "Ready", "status": "True"}
    return made


def unscheduled(letter: str, message: str, reason: str = "Unschedulable", **more: Any) -> KubeObject:
    made = pod(letter, node="", **more)
    made["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    ]
    made["status"]["containerStatuses"] = []
    return made


def event(
    about: str, reason: str, message: str, *, at: int = 5, place: str = "", uid: str = "", kind: str = "Pod"
) -> KubeObject:
    """An event `at` that second of 19:00, about the object of that name."""
    letter = about.removeprefix("app-")
    own = f"pod-{letter}" if kind == "Pod" else f"rs-{letter.removeprefix('rs')}"
    return {
        "kind": "Event",
        "type": "Warning",
        "reason": reason,
        "message": message,
        "involvedObject": {
            "kind": kind,
            "name": about,
            "uid": uid or own,
            "fieldPath": place and f"spec.containers{{{place}}}",
        },
        "lastTimestamp": f"2026-11-22T19:00:{at:02}Z",
        "count": 3,
    }


def endpoint_slice(*letters: str, family: str = "IPv4", not_ready: Sequence[str] = ()) -> KubeObject:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": f"app-{family}", "labels": {"kubernetes.io/service-name": "app"}},
        "addressType": family,
        "endpoints": [
            {
                "addresses": [f"10.0.0.{ord(letter)}"],
                "conditions": {"ready": letter not in not_ready, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": f"app-{letter}", "uid": f"pod-{letter}"},
            }
            for letter in letters
        ],
    }


def finished() -> Observed:
    """Revision 2 has taken over from revision 1."""
    return Observed(
        deployment(),
        [replica_set(1, wanted=0, made=0), replica_set(2, wanted=2, made=2)],
        [ready("c"), ready("d")],
        [],
        {},
        [endpoint_slice("c", "d")],
    )


def rolling(
    *pods: KubeObject,
    events: Sequence[KubeObject] = (),
    logs: Mapping[str, str] | None = None,
    refused: str = "",
    status: KubeObject | None = None,
) -> Observed:
    """Pods of revision 2 are being started beside two of revision 1, which serve."""
    made = len(pods)
    return Observed(
        deployment(updated=made, replicas=2 + made, **(status or {})),
        [replica_set(1, wanted=2, made=2), replica_set(2, wanted=2, made=made, refused=refused)],
        [ready("a", 1), ready("b", 1), *pods],
        list(events),
        logs or {},
        [endpoint_slice("a", "b")],
    )


def verdict(seen: Observed, stuck: float = 10.0) -> tuple[bool, str]:
    """(retriable, reason) of a rollout of revision 2 that is not done."""
    found = rollout_readiness(seen, 2, stuck=stuck)
    assert not found.done
    assert "\n" not in found.reason
    return found.retriable, found.reason


def one(state: KubeObject, **more: Any) -> KubeObject:
    """The pod app-c with one container in that state."""
    return pod("c", containers=[container(state, **more)])

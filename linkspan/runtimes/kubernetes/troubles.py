"""What keeps the pods of a revision from becoming ready, one cause at a time, from what the cluster says.

The reasons are those of core/v1 types.go, the scheduler, the replica set controller and the kubelet of
Kubernetes 1.36.
"""

from collections.abc import Iterator, Sequence

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.containers import (
    PASSES,
    PATIENCE,
    Stage,
    Trouble,
    container_troubles,
    crashed,
    last_end,
    statuses,
)
from linkspan.runtimes.kubernetes.fields import (
    condition,
    events_of,
    field,
    is_leaving,
    is_over,
    is_ready,
    name,
    newest,
    number,
    objects,
    refusal_words,
    scheduler_words,
    sentence,
    text,
)

_PREPARE = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox")


def pod_troubles(
    pod: KubeObject, events: Sequence[KubeObject], logs: str | None, stuck: float, *, room: bool
) -> Iterator[Trouble]:
    """Everything that keeps `pod` from being ready; nothing if it is.

    Something has been in its way for `stuck` seconds. `room` tells that older pods leave or will, so that a
    node or a quota which is full now need not stay so.
    """
    if is_ready(pod) and not is_leaving(pod):
        return
    events = events_of(events, pod)
    yield from _taken(pod, events)
    if is_over(pod):
        return
    if is_leaving(pod):
        yield Trouble(True, Stage.STARTING, name(pod), f"{name(pod)} is being removed")
        return
    yield from _unscheduled(pod, events, stuck, room=room)
    for status, init in statuses(pod):
        yield from container_troubles(pod, status, events, stuck, init=init)
    if end := last_end(pod):
        yield crashed(pod, end, events, logs)
    yield from _unprepared(pod, events)
    yield from _unready(pod, events)


def _taken(pod: KubeObject, events: Sequence[KubeObject]) -> Iterator[Trouble]:
    """Pods that the cluster took away: evicted, preempted, refused by their node, gone with it."""
    who = name(pod)
    disrupted = condition(pod, "DisruptionTarget")
    why, words = text(pod, "status", "reason"), text(pod, "status", "message")
    if text(disrupted, "status") == "True":
        why = why or text(disrupted, "reason")
        words = words or text(disrupted, "message")
    if why in {"Evicted", "EvictionByEvictionAPI"}:
        said = "was evicted"
    elif why in {"Preempting", "PreemptionByScheduler"}:
        said = "was preempted"
    elif why in {"NodeLost", "DeletionByTaintManager", "DeletionByPodGC"}:
        said = f"lost its node {text(pod, 'spec', 'nodeName')}".rstrip()
    elif why or is_over(pod):
        said = f"was ended by its node ({why or text(pod, 'status', 'phase')})"
    elif newest(events, "NodeNotReady", "Unhealthy").get("reason") == "NodeNotReady":
        said = f"is on a node that is not ready: {text(pod, 'spec', 'nodeName')}".rstrip(": ")
    else:
        return
    yield Trouble(True, Stage.TAKEN, who, f"{who} {said}" + (f": {sentence(words)}" if words else ""))


def _unscheduled(
    pod: KubeObject, events: Sequence[KubeObject], stuck: float, *, room: bool
) -> Iterator[Trouble]:
    scheduled = condition(pod, "PodScheduled")
    if text(scheduled, "status") != "False":
        return
    who, why = name(pod), text(scheduled, "reason")
    words = scheduler_words(text(scheduled, "message")) or "the scheduler does not say why"
    if why != "Unschedulable":
        reason = f"{who} is not scheduled ({why or 'no reason given'}): {words}"
        yield Trouble(True, Stage.SCHEDULED, who, reason)
        return
    # Karpenter nominates, the cluster autoscaler triggers; nominatedNodeName: others are being preempted.
    scaler = newest(events, "TriggeredScaleUp", "NotTriggerScaleUp", "Nominated").get("reason", "")
    adds = scaler in {"TriggeredScaleUp", "Nominated"}
    awaited = adds or room or bool(text(pod, "status", "nominatedNodeName"))
    reason = f"{who} fits on no node: {words}" + (" (a node is being added)" if adds else "")
    yield Trouble(awaited or stuck < PATIENCE, Stage.SCHEDULED, who, reason)


def _unprepared(pod: KubeObject, events: Sequence[KubeObject]) -> Iterator[Trouble]:
    """Volumes that do not mount and sandboxes that cannot be made: the containers wait without a word."""
    if text(pod, "status", "phase") != "Pending" or not _all_wait(pod):
        return
    failed = [event for event in events if event.get("reason") in _PREPARE]
    if not failed:
        return
    # The kubelet repeats a failed mount as a time-out that names no cause.
    telling = [e for e in failed if not text(e, "message").startswith("Unable to attach or mount")] or failed
    mounts = telling[-1].get("reason") != "FailedCreatePodSandBox"
    what = "cannot mount its volumes" if mounts else "cannot get a sandbox"
    words = sentence(text(telling[-1], "message"))
    yield Trouble(True, Stage.PREPARED, name(pod), f"{name(pod)} {what}: {words}")


def _all_wait(pod: KubeObject) -> bool:
    return all(
        text(status, "state", "waiting", "reason") in {"", "ContainerCreating", "PodInitializing"}
        and not field(status, "state", "running")
        for status, _ in statuses(pod)
    )


def _unready(pod: KubeObject, events: Sequence[KubeObject]) -> Iterator[Trouble]:
    who, ready = name(pod), condition(pod, "Ready")
    runs = any(field(status, "state", "running") for status in objects(pod, "status", "containerStatuses"))
    # A moment and not a length of time: what is said stays the same from one look to the next.
    since = text(ready, "lastTransitionTime")
    unready = f"{who} is not ready" + (f" since {since}" if since else "")
    if unhealthy := newest(events, "Unhealthy"):
        yield Trouble(True, Stage.PROBED, who, f"{unready}: {sentence(text(unhealthy, 'message'))}")
    elif ready.get("reason") == "ReadinessGatesNotReady":
        yield Trouble(True, Stage.PROBED, who, f"{unready}: {sentence(text(ready, 'message'))}")
    elif runs:
        yield Trouble(True, Stage.STARTING, who, f"{unready}: it runs, but no probe has succeeded")
    elif newest(events, "Pulling", "Pulled").get("reason") == "Pulling":
        yield Trouble(True, Stage.STARTING, who, f"{who} pulls its image")
    else:
        yield Trouble(True, Stage.STARTING, who, f"{who} is being started")


def refusals(
    replica_set: KubeObject, events: Sequence[KubeObject], stuck: float, *, room: bool
) -> Iterator[Trouble]:
    """Pods that the cluster does not let the replica set create: quota, limits, Pod Security, a webhook."""
    made = number(replica_set, "status", "replicas")
    if made >= number(replica_set, "spec", "replicas", default=1):
        return
    failure = condition(replica_set, "ReplicaFailure")
    stands = text(failure, "status") == "True" and failure.get("reason") == "FailedCreate"
    event = newest(events_of(events, replica_set), "FailedCreate")
    words = text(failure, "message") if stands else text(event, "message")
    if words:
        # The condition goes when a creation succeeds; an event stays.
        trouble = refusal(f"ReplicaSet/{name(replica_set)}", words, stuck, room=room)
        yield trouble if stands or not made else trouble._replace(passes=True)


def refusal(of: str, words: str, stuck: float, *, room: bool) -> Trouble:
    """The cluster's refusal to create something, in its words."""
    # What left a moment ago, such as the pod of a trial, counts for a quota until its controller looks again.
    full = "exceeded quota" in words
    passes = (stuck < PATIENCE and (full or bool(PASSES.search(words)))) or (full and room)
    return Trouble(passes, Stage.CREATED, of, f"{of} may not create pods: {refusal_words(words)}")

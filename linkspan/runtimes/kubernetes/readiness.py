"""Whether a rollout in a cluster is done, from what was seen of it, so that a wait that fails can say why.

The shape is flagger's: (done, retriable, reason); the arithmetic on replicas is that of `kubectl rollout
status`, with the traffic added. Nothing here does I/O.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.containers import Stage, Trouble, last_end, statuses
from linkspan.runtimes.kubernetes.fields import (
    carried,
    condition,
    events_of,
    is_leaving,
    is_over,
    is_ready,
    name,
    number,
    objects,
    pod_addresses,
    revision_of,
    sentence,
    text,
)
from linkspan.runtimes.kubernetes.fields import field as at
from linkspan.runtimes.kubernetes.troubles import pod_troubles, refusal, refusals
from linkspan.runtimes.readiness import Readiness


@dataclass(frozen=True)
class Observed:
    """What a cluster says of one service; objects are as `kubectl get -o json` shows them.

    `pods` are those of all revisions, `events` those of the namespace (core/v1). `logs` holds the last output
    of the containers that `needs_logs` names, by pod. `endpoints` are the EndpointSlices of the Service.
    """

    deployment: KubeObject | None
    replica_sets: Sequence[KubeObject] = ()
    pods: Sequence[KubeObject] = ()
    events: Sequence[KubeObject] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    endpoints: Sequence[KubeObject] = ()


def rollout_readiness(seen: Observed, revision: int, *, stuck: float) -> Readiness:
    """The verdict on the rollout of `revision`, in whose way something has been for `stuck` seconds."""
    if over := _over(seen.deployment, revision):
        return Readiness(done=False, retriable=False, reason=over)
    deployment = seen.deployment or {}
    missing = next(_lacks(deployment, seen, revision), "")
    if not missing:
        return Readiness(done=True, retriable=True, reason="")
    worst = min(_troubles(deployment, seen, revision, stuck), default=None)
    if worst and worst.stage is not Stage.STARTING:
        return Readiness(done=False, retriable=worst.passes, reason=worst.reason)
    said = [missing, worst.reason if worst else "", *_remarks(deployment)]
    return Readiness(done=False, retriable=True, reason="; ".join(filter(None, said)))


def needs_logs(pods: Sequence[KubeObject], revision: int) -> list[tuple[str, str, bool]]:
    """(pod, container, whether of its previous run): the output that a verdict would quote, one for a pod."""
    ends = ((name(pod), last_end(pod)) for pod in living(pods, revision) if not is_ready(pod))
    # Who was never started, or was killed for its memory, has said nothing that explains it.
    silent = {"StartError", "ContainerCannotRun", "OOMKilled"}
    return [
        (pod, end.container, end.previous)
        for pod, end in ends
        if end and text(end.terminated, "reason") not in silent
    ]


def _over(deployment: KubeObject | None, revision: int) -> str:
    """Why nothing can come of the rollout any more; empty if something can."""
    if deployment is None:
        return "the Deployment was deleted by somebody else"
    who = f"Deployment/{name(deployment)}"
    if is_leaving(deployment):
        return f"{who} is being deleted by somebody else"
    carries = carried(deployment) or revision_of(deployment)
    if not carries:
        return f"{who} was replaced by somebody else: it carries no revision of Linkspan's"
    if carries != str(revision):
        return f"revision {revision} was superseded: {who} carries revision {carries}"
    return ""


def _lacks(deployment: KubeObject, seen: Observed, revision: int) -> Iterator[str]:
    """What the rollout still lacks, the first thing first; nothing if it is done."""
    who = f"Deployment/{name(deployment)}"
    if not _is_observed(deployment):
        yield f"the cluster's controller has not seen revision {revision} of {who} yet"
    wanted = _wanted(deployment)
    if not wanted:
        yield f"{who} is scaled to 0 replicas, so nothing shows that the release starts"
    updated = number(deployment, "status", "updatedReplicas")
    if updated != wanted:
        yield f"{updated} of {wanted} replicas are of revision {revision}"
    own = living(seen.pods, revision, leaving=True)
    ready = {name(pod) for pod in own if is_ready(pod) and not is_leaving(pod)}
    if len(ready) != wanted:
        yield f"{len(ready)} of {wanted} pods are ready"
    if len(own) > wanted:
        yield f"{len(own) - wanted} more pods than wanted are still there"
    if old := number(deployment, "status", "replicas") - updated:
        yield f"replicas of older revisions are still there: {old}"
    if (available := number(deployment, "status", "availableReplicas")) != wanted:
        yield f"{available} of {wanted} replicas have been ready for long enough"
    yield from _unmoved(seen, ready)


def _remarks(deployment: KubeObject) -> Iterator[str]:
    """What may explain a rollout that stands still when nothing better does."""
    if at(deployment, "spec", "paused"):
        yield f"Deployment/{name(deployment)} is paused, `kubectl rollout resume` lets it go on"
    progress = condition(deployment, "Progressing")
    if _is_observed(deployment) and progress.get("reason") == "ProgressDeadlineExceeded":
        yield sentence(text(progress, "message")) or "the Deployment has exceeded its progress deadline"


def _wanted(deployment: KubeObject) -> int:
    return number(deployment, "spec", "replicas", default=1)


def _is_observed(deployment: KubeObject) -> bool:
    return number(deployment, "status", "observedGeneration") >= number(deployment, "metadata", "generation")


def living(pods: Sequence[KubeObject], revision: int, *, leaving: bool = False) -> list[KubeObject]:
    """The pods of the revision that run or will. An evicted pod stays listed, but another has its place."""
    own = [pod for pod in pods if revision_of(pod) == str(revision) and not is_over(pod)]
    return [pod for pod in own if leaving or not is_leaving(pod)]


def _unmoved(seen: Observed, ready: set[str]) -> Iterator[str]:
    """Pods that the traffic does not reach yet, or should reach no more; nothing if there is no Service."""
    by_address = {address: name(pod) for pod in seen.pods for address in pod_addresses(pod) if address}
    routes: dict[tuple[str, str], set[str]] = {}
    for piece in seen.endpoints:
        # A Service has several slices: a set for every family of addresses, each of which must be complete.
        service = text(piece, "metadata", "labels", "kubernetes.io/service-name")
        route = routes.setdefault((service, text(piece, "addressType")), set())
        route.update(_routed(piece, by_address))
    for route in routes.values():
        if unreached := sorted(ready - route):
            yield f"the Service does not send traffic to {', '.join(unreached)} yet"
        if left := sorted(route - ready):
            yield f"the Service still sends traffic to {', '.join(left)}"


def _routed(piece: KubeObject, by_address: Mapping[str, str]) -> Iterator[str]:
    for endpoint in objects(piece, "endpoints"):
        # discovery.k8s.io/v1 EndpointConditions: "a nil value should be interpreted as true".
        if at(endpoint, "conditions", "ready") is False:
            continue
        if target := text(endpoint, "targetRef", "name"):
            yield target
        else:
            yield from (by_address.get(str(each), str(each)) for each in endpoint.get("addresses") or ())


def _troubles(deployment: KubeObject, seen: Observed, revision: int, stuck: float) -> Iterator[Trouble]:
    own = living(seen.pods, revision)
    short = sum(map(is_ready, own)) < _wanted(deployment)
    room = _makes_room(seen.pods, revision)
    for pod in seen.pods:
        # The remains of an evicted pod are no trouble once another is ready in its place.
        if revision_of(pod) == str(revision) and (short or not is_over(pod)):
            yield from pod_troubles(pod, seen.events, seen.logs.get(name(pod)), stuck, room=room)
    for replica_set in seen.replica_sets:
        if revision_of(replica_set) == str(revision):
            yield from refusals(replica_set, seen.events, stuck, room=room)
    progress = condition(deployment, "Progressing")
    if _is_observed(deployment) and progress.get("reason") == "ReplicaSetCreateError":
        who = f"Deployment/{name(deployment)}"
        yield refusal(who, text(progress, "message"), stuck, room=room)


def _makes_room(pods: Sequence[KubeObject], revision: int) -> bool:
    """Whether older pods leave, or will as soon as a pod of the revision that has its node is ready.

    A rollout that replaces pods one by one in a full cluster or quota always has some that must wait.
    """
    if any(is_leaving(pod) for pod in pods):
        return True
    older = any(revision_of(pod) not in {"", str(revision)} and not is_over(pod) for pod in pods)
    return older and any(at(pod, "spec", "nodeName") for pod in living(pods, revision))


_FAILS = {"ErrImagePull", "ImagePullBackOff"}
_PREPARING = {"ContainerCreating", "PodInitializing"}
_GOES_ON = {"Scheduled", "SuccessfulAttachVolume", "Pulling", "Pulled", "Created"}


def is_preparing(seen: Observed, revision: int) -> bool:
    """Whether a node is making a pod of the revision ready to start."""
    return any(prepares(pod, seen.events) for pod in living(seen.pods, revision))


def prepares(pod: KubeObject, events: Sequence[KubeObject]) -> bool:
    """Whether a node is making the pod ready to start, which may mean gigabytes to pull.

    The time that a release has to become ready begins after that. False if the pod's newest event is about
    something that went wrong.
    """
    newest = text(next(reversed(events_of(events, pod)), {}), "reason")
    return newest in _GOES_ON and bool(_waits_for(pod) & _PREPARING)


def pulls_fail(seen: Observed, revision: int) -> bool:
    """Whether a pod waits because its image could not be pulled."""
    return any(_waits_for(pod) & _FAILS for pod in living(seen.pods, revision))


def _waits_for(pod: KubeObject) -> set[str]:
    return {text(status, "state", "waiting", "reason") for status, _ in statuses(pod)}

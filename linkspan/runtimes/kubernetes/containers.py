"""What keeps a container from running, one cause at a time, from what the kubelet says of it.

The reasons are the kubelet's: pkg/kubelet/images/types.go, kuberuntime/kuberuntime_container.go,
container/sync_result.go and events/event.go of Kubernetes 1.36.
"""

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.fields import (
    field,
    name,
    newest,
    number,
    objects,
    pull_words,
    sentence,
    start_words,
    text,
    when,
)
from linkspan.runtimes.readiness import ended

PATIENCE = 30.0
"""Seconds for which a cluster may put right by itself what often passes: a full node, a slow runtime."""

AWAY_SECONDS = 300
"""The API server may be away this long while something is waited for."""
DENIED_SECONDS = 30
"""An API server that has just started knows no roles yet, and says no to everybody."""
PULL_SECONDS = 1800
"""A node may take this long to pull; the time to start, or to become ready, begins after that."""

_LOG_LINE = 200

_PULL = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_RUN = {
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
}
_ON_ITS_WAY = {"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff"}

_PULL_IS_FINAL = re.compile(
    r"not found|manifest unknown|unauthorized|denied|forbidden|invalid reference|no basic auth"
    r"|signature validation failed",
    re.IGNORECASE,
)
_MISSING = re.compile(r"(configmap|secret) .* not found|couldn't find key", re.IGNORECASE)
_UNAUTHORIZED = re.compile(r"unauthorized|no basic auth|denied", re.IGNORECASE)
_NAMES_IN_WORDS = re.compile(r'"[^"]*"|https?://\S+')
PASSES = re.compile(
    r"timed out|timeout|deadline exceeded|connection refused|no endpoints available|too many requests"
    r"|etcdserver(?!: request is too large|: mvcc: database space exceeded)|object has been modified"
    r"|failed calling webhook|unable to handle the request"
    r"|looking up service account|failed to sync"
    # An API server that has just started has not read the roles yet, not even those of the cluster itself.
    r'|User "system:(serviceaccount:kube-system:|kube-)[^"]*" cannot',
    re.IGNORECASE,
)
"""What a cluster says of things that often pass by themselves."""


class Stage(IntEnum):
    """Where in its life a pod is stuck, furthest first.

    All pods of a revision run the same release, so what stopped the one that got furthest will stop the
    others too once they get there. A pod that the cluster took away says nothing of the release, and one that
    merely starts says least.
    """

    CRASHED = 1
    PROBED = 2
    RUN = 3
    CONFIGURED = 4
    PULLED = 5
    PREPARED = 6
    SCHEDULED = 7
    CREATED = 8
    TAKEN = 9
    STARTING = 10


class Trouble(NamedTuple):
    """One cause; `passes` if waiting may help. The smallest is the most telling: final ones come first."""

    passes: bool
    stage: Stage
    of: str
    reason: str


class End(NamedTuple):
    """How a container ended last. `previous`: another has been started in its place or will be."""

    container: str
    init: bool
    status: KubeObject
    terminated: KubeObject
    previous: bool

    @property
    def times(self) -> int:
        """How often the container has ended."""
        return number(self.status, "restartCount") + (not self.previous)

    @property
    def again(self) -> bool:
        """Whether a second try has failed too."""
        return self.times > 1 or text(self.status, "state", "waiting", "reason") == "CrashLoopBackOff"


def last_end(pod: KubeObject) -> End | None:
    """The end of a container that is to blame for the pod; of several, the one that ended most often."""
    ends = [end for status, init in statuses(pod) if (end := _end(status, init=init))]
    return max(ends, key=lambda end: (end.again, end.times), default=None)


def _end(status: KubeObject, *, init: bool) -> End | None:
    now, before = field(status, "state", "terminated"), field(status, "lastState", "terminated")
    terminated = now or before
    if not terminated or status.get("ready"):
        return None
    # An init container that ends with 0 has done its work; an unknown end is what the kubelet writes for a
    # container that it lost track of.
    if (init and not number(terminated, "exitCode")) or terminated.get("reason") == "ContainerStatusUnknown":
        return None
    return End(text(status, "name"), init, status, terminated, previous=not now)


def statuses(pod: KubeObject) -> Iterator[tuple[KubeObject, bool]]:
    yield from ((status, True) for status in objects(pod, "status", "initContainerStatuses"))
    yield from ((status, False) for status in objects(pod, "status", "containerStatuses"))


def _who(pod: KubeObject, container: str, *, init: bool) -> str:
    if init:
        return f"init container {container} of {name(pod)}"
    alone = len(objects(pod, "spec", "containers")) < 2
    return name(pod) if alone else f"container {container} of {name(pod)}"


def container_troubles(
    pod: KubeObject, status: KubeObject, events: Sequence[KubeObject], stuck: float, *, init: bool
) -> Iterator[Trouble]:
    """Containers that the kubelet cannot start."""
    waiting = field(status, "state", "waiting")
    why, words = text(waiting, "reason"), text(waiting, "message")
    who = _who(pod, text(status, "name"), init=init)
    if why in _PULL:
        yield _unpulled(pod, status, events, stuck, who)
    elif why == "CreateContainerConfigError":
        # What is not there may be on its way: operators make Secrets of other objects.
        passes = stuck < PATIENCE and bool(PASSES.search(words) or _MISSING.search(words))
        yield Trouble(passes, Stage.CONFIGURED, name(pod), f"{who} cannot be configured: {sentence(words)}")
    elif why in _RUN:
        reason = f"{who} cannot be started: {start_words(words) or why}"
        yield Trouble(stuck < PATIENCE, Stage.RUN, name(pod), reason)
    elif why not in _ON_ITS_WAY:
        yield Trouble(True, Stage.RUN, name(pod), f"{who} waits: {why}: {sentence(words)}".rstrip(": "))


def _unpulled(
    pod: KubeObject, status: KubeObject, events: Sequence[KubeObject], stuck: float, who: str
) -> Trouble:
    words = pull_words(text(status, "state", "waiting", "message"))
    if not words:
        # Before Kubernetes 1.32 a back-off does not repeat its cause; the event of the last attempt has it.
        pulls = [event for event in events if text(event, "message").startswith("Failed to pull image")]
        words = pull_words(text(newest(pulls, "Failed"), "message"))
    final = bool(_PULL_IS_FINAL.search(_NAMES_IN_WORDS.sub("", words)))
    secret = text(newest(events, "FailedToRetrieveImagePullSecret"), "message")
    missing = re.search(r"secrets \(([^)]*)\)", secret)
    note = f" (there is no pull secret {missing[1]})" if missing else ""
    if stuck < PATIENCE and (missing or _UNAUTHORIZED.search(words)):
        final = False  # a kubelet may learn of a new Secret a moment after it learns of a new pod
    image = sentence(_unpulled_image(pod, status)) or "its image"
    why = words or text(status, "state", "waiting", "reason")
    return Trouble(not final, Stage.PULLED, name(pod), f"{who} cannot pull {image}: {why}{note}")


def _unpulled_image(pod: KubeObject, status: KubeObject) -> str:
    """A container waits for the images of its volumes too, and only the message says which one it is."""
    words = text(status, "state", "waiting", "message")
    mounted = [text(volume, "image", "reference") for volume in objects(pod, "spec", "volumes")]
    return next((image for image in mounted if f'"{image}"' in words), text(status, "image"))


def crashed(pod: KubeObject, end: End, events: Sequence[KubeObject], logs: str | None) -> Trouble:
    """The end of a container, with what is known of why."""
    who = _who(pod, end.container, init=end.init)
    why, words = text(end.terminated, "reason"), text(end.terminated, "message")
    if why in {"StartError", "ContainerCannotRun"}:
        reason = f"{who} cannot be started: {start_words(words)}"
    elif why != "OOMKilled" and (probe := _killed_by(end, events)):
        reason = f"{who} was killed: {probe}"
    else:
        said = logs if logs is not None else words or None
        reason = ended(
            who,
            number(end.terminated, "exitCode"),
            oom_killed=why == "OOMKilled",
            memory=_memory(pod, end),
            logs=None if said is None else "\n".join(line.strip()[:_LOG_LINE] for line in said.splitlines()),
        )
    return Trouble(not end.again, Stage.CRASHED, name(pod), reason)


def _memory(pod: KubeObject, end: End) -> str:
    of = objects(pod, "spec", "initContainers" if end.init else "containers")
    return next((text(c, "resources", "limits", "memory") for c in of if c.get("name") == end.container), "")


def _killed_by(end: End, events: Sequence[KubeObject]) -> str:
    """The probe for which the kubelet ended this container, in its words; empty if it was not a probe."""
    own = [e for e in events if _place(e).endswith(f"{{{end.container}}}") or not _place(e)]
    began = text(end.terminated, "startedAt")
    killing = newest((e for e in own if when(e) >= began or not when(e)), "Killing")
    failed = re.search(r"failed (liveness|startup) probe", text(killing, "message"))
    if not failed:
        return ""
    probe = f"{failed[1].capitalize()} probe"
    said = [e for e in own if e.get("reason") == "Unhealthy" and text(e, "message").startswith(probe)]
    return sentence(text(said[-1], "message")) if said else f"{probe} failed"


def _place(event: KubeObject) -> str:
    """The container that an event is about, as `spec.containers{name}`; empty if it is the whole pod."""
    return text(event, "involvedObject", "fieldPath")

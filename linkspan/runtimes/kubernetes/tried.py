"""The pod of a trial, as the cluster shows it now: whether it runs, what keeps it from that, how it ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from linkspan.errors import RuntimeDenied, RuntimeUnavailable
from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.containers import AWAY_SECONDS, DENIED_SECONDS, Stage, Trouble, last_end
from linkspan.runtimes.kubernetes.fields import field, is_leaving, objects, text
from linkspan.runtimes.kubernetes.readiness import prepares
from linkspan.runtimes.kubernetes.service import KubeService
from linkspan.runtimes.kubernetes.troubles import pod_troubles

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Tried:
    """A pod, its events and the last output of a container of it that ended."""

    pod: KubeObject
    events: Sequence[KubeObject] = ()
    log: str | None = None

    @property
    def node(self) -> str:
        return text(self.pod, "spec", "nodeName")

    @property
    def prepares(self) -> bool:
        """Whether its node is making it ready to start, which may mean gigabytes to pull."""
        return prepares(self.pod, self.events)

    def runs(self, container: str) -> bool:
        return any(
            each.get("name") == container and field(each, "state", "running")
            for each in objects(self.pod, "status", "containerStatuses")
        )

    def trouble(self, *, stuck: float) -> Trouble | None:
        """What keeps it from running, if that has been so for `stuck` seconds: as for a pod of a rollout."""
        found = pod_troubles(self.pod, self.events, self.log, stuck, room=False)
        return min(found, default=None)


def tried(mine: KubeService, pod: str, container: str) -> Tried:
    """How the pod called `pod` is now; while its `container` runs, nobody asks for its events.

    An API server that is away is waited for. Raises RuntimeUnavailable if that lasts too long, or if the pod
    was taken away, which says nothing about the release.
    """
    began = time.monotonic()
    while True:
        try:
            return _seen(mine, pod, container)
        except (RuntimeUnavailable, RuntimeDenied) as error:
            patience = AWAY_SECONDS if error.retriable else DENIED_SECONDS
            if isinstance(error, _Taken) or time.monotonic() - began > patience:
                raise
        time.sleep(_LOOK_SECONDS)


def _seen(mine: KubeService, pod: str, container: str) -> Tried:
    cluster, namespace = mine.cluster, mine.namespace
    found = next(iter(cluster.list("v1", "Pod", namespace, fields=f"metadata.name={pod}")), None)
    if found is None or is_leaving(found):
        raise taken(f"{pod} was removed by somebody else")
    seen = Tried(found)
    if seen.runs(container):
        return seen
    events = cluster.list("v1", "Event", namespace, fields=f"involvedObject.name={pod}")
    end = last_end(found)
    log = cluster.log(namespace, pod, end.container, previous=end.previous) if end else None
    seen = Tried(found, events, log)
    trouble = seen.trouble(stuck=0)
    if trouble and trouble.stage is Stage.TAKEN:
        raise taken(trouble.reason)
    return seen


class _Taken(RuntimeUnavailable):
    """The same call will not succeed, but a trial from the start may."""


def taken(how: str) -> RuntimeUnavailable:
    """The error for a trial's pod that has gone."""
    return _Taken(f"the smoke test's pod {how}", fix="Try again: it says nothing about the release")

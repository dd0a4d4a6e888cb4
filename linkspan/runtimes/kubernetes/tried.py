"""The pod of a trial, as the cluster shows it now: whether it runs, what keeps it from that, how it ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from linkspan.errors import RuntimeUnavailable
from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.containers import Stage, Trouble
from linkspan.runtimes.kubernetes.fields import field, is_leaving, name, objects, text
from linkspan.runtimes.kubernetes.readiness import prepares
from linkspan.runtimes.kubernetes.service import KubeService
from linkspan.runtimes.kubernetes.troubles import ending, pod_troubles

_AWAY_SECONDS = 300
"""The API server may be away this long in the middle of a trial."""
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Tried:
    """A pod and its events; `ended` says how it ended, if it has."""

    pod: KubeObject
    events: Sequence[KubeObject] = ()
    ended: str = ""

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
        """What keeps it from running, if that has been so for `stuck` seconds."""
        found = pod_troubles(self.pod, self.events, None, stuck, room=False)
        return min(found, default=None)


def tried(mine: KubeService, pod: str, container: str) -> Tried:
    """How the pod called `pod` is now; while its `container` runs, nobody asks for its events.

    An API server that is away is waited for. Raises RuntimeUnavailable if that lasts too long, or if the pod
    was taken away, which says nothing about the release.
    """
    end = time.monotonic() + _AWAY_SECONDS
    while True:
        try:
            return _seen(mine, pod, container)
        except RuntimeUnavailable as error:
            if isinstance(error, _Taken) or time.monotonic() > end:
                raise
        time.sleep(_LOOK_SECONDS)


class _Taken(RuntimeUnavailable):
    """The same call will not succeed, but a trial from the start may."""


def _seen(mine: KubeService, pod: str, container: str) -> Tried:
    cluster, namespace = mine.cluster, mine.namespace
    found = next(iter(cluster.list("v1", "Pod", namespace, fields=f"metadata.name={pod}")), None)
    if found is None or is_leaving(found):
        raise _taken(pod, "was removed by somebody else")
    seen = Tried(found)
    if seen.runs(container):
        return seen
    events = cluster.list("v1", "Event", namespace, fields=f"involvedObject.name={pod}")
    end = ending(found, events, partial(cluster.log, namespace, pod, previous=False))
    if end is None:
        return Tried(found, events)
    if end.stage is Stage.TAKEN:
        raise _taken(name(found), end.reason.removeprefix(name(found)).strip())
    return Tried(found, events, end.reason)


def _taken(pod: str, how: str) -> _Taken:
    return _Taken(f"the smoke test's pod {pod} {how}", fix="Try again: nobody has been asked yet")

"""Whether nodes are still preparing a revision's pods, or fail to pull: neither is the release's fault."""

from linkspan.runtimes.base import Manifest
from linkspan.runtimes.kube_containers import statuses
from linkspan.runtimes.kube_fields import events_of, text
from linkspan.runtimes.kube_readiness import Observed, living

_FAILS = {"ErrImagePull", "ImagePullBackOff"}
_PREPARING = {"ContainerCreating", "PodInitializing"}
_GOES_ON = {"Scheduled", "SuccessfulAttachVolume", "Pulling", "Pulled", "Created"}


def is_preparing(seen: Observed, revision: int) -> bool:
    """Whether a node is making a pod ready to start, which may mean gigabytes to pull.

    The time that a release has to become ready begins after that. False if the pod's newest event is about
    something that went wrong.
    """
    for pod in living(seen.pods, revision):
        last = events_of(seen.events, pod)[-1:]
        if _waits_for(pod) & _PREPARING and last and text(last[0], "reason") in _GOES_ON:
            return True
    return False


def pulls_fail(seen: Observed, revision: int) -> bool:
    """Whether a pod waits because its image could not be pulled."""
    return any(_waits_for(pod) & _FAILS for pod in living(seen.pods, revision))


def _waits_for(pod: Manifest) -> set[str]:
    return {text(status, "state", "waiting", "reason") for status, _ in statuses(pod)}

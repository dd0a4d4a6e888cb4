"""Whether nodes are still preparing a revision's pods, or fail to pull: neither is the release's fault."""

from linkspan.runtimes.base import Manifest
from linkspan.runtimes.kube_fields import events_of, is_leaving, newest, objects, revision_of, text
from linkspan.runtimes.kube_readiness import Observed

_FAILS = {"ErrImagePull", "ImagePullBackOff"}
_PREPARING = {"ContainerCreating", "PodInitializing"}
_GOES_ON = {"Scheduled", "SuccessfulAttachVolume", "Pulling", "Pulled", "Created"}


def is_preparing(seen: Observed, revision: int) -> bool:
    """Whether a node is making a pod ready to start, which may mean gigabytes to pull.

    The time that a release has to become ready begins after that. False if the pod's newest event is about
    something that went wrong.
    """
    for pod in seen.pods:
        if revision_of(pod) != str(revision) or is_leaving(pod) or not _waits_for(pod) & _PREPARING:
            continue
        if text(newest(events_of(seen.events, pod)), "reason") in _GOES_ON:
            return True
    return False


def pulls_fail(seen: Observed, revision: int) -> bool:
    """Whether a pod waits because its image could not be pulled."""
    mine = (pod for pod in seen.pods if revision_of(pod) == str(revision) and not is_leaving(pod))
    return any(_waits_for(pod) & _FAILS for pod in mine)


def _waits_for(pod: Manifest) -> set[str]:
    kinds = ("initContainerStatuses", "containerStatuses")
    statuses = [status for kind in kinds for status in objects(pod, "status", kind)]
    return {text(status, "state", "waiting", "reason") for status in statuses}

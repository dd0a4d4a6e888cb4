"""Whether nodes are still pulling a revision's image, or fail to: neither says anything about the release."""

from linkspan.runtimes.kube_fields import events_of, is_leaving, newest, objects, revision_of, text
from linkspan.runtimes.kube_readiness import Observed

_FAILS = {"ErrImagePull", "ImagePullBackOff"}


def is_pulling(seen: Observed, revision: int) -> bool:
    """Whether a node is at it right now: the time to become ready has not begun."""
    for pod in seen.pods:
        if revision_of(pod) == str(revision) and not is_leaving(pod) and not _waits_for(pod) & _FAILS:
            last = newest(events_of(seen.events, pod), "Pulling", "Pulled", "Failed")
            if text(last, "reason") == "Pulling":
                return True
    return False


def pulls_fail(seen: Observed, revision: int) -> bool:
    """Whether a pod waits because its image could not be pulled."""
    mine = (pod for pod in seen.pods if revision_of(pod) == str(revision) and not is_leaving(pod))
    return any(_waits_for(pod) & _FAILS for pod in mine)


def _waits_for(pod: dict[str, object]) -> set[str]:
    kinds = ("initContainerStatuses", "containerStatuses")
    statuses = [status for kind in kinds for status in objects(pod, "status", kind)]
    return {text(status, "state", "waiting", "reason") for status in statuses}

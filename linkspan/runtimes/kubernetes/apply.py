"""Makes objects in a cluster what they say, and sees whether they still are."""

from collections.abc import Sequence
from contextlib import suppress

from linkspan.runtimes.base import KubeObject, released_meanwhile
from linkspan.runtimes.kubernetes.client import Cluster, Conflict, Refused
from linkspan.runtimes.kubernetes.drift import drift_of, taken_over, watched
from linkspan.runtimes.kubernetes.fields import carried
from linkspan.runtimes.kubernetes.objects import app_deployment, autoscaler_of, called


def apply(cluster: Cluster, service: str, objects: Sequence[KubeObject]) -> None:
    """Apply all in their order; what others have put into them goes.

    The Deployment's replicas stay as they are if a HorizontalPodAutoscaler of the set decides about them.
    Raises Refused, naming the object, and RolloutConflict.
    """
    deployment = app_deployment(objects)
    scaled = autoscaler_of(objects, deployment) is not None
    for obj in objects:
        try:
            if obj is deployment:
                swap(cluster, service, obj, scaled=scaled)
            else:
                _put(cluster, obj)
        except Refused as error:
            raise Refused(f"{called(obj)} is refused: {error}") from None


def drift(cluster: Cluster, objects: Sequence[KubeObject]) -> str:
    """How what is in the cluster differs from these objects as applied; empty if it does not."""
    deployment = app_deployment(objects)
    scaled = autoscaler_of(objects, deployment) is not None
    lines = []
    for obj in objects:
        # Kinds can go too: whoever uninstalls an operator removes them with all of their objects.
        found = cluster.find(obj) if cluster.knows(obj) else None
        if found is None:
            lines.append(f"{called(obj)} is missing")
            continue
        wanted = _at_scale_of(found, obj) if scaled and obj is deployment else obj
        applied = None
        # Rules that came later, and webhooks that know no dry run, refuse to be asked.
        with suppress(Refused):
            applied = cluster.apply(wanted, dry_run=True)
        lines.append(drift_of(found, wanted, applied))
    return "; ".join(filter(None, lines))


def swap(cluster: Cluster, service: str, obj: KubeObject, *, scaled: bool) -> None:
    """Apply the Deployment, if nobody released in between: compare-and-swap by its resourceVersion."""
    before = cluster.find(obj)
    seen = carried(before)
    while True:
        wanted = _at_scale_of(before, obj) if before and scaled else obj
        try:
            if before:
                version = _take_over(cluster, before, obj)["metadata"]["resourceVersion"]
                wanted = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": version}}
            cluster.apply(wanted)
        except Conflict:
            before = cluster.find(obj)  # most often only its status has moved on
            if (now := carried(before)) != seen:
                expected = f"revision {seen} in {called(obj)}"
                raise released_meanwhile(service, expected=expected, found=f"revision {now}") from None
        else:
            return


def _put(cluster: Cluster, obj: KubeObject) -> None:
    while watched(obj) and (before := cluster.find(obj)):
        with suppress(Conflict):  # somebody was quicker: look again
            _take_over(cluster, before, obj)
            break
    cluster.apply(obj)


def _take_over(cluster: Cluster, found: KubeObject, wanted: KubeObject) -> KubeObject:
    """Write fields of others down as ours, so that they go with the next apply; nothing else changes."""
    fields = taken_over(found, wanted)
    if fields is None:
        return found
    version = found["metadata"]["resourceVersion"]
    return cluster.merge(wanted, {"managedFields": fields, "resourceVersion": version})


def _at_scale_of(found: KubeObject, obj: KubeObject) -> KubeObject:
    """`obj` with the replicas that an autoscaler has set, or with its own if it was scaled to nothing."""
    replicas = found["spec"].get("replicas") or obj["spec"]["replicas"]
    return {**obj, "spec": {**obj["spec"], "replicas": replicas}}

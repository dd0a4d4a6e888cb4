"""Makes objects in a cluster what they say, and sees whether they still are."""

from collections.abc import Sequence
from contextlib import suppress

from linkspan.errors import RolloutConflict
from linkspan.runtimes.base import KubeObject, released_meanwhile
from linkspan.runtimes.kubernetes import names
from linkspan.runtimes.kubernetes.client import Cluster, Conflict, Refused
from linkspan.runtimes.kubernetes.drift import drift_of
from linkspan.runtimes.kubernetes.objects import app_deployment, autoscaler_of, called
from linkspan.runtimes.kubernetes.owners import taken_over, watched


def apply(cluster: Cluster, service: str, objects: Sequence[KubeObject]) -> None:
    """Apply all in their order; what others have put into them goes.

    The Deployment's replicas stay as they are if a HorizontalPodAutoscaler of the set decides about them.
    Raises Refused, naming the object, and RolloutConflict.
    """
    deployment = app_deployment(objects)
    scaled = autoscaler_of(objects, deployment) is not None
    for thing in objects:
        try:
            if thing is deployment:
                swap(cluster, service, thing, scaled=scaled)
            else:
                _put(cluster, thing)
        except Refused as error:
            raise Refused(f"{called(thing)} is refused: {error}") from None


def drift(cluster: Cluster, objects: Sequence[KubeObject]) -> str:
    """How what is in the cluster differs from these objects as applied; empty if it does not."""
    deployment = app_deployment(objects)
    scaled = autoscaler_of(objects, deployment) is not None
    lines = []
    for thing in objects:
        # Kinds can go too: whoever uninstalls an operator removes them with all of their objects.
        known = cluster.knows(thing["apiVersion"], thing["kind"])
        found = cluster.find(thing) if known else None
        if found is None:
            lines.append(f"{called(thing)} is missing")
            continue
        wanted = _at_scale_of(found, thing) if scaled and thing is deployment else thing
        applied = None
        # Rules that came later, and webhooks that know no dry run, refuse to be asked.
        with suppress(Refused):
            applied = cluster.apply(wanted, dry_run=True)
        lines.append(drift_of(found, wanted, applied))
    return "; ".join(filter(None, lines))


def swap(cluster: Cluster, service: str, thing: KubeObject, *, scaled: bool) -> None:
    """Apply the Deployment, if nobody released in between: compare-and-swap by its resourceVersion."""
    before = cluster.find(thing)
    seen = revision_in(before)
    while True:
        wanted = _at_scale_of(before, thing) if before and scaled else thing
        try:
            if before:
                version = _take_over(cluster, before, thing)["metadata"]["resourceVersion"]
                wanted = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": version}}
            cluster.apply(wanted)
        except Conflict:
            before = cluster.find(thing)  # most often only its status has moved on
            if revision_in(before) != seen:
                raise _superseded(service, thing, seen, revision_in(before)) from None
        else:
            return


def revision_in(deployment: KubeObject | None) -> str:
    """The number of the revision that a Deployment runs; empty if there is none."""
    found = (deployment or {}).get("metadata", {}).get("annotations") or {}
    return str(found.get(names.REVISION, ""))


def _put(cluster: Cluster, thing: KubeObject) -> None:
    while watched(thing) and (before := cluster.find(thing)):
        with suppress(Conflict):  # somebody was quicker: look again
            _take_over(cluster, before, thing)
            break
    cluster.apply(thing)


def _take_over(cluster: Cluster, found: KubeObject, wanted: KubeObject) -> KubeObject:
    """Write fields of others down as ours, so that they go with the next apply; nothing else changes."""
    fields = taken_over(found, wanted)
    if fields is None:
        return found
    version = found["metadata"]["resourceVersion"]
    return cluster.merge(wanted, {"managedFields": fields, "resourceVersion": version})


def _superseded(service: str, thing: KubeObject, seen: str, found: str) -> RolloutConflict:
    return released_meanwhile(
        service, expected=f"revision {seen} in {called(thing)}", found=f"revision {found}"
    )


def _at_scale_of(found: KubeObject, thing: KubeObject) -> KubeObject:
    """`thing` with the replicas that an autoscaler has set, or with its own if it was scaled to nothing."""
    replicas = found["spec"].get("replicas") or thing["spec"]["replicas"]
    return {**thing, "spec": {**thing["spec"], "replicas": replicas}}

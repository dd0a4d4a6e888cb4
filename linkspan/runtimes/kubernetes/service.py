"""One service in a cluster: its history, its objects, and what can be seen of them.

This is the I/O of the kubernetes runtime; what any of it means is decided elsewhere (kube_render, kube_drift,
kube_readiness, kube_rollout).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from linkspan.errors import RolloutConflict
from linkspan.nouns import Revision
from linkspan.runtimes.base import KubeObject, Service, released_meanwhile
from linkspan.runtimes.kubernetes import apply as kube_apply
from linkspan.runtimes.kubernetes import names
from linkspan.runtimes.kubernetes import revision as kube_revision
from linkspan.runtimes.kubernetes.client import Cluster, Conflict, Refused
from linkspan.runtimes.kubernetes.objects import app_deployment, called, identity, services_of
from linkspan.runtimes.kubernetes.pull_secret import pull_secret
from linkspan.runtimes.kubernetes.readiness import Observed, needs_logs
from linkspan.runtimes.kubernetes.revision import Snapshot, State

KEPT = frozenset({"Namespace", "PersistentVolumeClaim", "PersistentVolume", "CustomResourceDefinition"})
"""Kinds that are never pruned: with them goes data that no rollout brings back."""


class KubeService:
    """A service in its namespace."""

    def __init__(self, cluster: Cluster, service: Service, namespace: str) -> None:
        self.cluster = cluster
        self.service = service
        self.namespace = namespace

    # What there is

    def snapshots(self) -> list[Snapshot]:
        """The history, newest first, with rollouts that are going on or were interrupted."""
        found = self.cluster.list(
            kube_revision.API, kube_revision.KIND, self.namespace, labels=f"{names.HISTORY}={self.service}"
        )
        read = [kube_revision.from_object(each) for each in found]
        return sorted(read, key=lambda snapshot: -snapshot.revision.number)

    def deployment(self, objects: Iterable[KubeObject]) -> KubeObject | None:
        """The Deployment that runs the release, of those objects, as it is in the cluster."""
        return self.cluster.find(app_deployment(list(objects)))

    def observe(self, objects: Sequence[KubeObject], number: int) -> Observed:
        """What can be seen of a revision's Deployment and pods, and the logs of those that ended."""
        ours = f"{names.SERVICE}={self.service}"
        pods = self.cluster.list("v1", "Pod", self.namespace, labels=ours)
        sets = self.cluster.list("apps/v1", "ReplicaSet", self.namespace, labels=ours)
        slices: list[KubeObject] = []
        for each in services_of(objects):
            slices += self.cluster.list(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                self.namespace,
                labels=f"kubernetes.io/service-name={each}",
            )
        logs = {
            pod: text
            for pod, container, previous in needs_logs(pods, number)
            if (text := self.cluster.log(self.namespace, pod, container, previous=previous)) is not None
        }
        return Observed(
            deployment=self.deployment(objects),
            replica_sets=sets,
            pods=pods,
            events=self.cluster.list("v1", "Event", self.namespace),
            logs=logs,
            endpoints=slices,
        )

    def replica(self, name: str) -> KubeObject | None:
        """The metadata of a pod; of one that has gone, as its ReplicaSet gave it, while that is there."""
        ours = f"{names.SERVICE}={self.service}"
        wanted = f"metadata.name={name}"
        for pod in self.cluster.list("v1", "Pod", self.namespace, labels=ours, fields=wanted):
            return _metadata(pod)
        wanted = f"metadata.name={name.rpartition('-')[0]}"
        for made in self.cluster.list("apps/v1", "ReplicaSet", self.namespace, labels=ours, fields=wanted):
            return _metadata(made["spec"]["template"])
        return None

    # Changing it

    def record(self, snapshot: Snapshot) -> None:
        """Begin a rollout: whoever makes the number first has it. Raises RolloutConflict for the other."""
        try:
            self.cluster.create(kube_revision.to_object(self.service, self.namespace, snapshot))
        except Conflict:
            raise RolloutConflict(
                f"{self.service} is being released by somebody else",
                found=f"revision {snapshot.revision.number} on its way",
            ) from None

    def mark(self, revision: Revision, state: State) -> None:
        """Write down what became of a revision. Raises RolloutConflict if somebody's rollout removed it."""
        try:
            self.cluster.annotate(self._stub(revision.number), dict(kube_revision.marks(revision, state)))
        except Conflict:
            gone = f"revision {revision.number} gone from the history"
            raise released_meanwhile(self.service, found=gone) from None

    def forget(self, number: int) -> None:
        """Remove a revision from the history."""
        self.cluster.delete(self._stub(number))

    def claim(self, objects: Iterable[KubeObject]) -> None:
        """Raises Refused, before anything is changed, if one of these belongs to another service."""
        for thing in objects:
            owner = self._owner(thing)
            if owner not in {"", str(self.service)}:
                raise Refused(
                    f"{called(thing)} in namespace {self.namespace} belongs to {owner}: give each service a "
                    "namespace of its own"
                )

    def apply(self, objects: Sequence[KubeObject]) -> None:
        """Make them what they say. Raises Refused, naming the object, and RolloutConflict."""
        kube_apply.apply(self.cluster, str(self.service), objects)

    def drift(self, objects: Sequence[KubeObject]) -> str:
        """How what is in the cluster differs from these objects as applied; empty if it does not."""
        return kube_apply.drift(self.cluster, objects)

    def scale_to_nothing(self, objects: Sequence[KubeObject]) -> None:
        """Take the pods away of a release that has nothing to go back to; the reason stays in the history."""
        thing = app_deployment(objects)
        if self._owner(thing) == str(self.service):
            nothing = {**thing, "spec": {**thing["spec"], "replicas": 0}}
            kube_apply.swap(self.cluster, str(self.service), nothing, scaled=False)

    def prune(self, old: Iterable[KubeObject], new: Iterable[KubeObject]) -> list[str]:
        """Remove what the old set has and the new one has not, if it is ours. Returns what was removed."""
        wanted = {identity(thing) for thing in new}
        removed = []
        gone = set()
        for thing in old:
            key = identity(thing)
            if (
                key in wanted
                or key in gone
                or thing["kind"] in KEPT
                or not self.cluster.knows(thing["apiVersion"], thing["kind"])
                or self._owner(thing) != str(self.service)
            ):
                continue
            gone.add(key)
            if self.cluster.delete(thing):
                removed.append(called(thing))
        return removed

    def keep_credentials(self, image: str, auth: Mapping[str, str]) -> None:
        """Keep the password with which the nodes pull in a Secret; nothing happens if it is there."""
        wanted = pull_secret(self.namespace, self.service, image, auth)
        found = self.cluster.find(wanted)
        if found is None or found.get("data") != wanted["data"]:
            self.cluster.apply(wanted)

    def ensure_namespace(self) -> bool:
        """Make the namespace if it is missing and we may; True if it was made. Raises RuntimeDenied."""
        if self.cluster.get("v1", "Namespace", self.namespace, "") is not None:
            return False
        meta = {"name": self.namespace, "labels": {names.MANAGED_BY: names.FIELD_MANAGER}}
        with suppress(Conflict):
            self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        return True

    def remove_credentials(self) -> None:
        """Remove the Secret that `keep_credentials` made."""
        stub = {"apiVersion": "v1", "kind": "Secret", "metadata": self._meta(names.PULL_SECRET)}
        if self._owner(stub) == str(self.service):
            self.cluster.delete(stub)

    def remove_namespace(self) -> None:
        """Remove the namespace if Linkspan made it and no other service has a history there."""
        found = self.cluster.get("v1", "Namespace", self.namespace, "")
        ours = ((found or {}).get("metadata", {}).get("labels") or {}).get(names.MANAGED_BY)
        others = self.cluster.list(
            kube_revision.API, kube_revision.KIND, self.namespace, labels=names.HISTORY
        )
        if found and ours == names.FIELD_MANAGER and not others:
            self.cluster.delete(found)

    def gone(self) -> bool:
        """Whether there is no such namespace (any more)."""
        found = self.cluster.get("v1", "Namespace", self.namespace, "")
        return found is None or "deletionTimestamp" in found["metadata"]

    def superseded(self, snapshot: Snapshot, *, applied: bool) -> str:
        """What the Deployment runs instead, if somebody released after this rollout began; else empty.

        Once it was `applied` that is any other: a rollback may put the one before it back.
        """
        found = kube_apply.revision_in(self.deployment(snapshot.objects))
        number = str(snapshot.revision.number)
        newer = found.isdecimal() and (int(found) > int(number) or (applied and found != number))
        return f"revision {found}" if newer else ""

    def _owner(self, thing: KubeObject) -> str:
        found = self.cluster.find(thing)
        labels = (found or {}).get("metadata", {}).get("labels") or {}
        return str(labels.get(names.SERVICE, ""))

    def _stub(self, number: int) -> KubeObject:
        meta = self._meta(kube_revision.name_of(self.service, number))
        return {"apiVersion": kube_revision.API, "kind": kube_revision.KIND, "metadata": meta}

    def _meta(self, name: str) -> KubeObject:
        return {"name": name, "namespace": self.namespace}


def _metadata(thing: KubeObject) -> KubeObject:
    found: KubeObject = thing["metadata"]
    return found

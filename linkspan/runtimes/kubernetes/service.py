"""One service in a cluster: its history, its objects, and what can be seen of them.

This is the I/O of the kubernetes runtime; what any of it means is decided elsewhere (render, drift,
readiness, rollout).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from linkspan.errors import RolloutConflict
from linkspan.nouns import Revision
from linkspan.runtimes.base import KubeObject, Service, released_meanwhile
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.apply import apply, drift, swap
from linkspan.runtimes.kubernetes.client import Cluster, Conflict, Refused
from linkspan.runtimes.kubernetes.fields import carried, field, is_leaving, text
from linkspan.runtimes.kubernetes.marks import Snapshot, State
from linkspan.runtimes.kubernetes.objects import app_deployment, called, identity, services_of
from linkspan.runtimes.kubernetes.readiness import Observed, living, needs_logs

KEPT = frozenset({"Namespace", "PersistentVolumeClaim", "PersistentVolume", "CustomResourceDefinition"})
"""Kinds that are never pruned: with them goes data that no rollout brings back."""


class KubeService:
    """A service in its namespace."""

    def __init__(self, cluster: Cluster, service: Service, namespace: str) -> None:
        self.cluster = cluster
        self.service = service
        self.namespace = namespace
        self._space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        self._labelled = f"{marks.SERVICE}={service}"

    # What there is

    def snapshots(self) -> list[Snapshot]:
        """The history, newest first, with rollouts that are going on or were interrupted."""
        own = f"{marks.HISTORY}={self.service}"
        found = self.cluster.list(marks.API, marks.KIND, self.namespace, labels=own)
        return sorted(map(marks.from_object, found), key=lambda snapshot: -snapshot.revision.number)

    def observe(self, objects: Sequence[KubeObject], number: int) -> Observed:
        """What can be seen of a revision's Deployment and pods, and the logs of those that ended."""
        pods = self.cluster.list("v1", "Pod", self.namespace, labels=self._labelled)
        sets = self.cluster.list("apps/v1", "ReplicaSet", self.namespace, labels=self._labelled)
        slices: list[KubeObject] = []
        for each in services_of(objects):
            of = f"kubernetes.io/service-name={each}"
            slices += self.cluster.list("discovery.k8s.io/v1", "EndpointSlice", self.namespace, labels=of)
        logs = {
            pod: said
            for pod, container, previous in needs_logs(pods, number)
            if (said := self.cluster.log(self.namespace, pod, container, previous=previous)) is not None
        }
        return Observed(
            deployment=self.cluster.find(app_deployment(objects)),
            replica_sets=sets,
            pods=pods,
            events=self.cluster.list("v1", "Event", self.namespace),
            logs=logs,
            endpoints=slices,
        )

    def replica(self, name: str) -> dict[str, str]:
        """The annotations of a pod; of one that has gone, as its ReplicaSet gave them while that is there."""

        def named(api: str, kind: str, name: str) -> list[KubeObject]:
            fields = f"metadata.name={name}"
            return self.cluster.list(api, kind, self.namespace, labels=self._labelled, fields=fields)

        for pod in named("v1", "Pod", name):
            return dict(field(pod, "metadata", "annotations") or {})
        for made_by in named("apps/v1", "ReplicaSet", name.rpartition("-")[0]):
            return dict(field(made_by, "spec", "template", "metadata", "annotations") or {})
        return {}

    def nodes_of(self, number: int) -> set[str]:
        """The nodes on which pods of a revision run."""
        pods = self.cluster.list("v1", "Pod", self.namespace, labels=self._labelled)
        return {node for pod in living(pods, number) if (node := text(pod, "spec", "nodeName"))}

    # Changing it

    def remove_trials(
        self, called: str = "", *, fetching: bool = True, grace_seconds: int | None = None
    ) -> None:
        """Remove the pods of all trials of the service, or of that one; what goes with them goes too.

        Those that only fetch stay unless `fetching`. Each has its own time to end, or `grace_seconds`.
        """
        for pod in self.cluster.list("v1", "Pod", self.namespace, labels=f"{marks.TRIAL}={self.service}"):
            role = text(pod, "metadata", "labels", marks.ROLE)
            if text(pod, "metadata", "name").startswith(called) and (fetching or role == "trial"):
                self.cluster.delete(pod, grace_seconds=grace_seconds)

    def record(self, snapshot: Snapshot) -> None:
        """Begin a rollout: whoever makes the number first has it. Raises RolloutConflict for the other."""
        try:
            self.cluster.create(marks.to_object(self.service, self.namespace, snapshot))
        except Conflict:
            raise RolloutConflict(
                f"{self.service} is being released by somebody else",
                found=f"revision {snapshot.revision.number} on its way",
            ) from None

    def mark(self, revision: Revision, state: State) -> None:
        """Write down what became of a revision. Raises RolloutConflict if somebody's rollout removed it."""
        try:
            self.cluster.merge(
                self._written(revision.number), {"annotations": marks.outcome(revision, state)}
            )
        except Conflict:
            gone = f"revision {revision.number} gone from the history"
            raise released_meanwhile(self.service, found=gone) from None

    def forget(self, number: int) -> None:
        """Remove a revision from the history."""
        self.cluster.delete(self._written(number))

    def claim(self, objects: Iterable[KubeObject]) -> list[KubeObject | None]:
        """Each of these as it is in the cluster.

        Raises Refused, before anything is changed, if one belongs to another service.
        """
        there = []
        for obj in objects:
            there.append(found := self.cluster.find(obj))
            owner = _owner_of(found)
            if owner not in {"", str(self.service)}:
                raise Refused(
                    f"{called(obj)} in namespace {self.namespace} belongs to {owner}: give each service a "
                    "namespace of its own"
                )
        return there

    def apply(self, objects: Sequence[KubeObject]) -> None:
        """Make them what they say. Raises Refused, naming the object, and RolloutConflict."""
        apply(self.cluster, str(self.service), objects)

    def drift(self, objects: Sequence[KubeObject]) -> str:
        """How what is in the cluster differs from these objects as applied; empty if it does not."""
        return drift(self.cluster, objects)

    def scale_to_nothing(self, objects: Sequence[KubeObject]) -> None:
        """Take the pods away of a release that has nothing to go back to; the reason stays in the history."""
        obj = app_deployment(objects)
        if self._owner(obj) == str(self.service):
            nothing = {**obj, "spec": {**obj["spec"], "replicas": 0}}
            swap(self.cluster, str(self.service), nothing, scaled=False)

    def prune(self, old: Iterable[KubeObject], new: Iterable[KubeObject]) -> list[str]:
        """Remove what the old set has and the new one has not, if it is ours. Returns what was removed."""
        wanted = {identity(obj) for obj in new}
        had = {identity(obj): obj for obj in old if obj["kind"] not in KEPT}
        removed = []
        for obj in (had[key] for key in had if key not in wanted):
            ours = self.cluster.knows(obj) and self._owner(obj) == str(self.service)
            if ours and self.cluster.delete(obj):
                removed.append(called(obj))
        return removed

    def keep_credentials(self, image: str, auth: Mapping[str, str]) -> None:
        """Keep the password with which the nodes pull in a Secret; nothing happens if it is there."""
        wanted = marks.pull_secret(self.namespace, self.service, image, auth)
        found = self.cluster.find(wanted)
        if found is None or found.get("data") != wanted["data"]:
            self.cluster.apply(wanted)

    def ensure_namespace(self) -> bool:
        """Make the namespace if it is missing and we may; True if it was made. Raises RuntimeDenied."""
        if self.cluster.find(self._space) is not None:
            return False
        meta = {"name": self.namespace, "labels": {marks.MANAGED_BY: marks.FIELD_MANAGER}}
        with suppress(Conflict):
            self.cluster.create({**self._space, "metadata": meta})
        return True

    def remove_credentials(self) -> None:
        """Remove the Secret that `keep_credentials` made."""
        meta = {"name": marks.PULL_SECRET, "namespace": self.namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
        if self._owner(secret) == str(self.service):
            self.cluster.delete(secret)

    def remove_namespace(self) -> None:
        """Remove the namespace if Linkspan made it and no other service has a history there."""
        maker = text(self.cluster.find(self._space), "metadata", "labels", marks.MANAGED_BY)
        others = self.cluster.list(marks.API, marks.KIND, self.namespace, labels=marks.HISTORY)
        if maker == marks.FIELD_MANAGER and not others:
            self.cluster.delete(self._space)

    def gone(self) -> bool:
        """Whether there is no such namespace (any more)."""
        found = self.cluster.find(self._space)
        return found is None or is_leaving(found)

    def superseded(self, snapshot: Snapshot, *, applied: bool) -> str:
        """What the Deployment runs instead, if somebody released after this rollout began; else empty.

        Once it was `applied` that is any other: a rollback may put the one before it back.
        """
        found = carried(self.cluster.find(app_deployment(snapshot.objects)))
        number = str(snapshot.revision.number)
        newer = found.isdecimal() and (int(found) > int(number) or (applied and found != number))
        return f"revision {found}" if newer else ""

    def _owner(self, obj: KubeObject) -> str:
        return _owner_of(self.cluster.find(obj))

    def _written(self, number: int) -> KubeObject:
        return marks.reference(self.service, self.namespace, number)


def _owner_of(found: KubeObject | None) -> str:
    return text(found, "metadata", "labels", marks.SERVICE)

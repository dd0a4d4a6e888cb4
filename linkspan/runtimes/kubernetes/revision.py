"""A service's history in the cluster: one ControllerRevision for each rollout.

That kind exists for this: an immutable snapshot with a number. Its data is all that is needed to put the
release back or to see what has drifted (the release and the objects as they were applied); what becomes of it
is in its annotations. It never holds a Secret.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from linkspan.nouns import Release, Revision
from linkspan.runtimes.base import KubeObject, Service
from linkspan.runtimes.kubernetes import names

State = Literal["rolling", "live", "replaced", "failed"]
API, KIND = "apps/v1", "ControllerRevision"


@dataclass(frozen=True)
class Snapshot:
    """A rollout as the cluster remembers it.

    `spec` is the digest of what was asked for, `replicas` how many were, `objects` what was applied. While it
    is `rolling`, nobody has seen it ready yet.
    """

    revision: Revision
    state: State
    spec: str
    replicas: int
    objects: tuple[KubeObject, ...]


def name_of(service: Service, number: int) -> str:
    """The name of a revision's ControllerRevision."""
    return f"{service}-r{number}"


def to_object(service: Service, namespace: str, snapshot: Snapshot) -> KubeObject:
    """The ControllerRevision of a snapshot."""
    revision = snapshot.revision
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {
            "name": name_of(service, revision.number),
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.FIELD_MANAGER, names.HISTORY: str(service)},
            "annotations": {
                names.RELEASE: revision.release.title,
                names.CAUSE: revision.cause,
                names.RUN: revision.run,
                names.AT: revision.at.isoformat(),
                **marks(revision, snapshot.state),
            },
        },
        "revision": revision.number,
        "data": {
            "release": revision.release.model_dump(mode="json"),
            "spec": snapshot.spec,
            "replicas": snapshot.replicas,
            "objects": list(snapshot.objects),
        },
    }


def marks(revision: Revision, state: State) -> dict[str, str]:
    """The annotations that change while the rest stays."""
    return {
        names.OUTCOME: state,
        names.REASON: revision.reason,
        names.PINNED: "true" if revision.pinned else "false",
    }


def from_object(found: KubeObject) -> Snapshot:
    """What `to_object` wrote."""
    said, data = found["metadata"]["annotations"], found["data"]
    state = cast("State", said[names.OUTCOME])
    revision = Revision(
        number=found["revision"],
        release=Release.model_validate(data["release"]),
        cause=said[names.CAUSE],
        run=said.get(names.RUN, ""),
        at=datetime.fromisoformat(said[names.AT]),
        pinned=said.get(names.PINNED) == "true",
        outcome="live" if state == "rolling" else state,
        reason=said.get(names.REASON, ""),
    )
    return Snapshot(revision, state, data["spec"], data["replicas"], tuple(data["objects"]))


def live_of(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The one that is live."""
    return next((snapshot for snapshot in snapshots if snapshot.state == "live"), None)

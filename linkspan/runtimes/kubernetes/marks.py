"""What Linkspan writes down in a cluster: names on objects, a service's history, the password for pulls.

The history is one ControllerRevision for each rollout. That kind exists for this: an immutable snapshot with
a number. Its data is all that is needed to put the release back or to see what has drifted (the release and
the objects as they were applied); what becomes of it is in its annotations. It never holds a Secret.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, cast

from linkspan.nouns import Release, Revision
from linkspan.runtimes.base import KubeObject, Rollout, Service

FIELD_MANAGER: Final = "linkspan"
"""Owner of the fields that Linkspan applies (server-side apply)."""

PLACEHOLDER: Final = "linkspan.dev/app"
"""The image in an app's object that stands for the release's."""

PULL_SECRET: Final = "linkspan-registry"  # noqa: S105 a name

MODEL_VOLUME: Final = "linkspan-model"
"""The volume of a pod that mounts its model's image."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
SERVICE: Final = "linkspan.dev/service"
"""Label: `<app>-<environment>`, on every object of the service."""
HISTORY: Final = "linkspan.dev/history"
"""Label: `<app>-<environment>`, on the ControllerRevisions that are the history."""
REVISION: Final = "linkspan.dev/revision"
"""Label of pods and annotation of the Deployment: the number of the revision."""
TRIAL: Final = "linkspan.dev/trial"
"""Label: `<app>-<environment>`, on what is made for a smoke test and goes with it."""
ROLE: Final = "linkspan.dev/role"
"""Label of pods with TRIAL: `trial`, or `fetch` for one that only fetches the release."""

RELEASE: Final = "linkspan.dev/release"
COMMIT: Final = "linkspan.dev/commit"
COMMIT_AUTHOR: Final = "linkspan.dev/commit-author"
COMMIT_SUBJECT: Final = "linkspan.dev/commit-subject"
MODEL: Final = "linkspan.dev/model"
MODEL_DIGEST: Final = "linkspan.dev/model-digest"
MODEL_METRICS: Final = "linkspan.dev/model-metrics"
MODEL_PUBLISHER: Final = "linkspan.dev/model-publisher"
IMAGE: Final = "linkspan.dev/image"
CAUSE: Final = "linkspan.dev/cause"
RUN: Final = "linkspan.dev/run"
AT: Final = "linkspan.dev/at"
PINNED: Final = "linkspan.dev/pinned"
OUTCOME: Final = "linkspan.dev/outcome"
REASON: Final = "linkspan.dev/reason"
CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
"""What `kubectl rollout history` shows."""

API: Final = "apps/v1"
KIND: Final = "ControllerRevision"
State = Literal["rolling", "live", "replaced", "failed"]


def annotations(rollout: Rollout, revision: int, at: datetime) -> dict[str, str]:
    """What Linkspan says about a rollout, for people and `linkspan why`; what is not known is left out."""
    commit, model = rollout.release.commit, rollout.release.model
    said = {
        REVISION: str(revision),
        RELEASE: rollout.release.title,
        COMMIT: commit.sha,
        COMMIT_AUTHOR: commit.author,
        COMMIT_SUBJECT: commit.subject,
        MODEL: f"{model.name} {model.version}",
        MODEL_DIGEST: model.digest,
        MODEL_METRICS: json.dumps(dict(model.metrics), sort_keys=True) if model.metrics else "",
        MODEL_PUBLISHER: model.published_by,
        IMAGE: rollout.release.image,
        CAUSE: rollout.cause,
        RUN: rollout.run,
        AT: at.astimezone(UTC).isoformat(timespec="seconds"),
    }
    return {name: value for name, value in said.items() if value}


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


def reference(service: Service, namespace: str, number: int) -> KubeObject:
    """A revision's ControllerRevision, as far as one must know it to find it."""
    metadata = {"name": f"{service}-r{number}", "namespace": namespace}
    return {"apiVersion": API, "kind": KIND, "metadata": metadata}


def to_object(service: Service, namespace: str, snapshot: Snapshot) -> KubeObject:
    """The ControllerRevision of a snapshot."""
    revision = snapshot.revision
    made = reference(service, namespace, revision.number)
    made["metadata"] |= {
        "labels": {MANAGED_BY: FIELD_MANAGER, HISTORY: str(service)},
        "annotations": {
            RELEASE: revision.release.title,
            CAUSE: revision.cause,
            RUN: revision.run,
            AT: revision.at.isoformat(),
            **outcome(revision, snapshot.state),
        },
    }
    data = {
        "release": revision.release.model_dump(mode="json"),
        "spec": snapshot.spec,
        "replicas": snapshot.replicas,
        "objects": list(snapshot.objects),
    }
    return {**made, "revision": revision.number, "data": data}


def outcome(revision: Revision, state: State) -> dict[str, str]:
    """The annotations that change while the rest stays."""
    return {OUTCOME: state, REASON: revision.reason, PINNED: "true" if revision.pinned else "false"}


def from_object(found: KubeObject) -> Snapshot:
    """What `to_object` wrote."""
    said, data = found["metadata"]["annotations"], found["data"]
    state = cast("State", said[OUTCOME])
    revision = Revision(
        number=found["revision"],
        release=Release.model_validate(data["release"]),
        cause=said[CAUSE],
        run=said.get(RUN, ""),
        at=datetime.fromisoformat(said[AT]),
        pinned=said.get(PINNED) == "true",
        outcome="live" if state == "rolling" else state,
        reason=said.get(REASON, ""),
    )
    return Snapshot(revision, state, data["spec"], data["replicas"], tuple(data["objects"]))


def live_of(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The one that is live."""
    return next((snapshot for snapshot in snapshots if snapshot.state == "live"), None)


def pull_secret(namespace: str, service: Service, image: str, auth: Mapping[str, str]) -> KubeObject:
    """The Secret with which nodes pull `image`.

    https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/
    """
    host = image.partition("/")[0]
    token = base64.b64encode(f"{auth['username']}:{auth['password']}".encode()).decode()
    login = {"username": auth["username"], "password": auth["password"], "auth": token}
    hosts = {host: login}
    if host in {"docker.io", "index.docker.io", "registry-1.docker.io"}:
        hosts["https://index.docker.io/v1/"] = login  # the name that the kubelet looks for
    document = json.dumps({"auths": hosts}, sort_keys=True).encode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": PULL_SECRET,
            "namespace": namespace,
            "labels": {MANAGED_BY: FIELD_MANAGER, SERVICE: str(service)},
        },
        "data": {".dockerconfigjson": base64.b64encode(document).decode()},
    }

"""The kubernetes runtime: a Deployment whose pods are replaced without a failed request.

roll_out reads like what it does: write the revision down, apply the objects, wait until every replica is
ready and has the traffic, remove what it replaces. The cluster moves the traffic by itself; Linkspan sees
whether it went well, says why not, and puts the release before it back. A revision is live once somebody has
seen it ready; one that a killed rollout left is taken up by the next.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from linkspan.errors import (
    ReleaseNotFound,
    RolloutConflict,
    RolloutFailed,
    RuntimeDenied,
    RuntimeUnavailable,
)
from linkspan.nouns import Revision, sha256
from linkspan.runtimes import kube_names as names
from linkspan.runtimes.base import Manifest, Rollout, Say, Service, check_expected
from linkspan.runtimes.kube_client import Cluster, Refused, open_client
from linkspan.runtimes.kube_manifests import default_manifests
from linkspan.runtimes.kube_objects import app_deployment, containers
from linkspan.runtimes.kube_pulls import is_preparing, pulls_fail
from linkspan.runtimes.kube_readiness import rollout_readiness
from linkspan.runtimes.kube_render import render
from linkspan.runtimes.kube_revision import Snapshot
from linkspan.runtimes.kube_service import KubeService
from linkspan.runtimes.kube_url import url_of
from linkspan.runtimes.readiness import Readiness
from linkspan.runtimes.settings import RuntimeSettings

HISTORY = 50
"""Revisions that are remembered."""
_LOOK_SECONDS = 0.5
_PULL_SECONDS = 1800
"""A node may take this long to pull; the time to become ready starts after that."""
_DENIED_SECONDS = 30
_AWAY_SECONDS = 300
"""The API server may be away this long while a rollout waits."""


class KubernetesRuntimeSettings(RuntimeSettings):
    """Which cluster runs releases, and how to get in."""

    kubeconfig: SecretStr | None = Field(
        default=None,
        description="Text of a kubeconfig. Empty: what kubectl would use, in a pod its service account.",
    )
    context: str = Field(default="", description="Context of the kubeconfig. Empty: its current one.")
    namespace: str = Field(
        default="",
        description="Namespace of the service, unless linkspan.toml names one. Empty: <app>-<environment>.",
    )
    pull_secret: bool = Field(
        default=True,
        description="Keep the registry's password in the namespace, for the nodes to pull with. Off where "
        "they may pull without: AKS with an attached registry, EKS nodes with ECR.",
    )
    node_address: str = Field(
        default="",
        description="Name or address at which users reach node ports, where there is neither Ingress nor "
        "load balancer. Empty: the node of a ready pod.",
    )

    def open(self, registry_auth: Mapping[str, str] | None = None) -> "KubernetesRuntime":
        """The runtime; `registry_auth` is {"username": …, "password": …} for pulls. Raises ConfigError."""
        text = self.kubeconfig.get_secret_value() if self.kubeconfig else ""
        return KubernetesRuntime(Cluster(open_client(text, self.context)), self, registry_auth)


class KubernetesRuntime:
    """A Runtime (linkspan/runtimes/base.py) on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        settings: KubernetesRuntimeSettings,
        registry_auth: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._auth = registry_auth if settings.pull_secret else None

    # Asking

    def live(self, service: Service) -> Revision | None:
        found = _live(self._service(service).snapshots())
        return found.revision if found else None

    def history(self, service: Service) -> list[Revision]:
        seen = self._service(service).snapshots()
        return [snapshot.revision for snapshot in seen if snapshot.state != "rolling"]

    def drift(self, service: Service, replicas: int) -> str:
        mine = self._service(service)
        snapshots = mine.snapshots()
        live = _live(snapshots)
        if live is None:
            return "nothing runs"
        if live.replicas != replicas:
            return f"it was rolled out with {live.replicas} replicas instead of {replicas}"
        # A pod that is being replaced is the cluster's own business, and repairing would not help it.
        return mine.drift(live.objects)

    def refresh(self, service: Service) -> None:
        """Renew the password that nodes pull with: that of ECR is good for 12 hours."""
        mine = self._service(service)
        live = _live(mine.snapshots())
        if live and self._auth:
            mine.keep_credentials(_image(live.objects), self._auth)

    def url(self, service: Service) -> str:
        mine = self._service(service)
        live = _live(mine.snapshots())
        if live is None:
            raise ReleaseNotFound(f"{service} was never released in namespace {mine.namespace}")
        seen = [found for thing in live.objects if (found := mine.find(thing)) is not None]
        pods = mine.observe(live.objects, live.revision.number).pods
        return url_of(seen, pods, self._settings.node_address, urlsplit(self._cluster.host).hostname or "")

    def revision_of(self, service: Service, replica: str) -> int | None:
        mine = self._service(service)
        said = (mine.replica(replica) or {}).get("annotations") or {}
        if not said:
            return None
        # A number is given again where a rollout was forgotten: the image tells the two apart.
        known = {str(each.revision.number): each.revision for each in mine.snapshots()}
        found = known.get(said.get(names.REVISION, ""))
        return found.number if found and found.release.image == said.get(names.IMAGE) else None

    # Doing

    def roll_out(self, rollout: Rollout, *, say: Say) -> Revision:
        mine = self._service(rollout.service)
        try:
            if mine.ensure_namespace():
                say(f"made namespace {mine.namespace}")
            snapshots = mine.snapshots()
            live = _live(snapshots)
            check_expected(rollout, live.revision if live else None)
            spec = spec_of(rollout)
            if live is not None and live.spec == spec:
                return self._repair(rollout, mine, live, snapshots, say)
            return self._replace(rollout, mine, live, snapshots, spec, say)
        except Refused as error:
            raise RolloutFailed(
                f"the cluster refuses what it was asked to do for {rollout.service}", found=str(error)[:600]
            ) from None

    def destroy(self, service: Service) -> None:
        mine = self._service(service)
        if mine.gone():
            return
        snapshots = mine.snapshots()
        mine.prune((thing for snapshot in snapshots for thing in snapshot.objects), ())
        mine.remove_credentials()
        for snapshot in snapshots:
            mine.forget(snapshot.revision.number)
        mine.remove_namespace()

    # The steps

    def _replace(
        self,
        rollout: Rollout,
        mine: KubeService,
        live: Snapshot | None,
        snapshots: list[Snapshot],
        spec: str,
        say: Say,
    ) -> Revision:
        new = self._begin(rollout, mine, snapshots, spec)
        revision = new.revision
        number = revision.number
        applied = False
        try:
            say(f"revision {number}: applying {len(new.objects)} objects in namespace {mine.namespace}")
            if self._auth:
                mine.keep_credentials(rollout.image, self._auth)
            mine.apply(new.objects)
            applied = True
            say(f"revision {number}: waiting until all are ready")
            verdict = self._wait(mine, new, rollout.ready_seconds, say)
        except Refused as error:
            verdict = Readiness(done=False, retriable=False, reason=str(error))
        if not verdict.done:
            if superseded := mine.superseded(new, applied=applied):
                raise RolloutConflict(
                    f"{rollout.service} was released by somebody else meanwhile",
                    expected=f"revision {number}",
                    found=superseded,
                )
            raise self._undo(rollout, mine, live, new, verdict, say)
        say(f"revision {number}: all are ready and have the traffic")
        self._settle(mine, new, snapshots, say)
        say(f"revision {number}: live")
        return revision

    def _begin(self, rollout: Rollout, mine: KubeService, snapshots: list[Snapshot], spec: str) -> Snapshot:
        """The rollout that an interrupted run of the same began, else a new one, written down."""
        newest = snapshots[0] if snapshots else None
        if newest and newest.state == "rolling" and newest.spec == spec:
            revision = newest.revision.model_copy(update={"pinned": rollout.pinned})
            return replace(newest, revision=revision)
        number = newest.revision.number + 1 if newest else 1
        at = datetime.now(UTC).replace(microsecond=0)
        own = rollout.manifests
        objects = render(
            own or default_manifests(),
            rollout,
            namespace=mine.namespace,
            revision=number,
            at=at,
            pull_secret=self._auth is not None,
            ours=not own,
        )
        revision = Revision(
            number=number,
            release=rollout.release,
            cause=rollout.cause,
            run=rollout.run,
            at=at,
            pinned=rollout.pinned,
        )
        mine.claim(objects)
        snapshot = Snapshot(revision, "rolling", spec, rollout.replicas, tuple(objects))
        mine.record(snapshot)
        return snapshot

    def _wait(self, mine: KubeService, new: Snapshot, seconds: float, say: Say) -> Readiness:
        """Look until it is done, cannot be, or time is up. An API server that is away is waited for."""
        began = start = seen = time.monotonic()
        said = ""
        number = new.revision.number
        while True:
            now = time.monotonic()
            try:
                observed = mine.observe(new.objects, number)
            except (RuntimeUnavailable, RuntimeDenied) as error:
                # An API server that has just started knows no roles yet, and says no to everybody.
                if now - seen > (_AWAY_SECONDS if error.retriable else _DENIED_SECONDS):
                    raise
                if said != error.what:
                    say(f"revision {number}: {error.what}; waiting for it")
                said = error.what
                start += _LOOK_SECONDS  # nobody was looking: that is not the release's fault
                time.sleep(_LOOK_SECONDS)
                continue
            seen = time.monotonic()
            verdict = rollout_readiness(observed, number, seconds=now - start)
            if verdict.done or not verdict.retriable:
                return verdict
            if is_preparing(observed, number) and now - began < _PULL_SECONDS:
                start = now
            if now - start > seconds:
                late = f"not ready after {seconds:g} s: {verdict.reason}"
                # What a node could not fetch was never tried: that is no verdict on the release.
                return verdict._replace(reason=late, retriable=pulls_fail(observed, number))
            if verdict.reason != said:
                say(f"revision {number}: {verdict.reason}")
            said = verdict.reason
            time.sleep(_LOOK_SECONDS)

    def _settle(self, mine: KubeService, new: Snapshot, snapshots: list[Snapshot], say: Say) -> None:
        """Make it what is live: in the history first, then nothing is left of what it replaces."""
        mine.mark(new.revision, "live")
        others = [each for each in snapshots if each.revision.number != new.revision.number]
        for other in others:
            if other.state == "live":
                mine.mark(other.revision, "replaced")
        old = [each for each in others if each.state in {"live", "rolling"}]
        for line in mine.prune((thing for each in old for thing in each.objects), new.objects):
            say(f"revision {new.revision.number}: removed {line}, which it has no more")
        for other in others:
            if other.state == "rolling":
                mine.forget(other.revision.number)
        for other in others[HISTORY - 1 :]:
            mine.forget(other.revision.number)

    def _undo(
        self,
        rollout: Rollout,
        mine: KubeService,
        live: Snapshot | None,
        new: Snapshot,
        verdict: Readiness,
        say: Say,
    ) -> Exception:
        """Put back what was live. Returns the error to raise."""
        number = new.revision.number
        say(f"revision {number}: {verdict.reason}")
        fix = "The release before it serves again; mend what is said above and release again"
        try:
            if live is None:
                fix = "Nothing was live before it; mend what is said above and release again"
                mine.scale_to_nothing(new.objects)
            else:
                say(f"putting revision {live.revision.number} back")
                mine.apply(live.objects)
                back = self._wait(mine, live, max(rollout.ready_seconds, 60), say)
                mine.prune(new.objects, live.objects)
                if not back.done:
                    fix = f"Revision {live.revision.number} is back, but is not ready either: {back.reason}"
        except Refused as error:
            # Rules that came after a release refuse it too; it serves on if the new one was refused by them.
            fix = f"What was live is refused now too, and was not put back everywhere: {error}"
        if verdict.retriable:
            mine.forget(number)
            return RuntimeUnavailable(
                f"{rollout.release.title} cannot be tried in {rollout.service}", found=verdict.reason, fix=fix
            )
        mine.mark(new.revision.with_outcome("failed", verdict.reason), "failed")
        return RolloutFailed(
            f"{rollout.release.title} did not become ready in {rollout.service}",
            found=" ".join(verdict.reason.split())[:600],
            fix=fix,
        )

    def _repair(
        self, rollout: Rollout, mine: KubeService, live: Snapshot, snapshots: list[Snapshot], say: Say
    ) -> Revision:
        number = live.revision.number
        revision = live.revision.model_copy(update={"pinned": rollout.pinned})
        if self._auth:
            mine.keep_credentials(rollout.image, self._auth)
        if changed := mine.drift(live.objects):
            say(f"revision {number}: {changed}")
            mine.claim(live.objects)
            mine.apply(live.objects)
        verdict = self._wait(mine, live, rollout.ready_seconds, say)
        if not verdict.done:
            raise RolloutFailed(
                f"{rollout.release.title} is live in {rollout.service}, but cannot be repaired",
                found=verdict.reason[:600],
            )
        self._settle(mine, Snapshot(revision, "live", live.spec, live.replicas, live.objects), snapshots, say)
        return revision

    def _service(self, service: Service) -> KubeService:
        namespace = service.namespace or self._settings.namespace or str(service)
        return KubeService(self._cluster, service, namespace)


def spec_of(rollout: Rollout) -> str:
    """The digest of everything that makes a release run as it does; the image counts by digest."""
    parts = rollout.model_dump(
        mode="json", exclude={"service", "release", "image", "cause", "run", "pinned", "expect"}
    )
    own = list(rollout.manifests) or list(default_manifests())
    return sha256(json.dumps([rollout.release.image, parts, own], sort_keys=True).encode())


def _live(snapshots: list[Snapshot]) -> Snapshot | None:
    return next((snapshot for snapshot in snapshots if snapshot.state == "live"), None)


def _image(objects: tuple[Manifest, ...]) -> str:
    """The reference of the release's image, by its digest, in rendered objects."""
    deployment = app_deployment(objects)
    digest = deployment["metadata"]["annotations"][names.IMAGE]
    images = (str(each["image"]) for each in containers(deployment, "containers"))
    return next(image for image in images if image.endswith(digest))

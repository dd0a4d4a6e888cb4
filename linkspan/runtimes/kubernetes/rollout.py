"""The steps of one rollout in a cluster, and what is done when one of them goes wrong."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from linkspan.errors import RolloutFailed, RuntimeDenied, RuntimeUnavailable
from linkspan.nouns import Revision, sha256
from linkspan.progress import Say
from linkspan.runtimes.base import KubeObject, Rollout, check_expected, released_meanwhile
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.client import Refused
from linkspan.runtimes.kubernetes.containers import AWAY_SECONDS, DENIED_SECONDS, PULL_SECONDS
from linkspan.runtimes.kubernetes.fields import is_leaving
from linkspan.runtimes.kubernetes.marks import Snapshot, live_of
from linkspan.runtimes.kubernetes.nodes import check_mounts
from linkspan.runtimes.kubernetes.objects import app_deployment, listed
from linkspan.runtimes.kubernetes.readiness import is_preparing, pulls_fail, rollout_readiness
from linkspan.runtimes.kubernetes.render import render
from linkspan.runtimes.kubernetes.service import KubeService
from linkspan.runtimes.readiness import Readiness

HISTORY = 50
"""Revisions that are remembered."""

_LOOK_SECONDS = 0.5
_VOLUMES = ("spec", "template", "spec", "volumes")


@dataclass(frozen=True)
class KubeRollout:
    """A rollout, where it goes and whom it tells.

    `auth` is {"username": …, "password": …} for the nodes' pulls, None where they need none.
    """

    asked: Rollout
    mine: KubeService
    auth: Mapping[str, str] | None = field(repr=False)
    say: Say

    def run(self) -> Revision:
        """Replace what is live, or repair it if it is what is asked for. Raises as Runtime.roll_out does."""
        if self.mine.ensure_namespace():
            self.say(f"made namespace {self.mine.namespace}")
        snapshots = self.mine.snapshots()
        live = live_of(snapshots)
        check_expected(self.asked, live.revision if live else None)
        objects = self.asked.objects or default_objects()
        spec = spec_of(self.asked, objects)
        if live is not None and live.spec == spec:
            return self._repair(live, snapshots)
        return self._replace(live, snapshots, self._begin(snapshots, objects, spec))

    def _begin(self, snapshots: list[Snapshot], objects: Sequence[KubeObject], spec: str) -> Snapshot:
        """The rollout that an interrupted run of the same began, else a new one, written down."""
        asked = self.asked
        newest = snapshots[0] if snapshots else None
        if newest and newest.state == "rolling" and newest.spec == spec:
            return replace(newest, revision=newest.revision.model_copy(update={"pinned": asked.pinned}))
        revision = Revision(
            number=newest.revision.number + 1 if newest else 1,
            release=asked.release,
            cause=asked.cause,
            run=asked.run,
            at=datetime.now(UTC).replace(microsecond=0),
            pinned=asked.pinned,
        )
        objects = render(
            objects,
            asked,
            namespace=self.mine.namespace,
            revision=revision.number,
            at=revision.at,
            pull_secret=self.auth is not None,
            ours=not asked.objects,
        )
        self.mine.claim(objects)
        if asked.mount:
            self._check_mount(objects)
        snapshot = Snapshot(revision, "rolling", spec, asked.replicas, tuple(objects))
        self.mine.record(snapshot)
        return snapshot

    def _check_mount(self, objects: Sequence[KubeObject]) -> None:
        try:
            found = self.mine.cluster.apply(app_deployment(objects), dry_run=True)
        except Refused:
            return  # what it refuses is told when it is applied
        check_mounts(listed(found, *_VOLUMES), self.asked.release)

    def _replace(self, live: Snapshot | None, snapshots: list[Snapshot], new: Snapshot) -> Revision:
        mine, say, number = self.mine, self.say, new.revision.number
        applied = False
        try:
            say(f"revision {number}: applying {len(new.objects)} objects in namespace {mine.namespace}")
            self._keep_credentials()
            mine.apply(new.objects)
            applied = True
            say(f"revision {number}: waiting until all are ready")
            verdict = self._wait(new, self.asked.ready_seconds)
        except Refused as error:
            verdict = Readiness(done=False, retriable=False, reason=str(error))
        if not verdict.done:
            if other := mine.superseded(new, applied=applied):
                raise released_meanwhile(mine.service, expected=f"revision {number}", found=other)
            raise self._undo(live, new, verdict)
        say(f"revision {number}: all are ready and have the traffic")
        self._settle(new, snapshots)
        say(f"revision {number}: live")
        return new.revision

    def _wait(self, of: Snapshot, seconds: float) -> Readiness:
        """Whether it becomes ready within so many seconds, and why not.

        An API server that is away is waited for; RuntimeUnavailable and RuntimeDenied if that lasts too long.
        """
        began = start = seen = time.monotonic()
        stuck: float | None = None
        said = ""
        number = of.revision.number
        while True:
            now = time.monotonic()
            try:
                observed = self.mine.observe(of.objects, number)
            except (RuntimeUnavailable, RuntimeDenied) as error:
                if now - seen > (AWAY_SECONDS if error.retriable else DENIED_SECONDS):
                    raise
                if said != error.what:
                    self.say(f"revision {number}: {error.what}; waiting for it")
                said = error.what
                start += _LOOK_SECONDS  # nobody was looking: that is not the release's fault
                stuck = None
                time.sleep(_LOOK_SECONDS)
                continue
            seen = time.monotonic()
            verdict = rollout_readiness(observed, number, stuck=math.inf)
            if not (verdict.done or verdict.retriable):
                # Much of this passes: it is given up only when it has stood for long.
                stuck = now if stuck is None else stuck
                verdict = rollout_readiness(observed, number, stuck=now - stuck)
            if verdict.done or not verdict.retriable:
                deleted = observed.deployment is None or is_leaving(observed.deployment)
                # Whoever deleted it while it was rolled out has said nothing about the release.
                return verdict._replace(retriable=verdict.retriable or (deleted and not verdict.done))
            if is_preparing(observed, number) and now - began < PULL_SECONDS:
                start = now
            if now - start > seconds:
                late = f"not ready after {seconds:g} s: {verdict.reason}"
                # What a node could not fetch was never tried: that is no verdict on the release.
                return verdict._replace(reason=late, retriable=pulls_fail(observed, number))
            if verdict.reason != said:
                self.say(f"revision {number}: {verdict.reason}")
                if "exceeded quota" in verdict.reason:
                    self.mine.remove_trials()  # nodes that still fetch have pods that count
            said = verdict.reason
            time.sleep(_LOOK_SECONDS)

    def _settle(self, new: Snapshot, snapshots: list[Snapshot]) -> None:
        """Make it what is live: in the history first, then nothing is left of what it replaces."""
        mine, number = self.mine, new.revision.number
        mine.mark(new.revision, "live")
        mine.remove_trials()  # whatever still fetches has no pod of it
        others = [each for each in snapshots if each.revision.number != number]
        old = [each for each in others if each.state in {"live", "rolling"}]
        for line in mine.prune((obj for each in old for obj in each.objects), new.objects):
            self.say(f"revision {number}: removed {line}, which it has no more")
        # Only now: who finds two that are live knows that this was interrupted, and does it again.
        for other in old:
            if other.state == "live":
                mine.mark(other.revision, "replaced")
            else:
                mine.forget(other.revision.number)
        for other in others[HISTORY - 1 :]:
            mine.forget(other.revision.number)

    def _undo(self, live: Snapshot | None, new: Snapshot, verdict: Readiness) -> Exception:
        """Put back what was live. Returns the error to raise."""
        asked, mine, number = self.asked, self.mine, new.revision.number
        self.say(f"revision {number}: {verdict.reason}")
        mine.remove_trials()
        fix = "The release before it serves again; mend what is said above and release again"
        try:
            if live is None:
                fix = "Nothing was live before it; mend what is said above and release again"
                mine.scale_to_nothing(new.objects)
            else:
                self.say(f"putting revision {live.revision.number} back")
                mine.apply(live.objects)
                back = self._wait(live, max(asked.ready_seconds, 60))
                mine.prune(new.objects, live.objects)
                if not back.done:
                    fix = f"Revision {live.revision.number} is back, but is not ready either: {back.reason}"
        except Refused as error:
            # Rules that came after a release refuse it too; it serves on if the new one was refused by them.
            fix = f"What was live is refused now too, and was not put back everywhere: {error}"
        if verdict.retriable:
            mine.forget(number)
            return RuntimeUnavailable(
                f"{asked.release.title} cannot be tried in {asked.service}", found=verdict.reason, fix=fix
            )
        mine.mark(new.revision.with_outcome("failed", verdict.reason), "failed")
        return RolloutFailed(
            f"{asked.release.title} did not become ready in {asked.service}",
            found=" ".join(verdict.reason.split())[:600],
            fix=fix,
        )

    def _repair(self, live: Snapshot, snapshots: list[Snapshot]) -> Revision:
        asked, mine = self.asked, self.mine
        self._keep_credentials()
        if changed := mine.drift(live.objects):
            self.say(f"revision {live.revision.number}: {changed}")
            mine.claim(live.objects)
            mine.apply(live.objects)
        verdict = self._wait(live, asked.ready_seconds)
        if not verdict.done:
            raise RolloutFailed(
                f"{asked.release.title} is live in {asked.service}, but cannot be repaired",
                found=verdict.reason[:600],
            )
        revision = live.revision.model_copy(update={"pinned": asked.pinned})
        self._settle(replace(live, revision=revision), snapshots)
        return revision

    def _keep_credentials(self) -> None:
        if self.auth:
            self.mine.keep_credentials(self.asked.image, self.auth)


def spec_of(rollout: Rollout, objects: Sequence[KubeObject]) -> str:
    """The digest of everything that makes a release run as it does; the image counts by digest."""
    parts = rollout.model_dump(
        mode="json", exclude={"service", "release", "image", "mount", "cause", "run", "pinned", "expect"}
    )
    parts["manifests"] = parts.pop("objects")  # as it is called in the specs that clusters remember
    return sha256(json.dumps([rollout.release.image, parts, list(objects)], sort_keys=True).encode())

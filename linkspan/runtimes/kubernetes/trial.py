"""A release tried in the cluster before it is rolled out: one pod of it, apart from its service.

What a node fetches for it, it has for the rollout. The other nodes on which the live release runs begin to
fetch at the same time.
"""

import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx

from linkspan.errors import (
    LinkspanError,
    RegistryError,
    RolloutFailed,
    RuntimeDenied,
    RuntimeUnavailable,
    SmokeFailed,
)
from linkspan.progress import Say
from linkspan.runtimes.asking import ask, probe
from linkspan.runtimes.base import KubeObject, Later, Rollout
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.client import Conflict, Refused
from linkspan.runtimes.kubernetes.containers import PASSES, PATIENCE, PULL_SECONDS, Stage, Trouble
from linkspan.runtimes.kubernetes.fields import refusal_words
from linkspan.runtimes.kubernetes.forward import http_through
from linkspan.runtimes.kubernetes.marks import Snapshot, live_of
from linkspan.runtimes.kubernetes.nodes import check_mounts
from linkspan.runtimes.kubernetes.objects import listed
from linkspan.runtimes.kubernetes.render import render
from linkspan.runtimes.kubernetes.service import KubeService
from linkspan.runtimes.kubernetes.trial_pod import (
    copy_for,
    fetching_pod,
    needed,
    policies,
    read_by,
    same_content,
    the_container,
    trial_pod,
)
from linkspan.runtimes.kubernetes.tried import taken, tried
from linkspan.runtimes.readiness import Observed, Readiness, readiness

_LOOK_SECONDS = 0.1
_ELSEWHERE = 'Where that cannot be mended, set trial="engine" in the block of the runtime'
_NODES = 32
"""Nodes at most that fetch a release while it is tried; others do when they get a pod of it."""


@dataclass(frozen=True)
class KubeTrial:
    """A Trial (linkspan/runtimes/base.py) in a cluster."""

    mine: KubeService
    pod: str
    container: str
    http: httpx.Client

    def verdict(self, ready_path: str) -> Readiness:
        seen = tried(self.mine, self.pod, self.container)
        if not seen.runs(self.container):
            # A container that ended is started again, as it would be in a rollout.
            trouble = seen.trouble(stuck=0)
            passes, reason = (trouble.passes, trouble.reason) if trouble else (True, "")
            return Readiness(done=False, retriable=passes, reason=reason)
        return readiness(Observed(self.pod, "running", probe=probe(self.http, ready_path)), ready_path)

    def log(self) -> str:
        cluster, namespace = self.mine.cluster, self.mine.namespace
        return (cluster.log(namespace, self.pod, self.container, previous=False) or "").strip()

    def ask(self, method: str, path: str, *, json: Any = None, seconds: float) -> httpx.Response:
        try:
            return ask(self.http, method, path, json=json, seconds=seconds)
        except httpx.HTTPError:
            tried(self.mine, self.pod, self.container)  # if it was taken away, that is why
            raise


@contextmanager
def trial(
    mine: KubeService, rollout: Rollout, auth: Mapping[str, str] | None, *, say: Say, later: Later
) -> Iterator[KubeTrial]:
    """As Runtime.trial. `auth` is what the nodes pull with. Raises Refused too."""
    if mine.ensure_namespace():
        say(f"made namespace {mine.namespace}")
    if auth:
        mine.keep_credentials(rollout.image, auth)
    rendered = render(
        rollout.objects or default_objects(),
        rollout,
        namespace=mine.namespace,
        revision=0,
        at=datetime.now(UTC),
        pull_secret=auth is not None,
        ours=not rollout.objects,
    )
    name = f"{rollout.service}-trial-{uuid.uuid4().hex[:8]}"
    attempt = _Attempt(mine, rollout, rendered, name, say)
    try:
        attempt.start(live_of(mine.snapshots()))
        connect = partial(mine.cluster.forward, mine.namespace, name, rollout.port)
        with http_through(connect, rollout.port) as http:
            yield KubeTrial(mine, name, attempt.container, http)
    except BaseException as error:
        with suppress(LinkspanError, Refused):  # the first error says more, and the next trial tidies up
            attempt.undo(refused=isinstance(error, SmokeFailed))
        raise
    # Soon, for the rollout may need its room. What the other nodes fetch they need.
    later(partial(mine.remove_trials, name, fetching=False, grace_seconds=1))


@dataclass(frozen=True)
class _Attempt:
    """The pod of a trial, called `name`, and what is made for it (`made`)."""

    mine: KubeService
    rollout: Rollout
    rendered: Sequence[KubeObject]
    name: str
    say: Say
    made: list[KubeObject] = field(default_factory=list)

    @property
    def container(self) -> str:
        return str(the_container(self.rendered)["name"])

    def start(self, live: Snapshot | None) -> None:
        """Return when the app's container has been started. Raises as Runtime.trial does."""
        mine = self.mine
        mine.remove_trials()  # of those that were killed: no two releases of a service are tried at once
        there = list(zip(self.rendered, mine.claim(self.rendered), strict=True))
        for each in needed(self.rendered):
            if (each, None) in there:
                mine.cluster.apply(each)
                self.made.append(each)
        # What is live reads and obeys what it did before, until the rollout; the pod does so with copies.
        changed = [each for each, found in there if found is not None and not same_content(found, each)]
        sources = [*read_by(changed, self.rendered), *policies(there)]
        copies = {f"{self.name}-{at}": each for at, each in enumerate(sources)}
        self.say(f"smoke test: starting pod {self.name} in namespace {mine.namespace}")
        pod = self._created(trial_pod(self.rendered, self.name, copies))
        if self.rollout.mount:
            check_mounts(listed(pod, "spec", "volumes"), self.rollout.release)
        for name, each in copies.items():
            mine.cluster.create(copy_for(pod, each, name))
        try:
            mine.cluster.patch(pod, {"spec": {"schedulingGates": None}})
        except Conflict:
            raise taken(f"{self.name} was removed by somebody else") from None
        self._wait(mine.nodes_of(live.revision.number) if live else set())

    def undo(self, *, refused: bool) -> None:
        """Remove the pods; of a release that was refused also what was missing before them."""
        self.mine.remove_trials(self.name)
        if refused:
            rolled_out = [each for snapshot in self.mine.snapshots() for each in snapshot.objects]
            self.mine.prune(self.made, rolled_out)

    def _created(self, pod: KubeObject) -> KubeObject:
        began = time.monotonic()
        while True:
            try:
                return self.mine.cluster.create(pod)
            except (Refused, Conflict) as error:  # two that count for one quota at once are in conflict
                said = refusal_words(str(error))
                if "exceeded quota" in said:
                    raise self._no_room(said) from None
                if not PASSES.search(said) or time.monotonic() - began > PATIENCE:
                    raise self._untried(f"its pod is refused: {said}") from None
                time.sleep(_LOOK_SECONDS)

    def _wait(self, nodes: set[str]) -> None:
        """Wait until the container runs; meanwhile the `nodes` that the pod is not on fetch the release."""
        start = began = time.monotonic()
        stuck: float | None = None
        said = ""
        fetching = False
        while True:
            now = time.monotonic()
            seen = tried(self.mine, self.name, self.container)
            if seen.node and not fetching:
                self._fetch(nodes - {seen.node})
                fetching = True
            if seen.runs(self.container):
                return
            trouble = seen.trouble(stuck=math.inf)
            if trouble and not trouble.passes:
                stuck = now if stuck is None else stuck
                trouble = seen.trouble(stuck=now - stuck)
            else:
                stuck = None
            if trouble and not trouble.passes:
                raise self._stopped(trouble)
            reason = trouble.reason if trouble else ""
            if seen.prepares and now - began < PULL_SECONDS:
                start = now
            if now - start > self.rollout.ready_seconds:
                raise self._late(trouble)
            if reason != said:
                self.say(f"smoke test: {reason}")
            said = reason
            time.sleep(_LOOK_SECONDS)

    def _fetch(self, nodes: set[str]) -> None:
        """Have the nodes fetch it. Nothing depends on that, so whatever is in the way is only said."""
        chosen = sorted(nodes)[:_NODES]
        try:
            for at, node in enumerate(chosen):
                self.mine.cluster.create(fetching_pod(self.rendered, f"{self.name}-fetch-{at}", node))
        except (Refused, Conflict, RuntimeDenied, RuntimeUnavailable) as error:
            self.say(f"smoke test: other nodes fetch the release only in the rollout: {error}")
        else:
            if chosen:
                self.say(f"smoke test: other nodes begin to fetch the release: {len(chosen)}")

    def _stopped(self, trouble: Trouble) -> LinkspanError:
        """The error for what will not pass by itself."""
        if trouble.stage in {Stage.SCHEDULED, Stage.TAKEN}:
            return self._no_room(trouble.reason)
        if trouble.stage is Stage.PULLED:
            return RegistryError(f"{self.rollout.release.title} cannot be fetched", found=trouble.reason)
        if trouble.stage is Stage.CONFIGURED:  # it may lack what only the rollout changes
            return self._untried(trouble.reason)
        return self._failed(trouble.reason)

    def _late(self, trouble: Trouble | None) -> LinkspanError:
        """The error for what might have passed, and did not in time."""
        reason = f"not started after {self.rollout.ready_seconds:g} s: {trouble.reason if trouble else ''}"
        if trouble is None or trouble.stage in {Stage.CRASHED, Stage.RUN, Stage.STARTING, Stage.PROBED}:
            return self._failed(reason.rstrip(": "))
        if trouble.stage is Stage.PULLED:
            what = f"{self.rollout.release.title} cannot be fetched now"
            return RuntimeUnavailable(what, found=trouble.reason)
        return self._no_room(reason) if trouble.stage is Stage.SCHEDULED else self._untried(reason)

    def _failed(self, reason: str) -> SmokeFailed:
        return SmokeFailed(
            f"{self.rollout.service.app} did not start in its smoke test",
            found=reason,
            fix="Mend what is said above and release again",
        )

    def _untried(self, reason: str) -> RolloutFailed:
        """The error for what says nothing about the release: it was not tried."""
        return RolloutFailed(
            f"{self.rollout.release.title} cannot be smoke-tested in the cluster",
            found=reason,
            fix=_ELSEWHERE,
        )

    def _no_room(self, reason: str) -> RuntimeUnavailable:
        return RuntimeUnavailable(
            f"the cluster has no room for the smoke test of {self.rollout.release.title}",
            found=reason,
            fix=f"Make room for one pod more than the service has, or try again when there is. {_ELSEWHERE}",
        )

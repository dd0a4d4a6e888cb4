"""Waits for a revision: looks again and again until it is done, cannot be, or time is up."""

import time

from linkspan.errors import RuntimeDenied, RuntimeUnavailable
from linkspan.progress import Say
from linkspan.runtimes.kubernetes.fields import is_leaving
from linkspan.runtimes.kubernetes.readiness import is_preparing, pulls_fail, rollout_readiness
from linkspan.runtimes.kubernetes.revision import Snapshot
from linkspan.runtimes.kubernetes.service import KubeService
from linkspan.runtimes.readiness import Readiness

_LOOK_SECONDS = 0.5
_PULL_SECONDS = 1800
"""A node may take this long to pull; the time to become ready starts after that."""
_DENIED_SECONDS = 30
_AWAY_SECONDS = 300
"""The API server may be away this long while a rollout waits."""


def wait(mine: KubeService, new: Snapshot, seconds: float, say: Say) -> Readiness:
    """Whether it became ready within so many seconds, and why not. An API server that is away is waited for.

    Raises RuntimeUnavailable and RuntimeDenied if that lasts too long.
    """
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
            deleted = observed.deployment is None or is_leaving(observed.deployment)
            # Whoever deleted it while it was rolled out has said nothing about the release.
            return verdict._replace(retriable=verdict.retriable or (deleted and not verdict.done))
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

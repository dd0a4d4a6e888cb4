"""Rollouts of the test service, for the conformance suite."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from linkspan.nouns import Commit, ModelFile, Release, Revision, sha256
from linkspan.processes import listens
from linkspan.runtimes.base import Rollout, Runtime, Service
from tests.values import model_of
from tests.waiting import until

FOR_MEMORY = r"(ran out of memory and|it) was killed.* \(its limit is 32 ?MiB?\)"
"""Why one ends that takes more than 32 MiB; a busy engine may never hear the kernel's reason."""


def quiet(_: str) -> None: ...


def release(app: str, version: str, image: str) -> Release:
    digest = sha256(version.encode()).removeprefix("sha256:")
    return Release(
        app=app,
        commit=Commit(
            sha=digest[:40],
            tree=digest[:40],
            author="Ada <ada@example.org>",
            subject=f"Change to {version}",
            committed_at=datetime(2026, 1, 1, tzinfo=UTC),
        ),
        model=model_of([ModelFile(path="a", size=1, sha256=digest)], name="digits", version=version),
        image=image,
    )


def rollout(service: Service, version: str, image: str, **options: Any) -> Rollout:
    """A rollout; `image` is a reference by digest, or an image ID, which is a digest too."""
    values: dict[str, Any] = {
        "cause": "test",
        "ready_seconds": 200.0,
        "request_seconds": 60.0,  # only what hangs takes so long
        "memory": "64m",
        "cpu": "10m",
    }
    return Rollout(
        service=service,
        release=release(service.app, version, image.rpartition("@")[2]),
        image=image,
        **(values | options),
    )


def version_of(body: bytes) -> str:
    """The version that the test service's answer names. Raises ValueError for any other body."""
    try:
        return str(json.loads(body)["version"])
    except (KeyError, TypeError):
        raise ValueError(f"not an answer of the test service: {body[:100]!r}") from None


def outcomes(revisions: Sequence[Revision]) -> list[tuple[int, str, str]]:
    """Their numbers, versions and outcomes."""
    return [(revision.number, revision.release.model.version, revision.outcome) for revision in revisions]


def reached(runtime: Runtime, service: Service) -> str:
    """The service's address, once it takes connections.

    Where it has just been made, the nodes of a cluster open its port within about a second.
    """
    url = runtime.url(service)
    wait_for_port(url)
    return url


def wait_for_port(url: str) -> None:
    """Wait until something takes connections there."""
    where = urlsplit(url)
    until(lambda: listens(where.port or 80, where.hostname or ""), what=f"a connection to {url}")

"""Rollouts of the test service, for the conformance suite."""

import json
from datetime import UTC, datetime
from typing import Any

from linkspan.nouns import Commit, Model, ModelFile, Release, sha256
from linkspan.runtimes.base import Rollout, Service


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
        model=Model(name="digits", version=version, files=(ModelFile(path="a", size=1, sha256=digest),)),
        image=image,
    )


def rollout(service: Service, version: str, image: str, **options: Any) -> Rollout:
    """A rollout with short times; `image` is a reference by digest, or an image ID, which is a digest too."""
    values: dict[str, Any] = {
        "cause": "test",
        "ready_seconds": 60.0,
        "request_seconds": 5.0,
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

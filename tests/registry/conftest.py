"""A fake registry for a test, and the repositories that the conformance suite runs against."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from linkspan.registry.client import Registry
from linkspan.registry.settings import RegistrySettings
from tests.registry.fake import PASSWORD, USER, FakeRegistry


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


OpenFake = Callable[..., Registry]


@pytest.fixture
def open_fake(fake: FakeRegistry) -> Iterator[OpenFake]:
    """A client of the fake's repository `team/app`; keyword arguments are the settings'. It never sleeps."""
    opened: list[Registry] = []

    def open_it(**changes: Any) -> Registry:  # any field of the settings
        fields = {"host": fake.host, "username": USER, "password": SecretStr(PASSWORD), "prefix": "team"}
        settings = RegistrySettings.model_validate(fields | changes)
        client = Registry(
            settings.host,
            "team/app",
            settings.rule(),
            trusted_realms=settings.trusted_realms,
            sleep=lambda _: None,
        )
        opened.append(client)
        return client

    yield open_it
    for client in opened:
        client.close()


REAL = {"distribution": "registry", "distribution3": "registry3"}
"""Parameters that stand for fixtures."""


@pytest.fixture(
    params=[
        "fake-none",
        "fake-basic",
        "fake-token",
        *(pytest.param(name, marks=pytest.mark.needs(fixture)) for name, fixture in REAL.items()),
    ]
)
def settings(request: pytest.FixtureRequest) -> RegistrySettings:
    """Settings of every registry that we have; those of the fake with each kind of login."""
    if request.param in REAL:
        running: RegistrySettings = request.getfixturevalue(REAL[request.param]).settings()
        return running
    fake: FakeRegistry = request.getfixturevalue("fake")
    fake.ways.auth = request.param.removeprefix("fake-")
    return RegistrySettings(host=fake.host, username=USER, password=SecretStr(PASSWORD))

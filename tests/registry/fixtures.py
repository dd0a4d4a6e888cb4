"""A fake registry for a test, and clients of it."""

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

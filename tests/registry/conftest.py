"""The repositories that the conformance suite runs against."""

import pytest
from pydantic import SecretStr

from linkspan.registry.settings import RegistrySettings
from tests.registry.fake import PASSWORD, USER, FakeRegistry

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

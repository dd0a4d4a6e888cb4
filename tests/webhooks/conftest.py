"""What the rooms' tests have in common: an inbox, the fake of a Prefect server, the receiver's stage."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkspan.webhooks.inbox.durable import Inbox
from tests.webhooks.prefect_fake import PrefectFake, prefect_fake
from tests.webhooks.stage import Stage


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    with Inbox(tmp_path / "inbox") as inbox:
        yield inbox


@pytest.fixture
def fake() -> Iterator[PrefectFake]:
    with prefect_fake() as fake:
        yield fake


@pytest.fixture
def stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Stage]:
    caplog.set_level(logging.INFO)
    stage = Stage(tmp_path / "inbox", caplog)
    yield stage
    stage.close()

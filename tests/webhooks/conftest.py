"""The stage of the receiver's tests."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webhooks.stage import Stage


@pytest.fixture
def stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Stage]:
    caplog.set_level(logging.INFO)
    stage = Stage(tmp_path / "inbox", caplog)
    yield stage
    stage.close()

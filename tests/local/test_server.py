"""`prefect server start`, whose garbage is collected in a thread of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.prefect_server import ROOT

pytestmark = pytest.mark.slow


def stands_still(folder: Path, *arguments: str) -> float:
    command = [sys.executable, "-m", "tests.local.standstill", str(folder), *arguments]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    return float(said.stdout)


def test_the_loop_does_not_wait_for_a_connection_that_waits_for_the_loop(tmp_path: Path) -> None:
    assert stands_still(tmp_path, "100", "aside") < 50


def test_without_that_it_does(tmp_path: Path) -> None:
    """When this fails, Python or SQLite has changed, and linkspan/local/server.py can go."""
    assert stands_still(tmp_path, "30") > 20

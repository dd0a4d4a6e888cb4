"""The sample app's own tests, as Linkspan runs them inside the image."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"


@pytest.mark.slow
def test_own_tests_pass() -> None:
    command = tomllib.loads((APP / "linkspan.toml").read_text())["test"]["command"]
    assert command[0] == "python"
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=APP, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nOK" in done.stderr
    assert "Ran 0 tests" not in done.stderr

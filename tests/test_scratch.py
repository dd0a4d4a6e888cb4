"""Folders that a killed process leaves are removed by the next one, and only those."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from linkspan.scratch import scratch

HOLDER = """
import sys
from linkspan.scratch import scratch
with scratch("test") as place:
    (place / "half").write_text("of a model")
    print(place, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def age(folder: Path) -> None:
    os.utime(folder, (0, 0))


def test_gone_when_the_block_ends(place: Path) -> None:
    with scratch("test") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").mkdir()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(place: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        folder = Path(holder.stdout.readline().strip())
        age(folder)
        with scratch("test"):
            assert (folder / "half").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (folder / "half").exists()
    with scratch("test"):
        assert not folder.exists()


def test_links_and_young_folders_stay(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").write_text("x")
    age(elsewhere)
    (place / "linkspan-scratch-link").symlink_to(elsewhere)
    young = place / "linkspan-scratch-young"
    young.mkdir()
    future = time.time() + 3600  # it stays young, however slow the machine is
    os.utime(young, (future, future))
    with scratch("test"):
        assert young.exists()
    assert (elsewhere / "kept").exists()

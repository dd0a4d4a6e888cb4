"""Whoever starts a run tells the workers here, and nobody where there is none."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from linkspan.local.wake import WAKE, listen, wake


def heard(line: socket.socket) -> bool:
    """Whether it was told since it was asked last."""
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False


_KILLED = """
import sys
from pathlib import Path
from linkspan.local.wake import listen
with listen(Path(sys.argv[1])):
    print("listens", flush=True)
    sys.stdin.read()
"""


def killed_worker(folder: Path) -> None:
    """One that could not tidy up."""
    command = [sys.executable, "-c", _KILLED, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == "listens\n"
        worker.kill()


# The interpreter may be where only its owner gets to, so it becomes somebody else when it has all it needs.
_NOBODY = """
import ctypes, os, sys
from linkspan.local.wake import wake
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
PR_SET_DUMPABLE = 4  # linux/prctl.h; as whatever that user starts
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)
wake()
"""


def wake_as_another_user(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", _NOBODY], env={**os.environ, WAKE: str(folder)}, check=True)


def test_a_worker_hears_it_wherever_its_folder_is(tmp_path: Path) -> None:
    folder = tmp_path / ("a-folder-whose-name-is-long-" * 7)
    with listen(folder) as line:
        assert not heard(line)
        wake({WAKE: str(folder)})
        assert heard(line)


def test_without_a_name_it_is_the_one_of_linkspan_up(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with listen(tmp_path / "home" / "warm") as line:
        wake({"LINKSPAN_HOME": str(tmp_path / "home")})
        assert heard(line)


def test_all_workers_of_a_folder_hear_it_and_go_on_hearing_it_when_one_ends(tmp_path: Path) -> None:
    told = {WAKE: str(tmp_path)}
    with listen(tmp_path) as first:
        with listen(tmp_path) as second:
            wake(told)
            assert heard(first)
            assert heard(second)
        wake(told)
        assert heard(first)
        killed_worker(tmp_path)
        wake(told)
        assert heard(first)


def test_nothing_happens_where_nobody_listens(tmp_path: Path) -> None:
    wake({WAKE: str(tmp_path / "nowhere")})
    with listen(tmp_path):
        pass
    wake({WAKE: str(tmp_path)})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_worker_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [tmp_path / "socket", tmp_path / "wake-me", tmp_path / "wake-of-another-machine"]
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    for each in others:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.bind(each.name)
    killed_worker(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(others) + 1
    with listen(tmp_path) as line:
        wake({WAKE: str(tmp_path)})
        assert heard(line)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_nobody_waits_for_a_worker_that_does_not_listen(tmp_path: Path) -> None:
    with listen(tmp_path), listen(tmp_path) as other:
        for _ in range(1_000):  # more than a socket holds
            wake({WAKE: str(tmp_path)})
            assert heard(other)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_worker_hears_other_users_where_they_may_enter_its_folder() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with listen(folder) as line:
            wake_as_another_user(folder)
            assert not heard(line)
            folder.chmod(0o755)
            wake_as_another_user(folder)
            assert heard(line)
            [mine] = folder.iterdir()
            mine.chmod(0o600)
            killed_worker(folder)
            wake_as_another_user(folder)  # refused by one, and may not remove what the other has left
            assert not heard(line)
            assert len(list(folder.iterdir())) == 2
            wake({WAKE: name})
            assert heard(line)

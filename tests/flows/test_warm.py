"""The process that runs are forked from: what it declines, and that its forks are like the program."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.warm import may_fork
from linkspan.local import tether
from linkspan.processes import Child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux only")
ENGINE = [sys.executable, "-ISs", tether.__file__, sys.executable, *tether.ENGINE]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("a-folder-" + "whose-name-is-long-" * 6)
    child = Child("warm", [sys.executable, "-m", "flows.warm", str(folder)], log=folder / "log")
    try:
        child.wait_until((folder / "socket").exists, seconds=60)
        yield folder
    finally:
        child.stop()


def run(folder: Path, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A run without an ID: the engine says so and ends with 1."""
    return subprocess.run(
        ENGINE,
        env={**os.environ, tether.WARM: str(folder), "PREFECT__FLOW_RUN_ID": "none", **env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def forks(folder: Path) -> int:
    """How many children the process has ever had, from the times of its waited-for ones."""
    [pid] = [
        int(each.name)
        for each in Path("/proc").glob("[0-9]*")
        if str(folder) in _words(each) and "flows.warm" in _words(each)
    ]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[8])  # cminflt: page faults of children that were waited for (proc(5))


def _words(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text().split("\0")
    except OSError:
        return []


def test_the_stand_in_has_the_output_and_the_exit_code_of_the_run(warm: Path, tmp_path: Path) -> None:
    before = forks(warm)
    begin = time.monotonic()
    found = run(warm, tmp_path)
    forked = time.monotonic() - begin
    assert found.returncode == 1
    assert "Invalid flow run id" in found.stderr
    assert forks(warm) > before

    cold = run(tmp_path, tmp_path)  # nobody listens there
    assert (cold.returncode, "Invalid flow run id" in cold.stderr) == (1, True)
    print(f"a run starts in {forked:.2f} s")  # noqa: T201 a figure for whoever looks


@pytest.mark.parametrize("variable", ["PYTHONPATH", "LD_PRELOAD", "PYTHONDEVMODE"])
def test_what_only_a_new_interpreter_reads_gets_one(warm: Path, tmp_path: Path, variable: str) -> None:
    before = forks(warm)
    found = run(warm, tmp_path, **{variable: "" if variable == "LD_PRELOAD" else "/nowhere"})
    assert (found.returncode, "Invalid flow run id" in found.stderr) == (1, True)
    assert forks(warm) == before


def test_another_interpreter_is_not_ours() -> None:
    asked = {"program": sys.executable, "env": dict(os.environ)}
    assert may_fork(asked)
    assert not may_fork({**asked, "program": "/usr/bin/python3"})


def test_another_program_is_never_forked(warm: Path) -> None:
    before = forks(warm)
    command = [*ENGINE[:4], "-c", "print(6 * 7)"]
    env = {**os.environ, tether.WARM: str(warm)}
    assert subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout == "42\n"
    assert forks(warm) == before


def test_nonsense_on_the_socket_harms_nobody(warm: Path, tmp_path: Path) -> None:
    for said in (b"", b"{}", b"[]", b"\xff" * 70_000, b'{"env": 1, "cwd": 2}'):
        place = os.open(warm, os.O_PATH)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(f"/proc/self/fd/{place}/socket")
            if said:
                line.send(said)
        os.close(place)
    before = forks(warm)
    assert run(warm, tmp_path).returncode == 1
    assert forks(warm) > before

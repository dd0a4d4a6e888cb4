"""The process that runs are forked from: what it declines, and that its forks are like the program."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkspan.local import tether
from linkspan.processes import Child
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux only"),
    pytest.mark.slow,
]
ENGINE = [sys.executable, "-ISs", tether.__file__, sys.executable, *tether.ENGINE]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("a-folder-" + "whose-name-is-long-" * 6)
    child = Child("warm", [sys.executable, "-m", "flows.warm", str(folder)], log=folder / "log")
    try:
        child.wait_until((folder / "socket").exists, seconds=600)
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
        timeout=240,
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
    """In a process of its own: this one may have threads, and is then never forked."""
    program = (
        "import os, sys; from flows.warm import may_fork;"
        "asked = {'program': sys.executable, 'env': dict(os.environ)};"
        "print(may_fork(asked), may_fork({**asked, 'program': '/usr/bin/python3'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


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


# What becomes a run here does what its environment says, instead of asking a Prefect server for a flow.
SCRIPT = """
import os, runpy, sys
sys.path.insert(0, os.getcwd())
import edited
import flows.warm
flows.warm.PRELOADED = ()
runpy.run_module = lambda *_args, **_more: exec(os.environ["DO"])
flows.warm.main()
"""


class Stage:
    """A process that forks, of a test's own, in `folder`."""

    def __init__(self, folder: Path, script: str = SCRIPT) -> None:
        self.folder = folder
        (folder / "edited.py").write_text("VALUE = 1\n")
        self.child = Child(
            "warm", [sys.executable, "-c", script, str(folder)], log=folder / "log", cwd=folder
        )
        self.runs: list[subprocess.Popen[str]] = []
        self.child.wait_until((folder / "socket").exists, seconds=600)

    def run(self, do: str = "print('forked', flush=True)") -> subprocess.Popen[str]:
        started = subprocess.Popen(
            ENGINE,
            env={**os.environ, tether.WARM: str(self.folder), "PREFECT__FLOW_RUN_ID": "none", "DO": do},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.runs.append(started)
        return started

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child.pid, signal.SIGCONT)
        for each in self.runs:
            each.kill()
            each.communicate()
        self.child.stop()

    def pids(self, run: subprocess.Popen[str], count: int) -> list[int]:
        assert run.stdout
        return [int(run.stdout.readline()) for _ in range(count)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with contextlib.closing(Stage(tmp_path)) as made:
        yield made


def _ended(pid: int) -> bool:
    """A zombie has ended too: whoever inherited it need not have waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_run_starts_once_though_the_process_it_is_forked_from_is_stopped(stage: Stage) -> None:
    assert stage.run().communicate(timeout=240)[0] == "forked\n"
    os.kill(stage.child.pid, signal.SIGSTOP)
    said, _ = stage.run("open('twice', 'w')").communicate(timeout=240)
    assert "Invalid flow run id" in said, "the slow way"
    os.kill(stage.child.pid, signal.SIGCONT)
    # Answered after what was asked for meanwhile.
    assert stage.run().communicate(timeout=240)[0] == "forked\n"
    assert not (stage.folder / "twice").exists()


def test_code_that_was_changed_is_not_run_from_memory(stage: Stage) -> None:
    (stage.folder / "edited.py").write_text("VALUE = 1234\n")
    assert "Invalid flow run id" in stage.run().communicate(timeout=240)[0]


def test_what_cannot_be_imported_is_named_and_left_to_the_runs(tmp_path: Path) -> None:
    """A module that a newer Prefect does not have, a flow that somebody is editing."""
    (tmp_path / "half_written.py").write_text("from edited import NOT_YET\n")
    script = SCRIPT.replace("PRELOADED = ()", "PRELOADED = ('prefect.moved', 'half_written', 'json.tool')")
    with contextlib.closing(Stage(tmp_path, script)) as stage:
        said = (tmp_path / "log").read_text()
        assert "prefect.moved is not imported beforehand: ModuleNotFoundError: No module named" in said
        assert "half_written is not imported beforehand: ImportError: cannot import name 'NOT_YET'" in said
        assert "json.tool" not in said
        (tmp_path / "half_written.py").write_text("print('mended', flush=True)\n")
        mended = f"sys.path.append({str(tmp_path)!r}); import half_written"
        assert stage.run(mended).communicate(timeout=240)[0] == "mended\n"


_FAMILY = """
import subprocess, time, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
print(subprocess.Popen(["sleep", "3600"], stdout=subprocess.DEVNULL).pid, flush=True)
"""


@pytest.mark.parametrize("how", ["it ends", "its stand-in is killed", "all is stopped"])
def test_nothing_that_a_run_started_is_left(stage: Stage, how: str) -> None:
    run = stage.run(_FAMILY + ("" if how == "it ends" else "time.sleep(3600)"))
    pids = stage.pids(run, 2)
    if how == "its stand-in is killed":
        run.kill()
    elif how == "all is stopped":
        stage.child.stop(grace=240)
    until(lambda: all(_ended(pid) for pid in pids), what="the end of its processes")
    assert stage.child.running == (how != "all is stopped")


def test_more_at_once_than_there_are_descriptors_for_start_the_slow_way(stage: Stage) -> None:
    used = len(list(Path(f"/proc/{stage.child.pid}/fd").iterdir()))
    before = resource.prlimit(stage.child.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(stage.child.pid, resource.RLIMIT_NOFILE, (used + 1, before[1]))
    assert "Invalid flow run id" in stage.run().communicate(timeout=240)[0]
    assert stage.child.running
    resource.prlimit(stage.child.pid, resource.RLIMIT_NOFILE, before)
    assert stage.run().communicate(timeout=240)[0] == "forked\n"

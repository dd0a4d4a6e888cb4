"""Runs flows in forks of a process that has imported all they need: a run starts in 0.1 s instead of 2 s.

`python -m flows.warm FOLDER` listens on FOLDER/socket. Each connection is one run: linkspan/local/tether.py
sends the environment, the working directory and where output goes; here a child is forked, becomes
`python -m prefect.engine`, and its exit code is the answer. Two promises:
- Whoever asked and is gone has its run killed, with all it started; when this process is told to end, its
  runs are killed too, and when it just dies, they get SIGTERM.
- Whatever the child may not take over from here is declined, and the run starts the slow way.

Forking is safe because nothing here has a second thread; that is checked before each fork.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import runpy
import selectors
import signal
import socket
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from linkspan.local.tether import PR_SET_PDEATHSIG, WARM
from linkspan.tls import trusted

PRELOADED = (
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.runner",
    "prefect.client.orchestration",
    "flows.app_stream",
    "flows.model_stream",
    "flows.build_and_deploy",
    "flows.poll",
    # What these import only where it is used, which is in each run.
    "anyio._backends._asyncio",
    "anyio.streams.tls",
    "prefect.utilities.visualization",
    "rich._emoji_codes",
)
_REQUEST = 1 << 20
_SOON = "socket.soon"
# Descriptors that a run takes here are four: what is open for all of them stays below the limit.
_PART_FOR_RUNS = 8
# Only of interest to the process that was started with them.
_OWN = frozenset({WARM, "PYTHONHASHSEED", "PYTHONSTARTUP", "PYTHONUNBUFFERED"})


@dataclass
class Job:
    """A run: what was asked for, by whom, and the child that does it."""

    env: dict[str, str]
    cwd: str
    output: list[int]
    line: socket.socket
    parent: int
    pid: int = 0
    handle: int = -1


class Forks:
    """Takes jobs from a socket and forks a child for each. `serve` returns in the child only."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._select = selectors.DefaultSelector()
        self._select.register(listener, selectors.EVENT_READ, self._accept)
        self._jobs: list[Job] = []
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = sys.maxsize if limit == resource.RLIM_INFINITY else limit // _PART_FOR_RUNS
        self._files = files_of_modules()

    def serve(self) -> Job:
        """Answer for ever; in a child that was just forked, its job."""
        while True:
            for key, _ in self._select.select():
                # What was ready too may be gone since: a job has two descriptors, and either may end it.
                if self._select.get_map().get(key.fd) is key:
                    mine: Job | None = key.data()
                    if mine:
                        return mine

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it has gone again, or there are far too many
            line, _ = self._listener.accept()
            line.send(b"ready")
            self._select.register(line, selectors.EVENT_READ, partial(self._begin, line))

    def _begin(self, line: socket.socket) -> Job | None:
        """Fork for what is asked on a new connection. Returns in the child; None in the parent."""
        self._select.unregister(line)
        try:
            data, output, flags, _ = socket.recv_fds(line, _REQUEST, 2)
            asked = json.loads(data)
            job = Job(env=asked["env"], cwd=asked["cwd"], output=output, line=line, parent=os.getpid())
        except (OSError, ValueError, LookupError, TypeError):
            line.close()
            return None
        cut = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(output) != 2
        full = len(self._jobs) >= self._most
        try:
            fit = not cut and not full and may_fork(asked) and not changed(self._files)
            job.pid = os.fork() if fit else -1
        except OSError:  # no memory, no process, no descriptor for one more
            job.pid = -1
        if job.pid < 0:
            with contextlib.suppress(OSError):
                line.send(b"declined")
            self._forget(job)
            return None
        if job.pid == 0:
            self._leave()
            return job
        job.handle = os.pidfd_open(job.pid)
        self._jobs.append(job)
        self._select.register(line, selectors.EVENT_READ, partial(self._heard, job))
        self._select.register(job.handle, selectors.EVENT_READ, partial(self._end, job))
        return None

    def _heard(self, job: Job) -> None:
        """A signal to pass on, or the end of whoever asked."""
        try:
            said = job.line.recv(64)
        except OSError:
            said = b""
        if not said:
            self._select.unregister(job.line)
            _kill_all_of(job)
        else:
            signal.pidfd_send_signal(job.handle, int(said))

    def _end(self, job: Job) -> None:
        """The child has ended: its exit code is the answer, negative for a signal."""
        _kill_all_of(job)  # before it is waited for: until then nobody else has its id
        _, status = os.waitpid(job.pid, 0)
        with contextlib.suppress(OSError):
            job.line.send(str(os.waitstatus_to_exitcode(status)).encode())
        with contextlib.suppress(KeyError):
            self._select.unregister(job.line)
        self._select.unregister(job.handle)
        self._jobs.remove(job)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        job.line.close()
        for each in (*job.output, *([job.handle] if job.handle >= 0 else [])):
            os.close(each)

    def _leave(self) -> None:
        """Close what is the parent's: others must see the end of a connection when it ends there."""
        for key in self._select.get_map().values():
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._select.close()
        for other in self._jobs:
            self._forget(other)
        self._jobs = []

    def kill(self) -> None:
        """SIGKILL to all runs and what they started."""
        for job in self._jobs:
            _kill_all_of(job)


def may_fork(asked: dict[str, Any]) -> bool:
    """Whether a fork of this process is what the program would have been.

    Not for another interpreter, and not if a variable counts that Python reads only when it starts.
    """
    given = {name: value for name, value in asked["env"].items() if _counts(name)}
    ours = {name: value for name, value in os.environ.items() if _counts(name)}
    alone = len(list(Path("/proc/self/task").iterdir())) == 1
    return asked.get("program") == sys.executable and given == ours and alone


def files_of_modules() -> dict[str, tuple[int, int]]:
    """Time and size of the file of every module there is: a fork has the code that these files had."""
    named = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file: _stamp(file) for file in named if file}


def changed(files: dict[str, tuple[int, int]]) -> bool:
    """Whether one of these files is not what it was: a new version was installed, or somebody edits flows."""
    return any(_stamp(file) != before for file, before in files.items())


def _stamp(file: str) -> tuple[int, int]:
    try:
        status = os.stat(file)  # noqa: PTH116 - two thousand of them, for every run
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def become(job: Job) -> None:
    """Be `python -m prefect.engine`, with the job's environment, folder and output."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The parent's end is the run's end. It may have come before this line.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != job.parent:
        os._exit(128 + signal.SIGTERM)
    os.setsid()  # a Ctrl-C in the terminal of `linkspan up` is for that alone
    try:
        job.line.send(b"started")
    except OSError:  # whoever asked has waited too long, and started the run the slow way
        os._exit(128 + signal.SIGTERM)
    for number, output in zip((1, 2), job.output, strict=True):
        os.dup2(output, number)
        os.close(output)
    job.line.close()
    os.environ.clear()
    os.environ.update({name: value for name, value in job.env.items() if name != WARM})
    os.chdir(job.cwd)
    sys.path[0] = job.cwd  # as for `python -m`
    sys.argv[1:] = []
    random.seed()  # else all children would jitter alike
    gc.unfreeze()

    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
    warnings.filterwarnings("ignore", message=".*found in sys.modules.*", category=RuntimeWarning)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def listen(folder: Path) -> socket.socket:
    """A socket in a folder that only its owner may enter; it is there under its own name after `announce`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("socket", _SOON):
        (folder / name).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{place}/{_SOON}")
    finally:
        os.close(place)
    listener.listen(64)
    return listener


def announce(folder: Path) -> None:
    """From now on whoever sees the socket's file can connect, and is served."""
    (folder / _SOON).rename(folder / "socket")


def preload() -> None:
    """Import what runs need. What cannot be imported is left to the runs: those that need it say so."""
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 a flow that somebody edits, or a module that Prefect has moved
            sys.stderr.write(f"{name} is not imported beforehand: {type(error).__name__}: {error}\n")


def main() -> None:
    preload()
    trusted()  # read once for all runs
    gc.collect()
    gc.freeze()  # pages that are never written stay shared
    folder = Path(sys.argv[1])
    forks = Forks(listen(folder))
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit())
    announce(folder)
    try:
        job = forks.serve()
    finally:
        forks.kill()  # a child has none
    become(job)


def _kill_all_of(job: Job) -> None:
    """The child's session, in which is what it started; the child alone if it has not made one yet."""
    try:
        os.killpg(job.pid, signal.SIGKILL)
    except ProcessLookupError:
        signal.pidfd_send_signal(job.handle, signal.SIGKILL)


def _counts(name: str) -> bool:
    return name.startswith(("PYTHON", "LD_", "MALLOC_")) and name not in _OWN


if __name__ == "__main__":
    main()

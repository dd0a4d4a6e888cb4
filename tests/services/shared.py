"""What several test processes use at once: the first starts it.

What the machine has once (engine, cluster) is stopped by its last user, if tests started it. What belongs to
this run of the tests is stopped at its end, by the process that the others are workers of.
"""

import fcntl
import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from linkspan.local import leftovers

PIDS = "pids"


@contextmanager
def shared(users: Path, *, start: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """With a part that is used by all who hold a share of the lock `users`.

    `start` finds it running, or starts it and notes that, one process at a time; the last one calls `stop`,
    for what was noted.
    """
    users.parent.mkdir(parents=True, exist_ok=True)
    with users.open("w") as lock, users.with_suffix(".starting").open("w") as starting:
        fcntl.flock(lock, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        start()
        fcntl.flock(starting, fcntl.LOCK_UN)
        try:
            yield
        finally:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another one uses it
            else:
                stop()


def for_others_too() -> dict[str, str]:
    """The environment of what other runs use too: it does not end with this one."""
    return {name: value for name, value in os.environ.items() if name != leftovers.MARK}


def of_this_run(run: Path, name: str, start: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What `start` said of a service that all processes of this run use: the first one of them calls it.

    It gets a folder for what the service keeps, and says where it is and, in `pids`, the processes to stop;
    each leads a session of its own. `run` is the run's folder.
    """
    note = run / f"{name}.json"
    with note.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            # A new one each time: what did not start for one process may do so for the next.
            home = run / f"{name}-{os.urandom(4).hex()}"
            home.mkdir()
            said = start(home)
            note.touch(mode=0o600)  # passwords are in it
            note.write_text(json.dumps(said))
            return said
        found: dict[str, Any] = json.loads(note.read_text())
        return found


def stop_those_of(run: Path) -> None:
    """Stop all services of a run, the last first."""
    notes = sorted(run.glob("*.json"), key=lambda note: note.stat().st_mtime_ns, reverse=True)
    for note in notes:
        for pid in reversed(json.loads(note.read_text())[PIDS]):
            _stop(pid)


def _stop(pid: int) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            for how, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
                os.killpg(pid, how)
                if select.select([handle], [], [], seconds)[0]:
                    return
        finally:
            os.close(handle)

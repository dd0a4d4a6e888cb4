"""Processes that a killed `linkspan up` left behind, found by a mark in their environment.

Neither a name nor a process id says whose a process is: names are shared and ids are used again. The
environment a process was started with says it, and its children inherit it.
"""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

MARK = "LINKSPAN_LOCAL_MARK"


def end_all(mark: str) -> int:
    """SIGKILL every process of ours that carries the mark, wait until they are gone, return how many.

    They have lost their supervisor, so nothing they would do in an orderly stop is worth waiting for: runs
    are put back into their queues by `recovery.requeue_orphans`. Without /proc (not Linux) none is found.
    """
    handles: list[int] = []
    pids: set[int] = set()  # one that takes its time to go is found again
    try:
        # Children may be forked while we look; look again until there are none.
        while found := find(mark):
            pids.update(found)
            for pid in found:
                with suppress(ProcessLookupError):
                    handles.append(os.pidfd_open(pid))
                    # The handle pins the process: if it has the mark still, it is no later namesake.
                    if _carries(pid, mark):
                        signal.pidfd_send_signal(handles[-1], signal.SIGKILL)
            for handle in handles:
                select.select([handle], [], [], 5)
        return len(pids)
    finally:
        for handle in handles:
            os.close(handle)


def find(mark: str) -> list[int]:
    """Process IDs of all that carry the mark, but for this process."""
    pids = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if pid != os.getpid() and _carries(pid, mark)]


def _carries(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False

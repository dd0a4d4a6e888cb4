"""The processes of the cluster: each starts apart from the others, is known by a file, and ends by its id."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from tests.cluster.places import LOGS, PARTS, ClusterError

PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


class Process(NamedTuple):
    """A process is still the same if its id started at the same time (in clock ticks after boot)."""

    pid: int
    started: str


def start(name: str, command: list[str]) -> None:
    """Start a part that outlives this process; its output goes to its log. No part uses an HTTP proxy."""
    LOGS.mkdir(parents=True, exist_ok=True)
    PARTS.mkdir(parents=True, exist_ok=True)
    env = {key: value for key, value in os.environ.items() if key.lower() not in PROXIES}
    env["CONTAINER_LOGS"] = str(LOGS / "containers")
    with _log(name).open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PARTS,
            env=env,
            start_new_session=True,
        )
    saved = {"command": command, "pid": process.pid, "started": _started(process.pid)}
    temporary = PARTS / f"{name}.new"
    temporary.write_text(json.dumps(saved))
    temporary.rename(PARTS / f"{name}.json")


def start_again(name: str) -> None:
    """Start a part that was stopped, just as it was started before."""
    start(name, json.loads((PARTS / f"{name}.json").read_text())["command"])


def names() -> list[str]:
    """The parts that were started since the cluster was."""
    return sorted(path.stem for path in PARTS.glob("*.json"))


def running(name: str) -> bool:
    """Whether it was started and lives."""
    process = _process(name)
    return process is not None and _started(process.pid) == process.started


def stop(name: str, number: signal.Signals = signal.SIGKILL, *, seconds: float = 20) -> None:
    """End a part and wait until it is gone; after `seconds` it is killed."""
    process = _process(name)
    end = time.monotonic() + seconds
    while process is not None and running(name):
        os.kill(process.pid, number)
        if not wait_gone([process.pid], max(0.0, end - time.monotonic())):
            number = signal.SIGKILL


def wait_gone(pids: list[int], seconds: float) -> bool:
    """Whether all of them ended in time; their parent may still have to hear of it."""
    end = time.monotonic() + seconds
    while any(_started(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def tail(name: str, lines: int = 8) -> str:
    """The last lines of a part's log."""
    log = _log(name)
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def check_running() -> None:
    """Raises ClusterError with the log of a part that ended."""
    for name in names():
        if not running(name):
            raise ClusterError(f"{name} ended. Its last lines:\n{tail(name)}")


def _log(name: str) -> Path:
    return LOGS / f"{name}.log"


def _process(name: str) -> Process | None:
    path = PARTS / f"{name}.json"
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    return Process(saved["pid"], saved["started"])


def _started(pid: int) -> str:
    """When it started, or nothing if it is dead (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]

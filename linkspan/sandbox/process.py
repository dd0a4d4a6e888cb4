"""Running a program on bytes that nobody has vetted: no network, no secrets, no leave to write.

A model comes from outside and is parsed by a large C++ library. The strongest confinement that the machine
allows is used, and the result says which one it was. What every kind has: a clean environment, no inherited
files, limits on processor time, memory and writing, and an end after a time-out.
"""

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from linkspan.errors import ConfigError
from linkspan.places import home_folder

_ENTRY = Path(__file__).with_name("entry.py")
_OUTPUT_LIMIT = 1 << 20

# From strong to weak: with a mount namespace come an own /proc (without it, the environment of our other
# processes could be read there), hidden secrets and a read-only file system.
_NAMESPACES = (
    ("namespaces", ("--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")),
    ("user namespaces", ("-r", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")),
    ("network namespace", ("--net",)),
    ("user and network namespace", ("-r", "--net")),
)


class Outcome(NamedTuple):
    """How a confined program ended. `code` is negative for a signal; None after a time-out."""

    code: int | None
    stdout: str
    stderr: str
    sandbox: str

    @property
    def how(self) -> str:
        """How it ended, for people: `was killed by SIGSEGV`."""
        if self.code is None:
            return "took too long"
        number = -self.code if self.code < 0 else self.code - 128
        try:
            return f"was killed by {signal.Signals(number).name}"
        except ValueError:
            return f"ended with code {self.code}"


def run_confined(
    script: Path, arguments: list[str], *, cwd: Path, timeout: float, memory: int, forced: str = ""
) -> Outcome:
    """Run a Python script that needs nothing of ours, in `cwd`, for at most `timeout` seconds.

    `memory` is its address space in bytes. `forced` picks a kind of confinement by name, for tests. Raises
    ConfigError when the interpreter cannot be started.
    """
    kind, prefix = _confinement(forced)
    limits = {
        "script": str(script.resolve()),
        "arguments": arguments,
        "cpu_seconds": int(timeout * (os.cpu_count() or 1)) + 10,
        "memory": memory,
        "block_sockets": not prefix,
        "mounts": "--mount-proc" in prefix,
        "hide": [str(path) for path in _secret_places()],
    }
    command = [*prefix, sys.executable, "-I", "-B", str(_ENTRY), json.dumps(limits)]
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "ORT_DISABLE_TELEMETRY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"the sandbox cannot be started: {error.strerror}", found=command[0]) from None
    code: int | None
    try:
        out, err = process.communicate(timeout=timeout)
        code = process.returncode
    except subprocess.TimeoutExpired:
        code = None
        _kill(process.pid)
        out, err = process.communicate()
    finally:
        _kill(process.pid)
    return Outcome(code, _text(out), _text(err), kind)


@cache
def _confinement(forced: str) -> tuple[str, tuple[str, ...]]:
    """The strongest kind of confinement that works here: its name, and the command that makes it."""
    for kind, flags in _NAMESPACES:
        command = ("unshare", *flags)
        if forced in {"", kind} and _works(command):
            return kind, command
    if forced not in {"", "socket block"}:
        raise ConfigError(f"no {forced} on this machine", fix="Allow unshare, or run as root")
    return "socket block", ()


def _works(command: tuple[str, ...]) -> bool:
    try:
        # Patient: what seems not to work now is done without for the life of this process.
        return (
            subprocess.run([*command, "true"], capture_output=True, timeout=60, check=False).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _secret_places() -> list[Path]:
    """Files and folders where credentials usually lie and that no model needs."""
    below_home = (
        ".aws .azure .boto .config .docker .git-credentials .gnupg .kube .linkspan .netrc .npmrc .pgpass"
        " .prefect .pypirc .ssh"
    )
    # Linkspan's own has the server's password, and its database with everybody's.
    places = [home_folder(), *(Path.home() / name for name in below_home.split())]
    places += [
        Path(path) for path in ("/run/secrets", "/var/run/secrets", "/etc/linkspan", "/var/run/docker.sock")
    ]
    # Hiding a folder that holds the interpreter or its libraries would stop the program itself.
    needed = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), _ENTRY]
    return [
        place.resolve()
        for place in places
        if place.exists() and not any(path.is_relative_to(place.resolve()) for path in needed)
    ]


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has ended, which is what was wanted


def _text(data: bytes) -> str:
    return data[-_OUTPUT_LIMIT:].decode(errors="replace")

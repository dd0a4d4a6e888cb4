"""Tells the workers on this machine that a run was asked for, so that nobody waits for their next look.

A datagram without content on a Unix socket, and only a hint: it may get lost, and then a worker finds the run
a second later, at its next look. Each worker has a socket of its own in the folder, and all of them are told:
one of them takes the run.
"""

import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from linkspan.local.home import Home

WAKE = "LINKSPAN_WAKE"
"""Names the folder of the sockets in the environment of a worker, and so of its runs."""

WAKES = sys.platform == "linux"
"""Where it is not, nobody is told, and workers look once a second."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SOON = ".soon"


def wake(environment: Mapping[str, str] | None = None) -> None:
    """Wake the workers that WAKE tells of, else those of `linkspan up`; nothing happens where none are."""
    if not WAKES:
        return
    env = os.environ if environment is None else environment
    folder = Path(env[WAKE]) if env.get(WAKE) else Home.default(env).warm
    with (
        suppress(OSError),  # no folder, or one that is not for us
        _short(folder) as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line,
    ):
        for path in place.glob(f"{_ours()}*"):
            if path.suffix != _SOON:
                _tell(line, path)


def _tell(line: socket.socket, path: Path) -> None:
    with suppress(OSError):  # has just gone, is not for us, or has not yet heard the last one: it looks soon
        try:
            line.sendto(b"", str(path))
        except ConnectionRefusedError:  # its worker was killed
            path.unlink()


@contextmanager
def listen(folder: Path) -> Iterator[socket.socket]:
    """The socket of one worker, until the block ends. Raises OSError.

    Makes the folder, but none that it is in. Whoever may enter the folder may wake.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    with (
        _short(folder) as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line,
    ):
        path = place / f"{_ours()}{secrets.token_hex(8)}"
        soon = path.with_suffix(_SOON)
        # Its file is there a moment before it listens, and would be taken for a dead one's.
        line.bind(str(soon))
        soon.chmod(0o666)
        soon.rename(path)
        try:
            yield line
        finally:
            path.unlink(missing_ok=True)


def _ours() -> str:
    """How names begin of sockets that this very machine has: a folder on a network has those of others too.

    To this one they would seem dead.
    """
    return f"wake-{_BOOT.read_text()[:8]}-"


@contextmanager
def _short(folder: Path) -> Iterator[Path]:
    """The folder by a path that leaves room: a socket's is short (unix(7)), and a home's need not be."""
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{place}")
    finally:
        os.close(place)

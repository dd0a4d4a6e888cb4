"""Tells the worker on this machine that a run was asked for, so that nobody waits for its next look.

A datagram without content on a Unix socket, and only a hint: it may get lost, and then the worker finds the
run a second later, at its next look.
"""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from linkspan.local.home import Home

WAKE = "LINKSPAN_WAKE"
"""Names the folder of the socket in the environment of a worker, and so of its runs."""

WAKES = sys.platform == "linux"
"""Where it is not, nobody is told, and the worker looks once a second."""

_NAME = "wake"


def wake(environment: Mapping[str, str] | None = None) -> None:
    """Wake the worker that WAKE tells of, else that of `linkspan up`; nothing happens where there is none."""
    if not WAKES:
        return
    env = os.environ if environment is None else environment
    folder = Path(env[WAKE]) if env.get(WAKE) else Home.default(env).warm
    with (
        suppress(OSError),  # nobody listens, or has not yet heard the last one: either way it looks soon
        _below(folder) as path,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line,
    ):
        line.sendto(b"", path)


def listen(folder: Path) -> socket.socket:
    """The socket for one worker. One that a dead worker left is replaced, and so is a living one's.

    Makes the folder, but none that it is in. Raises OSError.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / _NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with _below(folder) as path:
        listener.bind(path)
    return listener


@contextmanager
def _below(folder: Path) -> Iterator[str]:
    """The socket's path by way of its folder: a socket's is short (unix(7)), and a home's need not be."""
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{place}/{_NAME}"
    finally:
        os.close(place)

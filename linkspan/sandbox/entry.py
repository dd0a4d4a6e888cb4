"""The first thing that runs inside the sandbox: it gives up what it does not need, then runs the script.

Standard library only; `python -I entry.py '<JSON>'`. See process.py for the fields.
"""

import ctypes
import json
import resource
import runpy
import sys
from pathlib import Path
from typing import Any

_MS_BIND = 4096
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_PR_SET_NO_NEW_PRIVS = 38
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture since Linux 5.12
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1


def main(fields: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if fields["mounts"]:
        for place in fields["hide"]:
            _hide(libc, place)
        _read_only(libc)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),  # no byte may be written to any file; pipes are not files
        (resource.RLIMIT_CPU, fields["cpu_seconds"]),
        (resource.RLIMIT_AS, fields["memory"]),
    ):
        _, most = resource.getrlimit(limit)
        allowed = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (allowed, allowed))
    if fields["block_sockets"]:
        sys.addaudithook(_no_network)
    sys.argv = [fields["script"], *fields["arguments"]]
    runpy.run_path(fields["script"], run_name="__main__")


def _hide(libc: ctypes.CDLL, place: str) -> None:
    """Put an empty folder, or an empty file, over a place; ours alone, in this mount namespace."""
    target = place.encode()
    if Path(place).is_dir():
        done = libc.mount(b"none", target, b"tmpfs", _MS_NOSUID_NODEV_NOEXEC, b"size=4k")
    else:
        done = libc.mount(b"/dev/null", target, None, _MS_BIND, None)
    if done != 0:
        sys.exit(f"sandbox: cannot hide {place}: error {ctypes.get_errno()}")


def _read_only(libc: ctypes.CDLL) -> None:
    """Make every mount read-only. Before Linux 5.12 the limit on written bytes alone must do."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        b"/",
        _AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )


def _no_network(event: str, _: tuple[Any, ...]) -> None:
    """Where no namespace can be had. It holds back Python, not machine code: the result says so."""
    if event.startswith("socket.") or event in {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}:
        raise PermissionError(f"{event} is not allowed in the sandbox")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

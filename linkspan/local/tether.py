"""Run a program that gets SIGTERM as soon as the process that started it is gone, however it died.

Run as a file (`python -ISs tether.py program …`), not as a module: it must start in milliseconds, because
every flow run goes through it. It becomes the program, so its process id is the program's.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its parent, then become the program in the arguments."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died just before
            raise SystemExit(143)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()

"""Run a program that gets SIGTERM as soon as the process that started it is gone, however it died.

Run as a file (`python -ISs tether.py program …`), not as a module: it must start in milliseconds, because
every flow run goes through it. It becomes the program, so its process id is the program's.

Only a flow run may do without a program of its own: `python -m prefect.engine` spends two seconds on imports.
If LINKSPAN_WARM names the folder of flows/warm.py, the run happens there, in a fork of a process that has
them, and this process stands for it: it passes signals on, and ends as the run ends. When anything about that
is not as it should be, the program is started as ever.
"""

import ctypes
import os
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WARM = "LINKSPAN_WARM"
ENGINE = ["-m", "prefect.engine"]
# A warm process that lives takes milliseconds, on a machine that is busy now and then seconds.
_PATIENCE = 30.0
_PASSED_ON = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Tie this process to its parent, then become the program in the arguments."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died just before
            raise SystemExit(143)
        if sys.argv[2:] == ENGINE and (folder := os.environ.get(WARM)):
            _stand_for(folder)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is the point


def _stand_for(folder: str) -> None:
    """Have the run done in a warm process, and end as it ends; return if that cannot be."""
    import json

    cwd = os.getcwd()  # noqa: PTH109 - pathlib takes longer to import than all the rest
    request = json.dumps({"program": sys.argv[1], "env": dict(os.environ), "cwd": cwd}).encode()
    try:
        # Of a folder, because the path of a socket is short (unix(7)) and that of a home need not be.
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.settimeout(_PATIENCE)
        line.connect(f"/proc/self/fd/{place}/socket")
        # Only then: descriptors that nobody takes out of a queue would keep the run's output open.
        line.recv(64)
        socket.send_fds(line, [request], [1, 2])
        try:
            said = line.recv(64)
        except TimeoutError:
            # From here on a fork cannot say that it has started, and ends. One that said so before, runs.
            line.shutdown(socket.SHUT_RD)
            said = line.recv(64)
        if said != b"started":
            return
        line.settimeout(None)
    except OSError:
        return
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _frame: _tell(line, number))
    try:
        answer = line.recv(64)
    except OSError:
        answer = b""
    # No answer: the warm process was killed, and the run with it.
    code = int(answer or -signal.SIGKILL)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def _tell(line: socket.socket, number: int) -> None:
    try:
        line.send(str(number).encode())
    except OSError:
        return  # it has ended


if __name__ == "__main__":
    main()

"""How much memory a step takes at its peak: what its processes have resident, added up, 50 times a second.

What is over between two looks may not be seen. Engines run all along and are used by it: of theirs counts
what they have more than when the step began.
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_PAUSE = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Looks from its beginning to its end; `peak` is in bytes. Processes may be added meanwhile."""

    def __init__(self, engines: Iterable[int]) -> None:
        self._engines = list(engines)
        self._clients: set[int] = set()
        self._before = _resident(self._engines)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = 0

    def add(self, pid: int) -> None:
        """A process that does the step, and all that it starts."""
        self._clients.add(pid)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            engines = max(_resident(self._engines) - self._before, 0)
            self.peak = max(self.peak, engines + _resident(list(self._clients)))
            if self._over.wait(_PAUSE):
                return


def _resident(roots: Iterable[int]) -> int:
    seen: set[int] = set()
    left = list(roots)
    total = 0
    while left:
        if (pid := left.pop()) in seen:
            continue
        seen.add(pid)
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
        except (OSError, IndexError):
            continue  # it has ended
    return total

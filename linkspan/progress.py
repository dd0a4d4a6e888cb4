"""How work tells people what it does, and how far bytes on their way have come."""

import time
from collections.abc import Callable

Say = Callable[[str], None]
"""Takes a line for people about what is going on."""

Progress = Callable[[int], None]
"""Called with the number of further bytes that passed."""


class Percent:
    """Bytes that passed, as 0 to 100 of `total` bytes: counted by one thread, read by another."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def add(self, count: int) -> None:
        """Another `count` bytes passed."""
        self.done += count

    @property
    def value(self) -> float:
        return 100.0 if self.total == 0 else min(100.0, 100.0 * self.done / self.total)


class Transfer:
    """Progress of what moves at once, such as layers: bytes, rate and time left, said every few seconds."""

    def __init__(self, verb: str, say: Say, *, every: float = 3.0) -> None:
        self._verb = verb
        self._say = say
        self._every = every
        self._start = time.monotonic()
        self._next = self._start + every
        self._parts: dict[str, tuple[int, int]] = {}

    def update(self, part: str, current: int, total: int) -> None:
        """`part` has come to `current` of `total` bytes; a total of 0 is unknown."""
        self._parts[part] = (current, max(total, current))
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            whole = sum(total for _, total in self._parts.values())
            self._say(f"{self._verb} {moved(self.bytes, whole, now - self._start)}")

    @property
    def bytes(self) -> int:
        """Bytes of all parts so far."""
        return sum(current for current, _ in self._parts.values())


def moved(done: int, total: int, seconds: float) -> str:
    """`1.2 GB of 4.0 GB, 240.0 MB/s, 12 s left`, after `seconds`."""
    said = f"{size(done)} of {size(total)}"
    if not done or seconds <= 0:
        return said
    rate = done / seconds
    left = round(max(total - done, 0) / rate)
    minutes = f"{left // 60} min " if left >= 60 else ""
    return f"{said}, {size(rate)}/s, {minutes}{left % 60} s left"


def size(count: float) -> str:
    """Bytes for people: `312 B`, `4.1 KB`, `1.2 GB` (powers of 1000, as registries bill them)."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

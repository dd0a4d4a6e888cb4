"""How work tells people what it does, and how far a stream of known size has come."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes a line for people about what is going on."""

Progress = Callable[[int], None]
"""Called with the number of further bytes that passed."""


class Percent:
    """Bytes that passed, as 0 to 100 of `total` bytes: counted by one thread, read by another."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        """Another `count` bytes passed."""
        self._done += count

    @property
    def value(self) -> float:
        return 100.0 if self._total == 0 else min(100.0, 100.0 * self._done / self._total)

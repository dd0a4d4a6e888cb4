"""How far a stream of known size has come: counted by one thread, read by another."""


class Percent:
    """Bytes that passed, as 0 to 100 of `total` bytes."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        """Another `count` bytes passed."""
        self._done += count

    @property
    def value(self) -> float:
        return 100.0 if self._total == 0 else min(100.0, 100.0 * self._done / self._total)

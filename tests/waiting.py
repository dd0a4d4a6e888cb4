"""Tests wait for what they test, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(done: Callable[[], T], seconds: float = 600, *, what: str = "it") -> T:
    """Wait until something is so, and return what `done` said; fail if it is not by then, and say what.

    What takes longer is asked for less often: asking costs the server whose answer is waited for.
    """
    end, pause = time.monotonic() + seconds, 0.02
    while not (found := done()):
        assert time.monotonic() < end, f"not after {seconds:g} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.5)
    return found


class Patience:
    """Lasts while what is looked at changes: a series may take long, a standstill is a fault."""

    def __init__(self, seconds: float = 600) -> None:
        self.seconds = seconds
        self.seen: object = None
        self.since = time.monotonic()

    def look(self, seen: object, what: str) -> None:
        """Fail if it was the same for too long, and say what."""
        if seen != self.seen:
            self.seen, self.since = seen, time.monotonic()
        assert time.monotonic() < self.since + self.seconds, f"nothing new for {self.seconds:g} s: {what}"

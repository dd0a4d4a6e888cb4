"""Tests wait for what they test, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(done: Callable[[], T], seconds: float = 120, *, what: str = "it") -> T:
    """Wait until something is so, and return what `done` said; fail if it is not by then, and say what.

    What takes longer is asked for less often: asking costs the server whose answer is waited for.
    """
    end, pause = time.monotonic() + seconds, 0.02
    while not (found := done()):
        assert time.monotonic() < end, f"not after {seconds:g} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.5)
    return found

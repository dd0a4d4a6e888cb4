"""Tests wait for what they test, never for a time."""

import time
from collections.abc import Callable


def until(done: Callable[[], object], seconds: float = 120, *, what: str = "it") -> None:
    """Wait until something is so; fail if it is not by then, and say what.

    What takes longer is asked for less often: asking costs the server whose answer is waited for.
    """
    end, pause = time.monotonic() + seconds, 0.02
    while not done():
        assert time.monotonic() < end, f"not after {seconds:g} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.5)

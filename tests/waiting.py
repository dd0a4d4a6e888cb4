"""Tests wait for what they test, never for a time."""

import time
from collections.abc import Callable


def until(done: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so; fail if it is not by then."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not after {seconds:g} s"
        time.sleep(0.02)

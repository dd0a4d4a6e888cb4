"""What the commands print: one line for each thing done, with the seconds it took."""

import sys
import time


def say(text: str, *, end: str = "\n") -> None:
    """Show a line at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


class Clock:
    """Lines with the seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def say(self, text: str, *, end: str = "\n") -> None:
        """Show a line with the seconds in front."""
        say(f"  {self.seconds:5.1f} s  {text}", end=end)

"""What several test processes use at once: the first starts it, and the last one stops what tests started."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared(users: Path, *, start: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """With a part that is used by all who hold a share of the lock `users`.

    `start` finds it running, or starts it and notes that; the last one calls `stop`, for what was noted.
    """
    users.parent.mkdir(parents=True, exist_ok=True)
    with users.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        start()
        try:
            yield
        finally:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another one uses it
            else:
                stop()

"""One call for each of many things, a few at a time: most of each is waiting for a network or a disk."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from linkspan.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

# Fewer than the ten connections that the clouds' clients keep; further ones would be made anew each time.
AT_ONCE = 8


class _StoppedError(Exception):
    """Interrupts an upload on its way, because another one failed."""


def several(
    work: Callable[[T, Progress], R], items: Sequence[T], progress: Progress | None = None
) -> list[R]:
    """What `work` returns for each item, in order; `progress` is called by one thread at a time.

    The first failure, or Ctrl-C, comes out when nothing runs any more: nothing further is begun, and what
    runs is interrupted where it next counts progress.
    """
    results: dict[int, R] = {}
    failures: list[BaseException] = []
    todo = deque(enumerate(items))
    counting, stop = threading.Lock(), threading.Event()

    def count(more: int) -> None:
        if stop.is_set():
            raise _StoppedError
        if progress:
            with counting:
                progress(more)

    def run() -> None:
        while todo and not stop.is_set():
            try:
                number, item = todo.popleft()
            except IndexError:  # another thread was quicker
                return
            try:
                results[number] = work(item, count)
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                failures.append(error)
                stop.set()

    threads = min(AT_ONCE, len(items))
    if threads < 2:
        run()  # here, where Ctrl-C interrupts it at once
    else:
        with ThreadPoolExecutor(threads) as pool:
            try:
                wait([pool.submit(run) for _ in range(threads)])
            finally:
                stop.set()
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(items))]


def one_then_several(
    work: Callable[[T, Progress], R], items: Sequence[T], progress: Progress | None = None
) -> list[R]:
    """As `several`, but the first alone: it makes the client that all use, and is the only one to be refused
    by a service that refuses all.
    """
    return several(work, items[:1], progress) + several(work, items[1:], progress)

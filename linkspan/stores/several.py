"""One call for each of many things, a few at a time: most of each is waiting for a network or a disk."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
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

    if len(items) < 2:
        run()  # here, where Ctrl-C interrupts it at once
    else:
        _in_threads(run, min(AT_ONCE, len(items)), stop)
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


def _in_threads(run: Callable[[], None], count: int, stop: threading.Event) -> None:
    """`run` in `count` threads, until all have ended, also when Ctrl-C comes meanwhile.

    Neither an executor nor Thread.join can be interrupted safely: one keeps locks that its threads need, the
    other takes a thread for dead that is not (CPython #90882).
    """
    begun: list[bool] = []
    ended: list[bool] = []
    wake: SimpleQueue[bool] = SimpleQueue()

    def thread() -> None:
        begun.append(True)
        try:
            run()
        finally:
            ended.append(True)
            wake.put(True)

    def wait(for_all: bool) -> None:
        while len(ended) < (count if for_all else len(begun)):
            # Not for ever: a signal that comes just before the wait is seen only after it.
            with contextlib.suppress(Empty):
                wake.get(timeout=0.2)

    try:
        for _ in range(count):
            threading.Thread(target=thread).start()
        wait(for_all=True)
    finally:
        # A thread that begins only now finds this and does nothing.
        stop.set()
        wait(for_all=False)

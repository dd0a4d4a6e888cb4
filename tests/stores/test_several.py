"""One call for each of many things: in order, bounded, and over together."""

import itertools
import signal
import threading
from collections.abc import Callable

import pytest

from linkspan.errors import StoreUnavailable
from linkspan.progress import Progress
from linkspan.stores.several import AT_ONCE, several
from tests.waiting import until


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_results_come_in_order(count: int) -> None:
    assert several(lambda number, _: number * 2, range(count)) == [number * 2 for number in range(count)]


def test_so_many_run_at_once_and_no_more() -> None:
    together = threading.Barrier(AT_ONCE)
    running, most = itertools.count(), []
    lock = threading.Lock()
    now: set[int] = set()

    def work(number: int, _: Progress) -> None:
        with lock:
            now.add(number)
            most.append(len(now))
        if next(running) < AT_ONCE:
            together.wait(240)
        with lock:
            now.remove(number)

    several(work, range(10 * AT_ONCE))
    assert max(most) == AT_ONCE


def test_progress_is_called_by_one_thread_at_a_time() -> None:
    busy = threading.Lock()
    passed: list[int] = []

    def progress(more: int) -> None:
        assert busy.acquire(blocking=False)
        passed.append(more)
        busy.release()

    def work(_: int, count: Progress) -> None:
        for _ in range(100):
            count(1)

    several(work, range(200), progress)
    assert sum(passed) == 20_000


class Endless:
    """Work that counts progress for ever, in all threads; `last` is called by the last of them to begin."""

    def __init__(self, last: Callable[[], None]) -> None:
        self.last = last
        self.begun: list[int] = []
        self.running: set[int] = set()
        self._together = threading.Barrier(AT_ONCE)

    def work(self, number: int, count: Progress) -> None:
        self.begun.append(number)
        self.running.add(number)
        try:
            if self._together.wait(240) == 0:
                self.last()
            while True:
                count(1)
        finally:
            self.running.remove(number)


def test_after_a_failure_nothing_begins_and_what_runs_is_interrupted() -> None:
    def fail() -> None:
        raise StoreUnavailable("pulled the plug")

    endless, before = Endless(fail), threading.active_count()
    with pytest.raises(StoreUnavailable, match="pulled the plug"):
        several(endless.work, range(10_000))
    assert sorted(endless.begun) == list(range(AT_ONCE))
    assert not endless.running
    until(lambda: threading.active_count() <= before, what="the threads' end")


def test_ctrl_c_ends_all() -> None:
    # Often: it may come while the threads are being started, waited for, or between two waits.
    for _ in range(50):
        endless = Endless(lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
        before = threading.active_count()
        with pytest.raises(KeyboardInterrupt):
            several(endless.work, range(10_000))
        assert not endless.running
        until(lambda: threading.active_count() <= before, what="the threads' end")  # noqa: B023

"""Ranges that are read at once: the same bytes whatever breaks, in order, bounded, and over together."""

import math
import random
import threading
from collections.abc import Callable, Generator, Iterator

import pytest

from linkspan.errors import LinkspanError, ObjectChanged, StoreDenied, StoreError, StoreUnavailable
from linkspan.stores.base import CHUNK, StoredObject
from linkspan.stores.ranges import AT_ONCE, read_ranges
from tests.waiting import until

RANGE = 1000
LONG = 240
Answer = Callable[[int, bytes], Iterator[bytes]]


def _whole(_: int, data: bytes) -> Iterator[bytes]:
    yield data


class Service:
    """An object of `count` ranges. `answer(offset, bytes)` gives, or does not, what was asked for."""

    def __init__(self, count: int, answer: Answer = _whole, *, size: int = 0) -> None:
        self.data = random.Random(count).randbytes(size or count * RANGE - RANGE // 2)
        self.obj = StoredObject(key="weights", size=len(self.data), pin="etag:one")
        self.asked: list[int] = []
        self.threads: set[str] = set()
        self.most = self.under_way = 0
        self.enough = math.inf  # no connection is quick enough
        self._answer = answer
        self._lock = threading.Lock()

    def fetch(self, offset: int, length: int) -> Iterator[bytes]:
        with self._lock:
            self.asked.append(offset)
            self.threads.add(threading.current_thread().name)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            yield from self._answer(offset, self.data[offset : offset + length])
        finally:
            with self._lock:
                self.under_way -= 1

    def read(self, *, attempts: int = 3, pause: float = 0.0) -> Generator[bytes, None, None]:
        chunks = read_ranges(
            self.obj, self.fetch, range_size=RANGE, attempts=attempts, pause=pause, enough=self.enough
        )
        assert isinstance(chunks, Generator)
        return chunks


def _nobody_reads() -> bool:
    return "reads a range" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert _nobody_reads()
    service = Service(AT_ONCE + 1, _together(AT_ONCE - 1))
    assert b"".join(service.read()) == service.data, "as many may be read at once as before"


def _together(count: int) -> Answer:
    """Nothing but the first two ranges, each alone, is answered before `count` others were asked for."""
    barrier = threading.Barrier(count)

    def answer(offset: int, data: bytes) -> Iterator[bytes]:
        if offset > RANGE:
            barrier.wait(LONG)
        yield data

    return answer


@pytest.mark.parametrize("seed", range(60))
def test_whatever_breaks_the_bytes_are_the_same(seed: int) -> None:
    chance = random.Random(seed)
    lock = threading.Lock()

    def answer(_: int, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            with lock:
                size, fate = chance.randrange(1, 400), chance.random()
            # Something new came, so that no number of breaks in a row is too many.
            if at and fate < 0.2:
                raise StoreUnavailable("broken")
            if at and fate < 0.3:
                return  # ends early
            yield data[at : at + size]
            yield b""
            at += size

    service = Service(chance.randrange(1, 20), answer)
    assert b"".join(service.read(attempts=2)) == service.data
    assert service.most <= AT_ONCE


def test_chunks_are_cut() -> None:
    service = Service(1, size=5 * CHUNK + 1)
    chunks = list(
        read_ranges(service.obj, service.fetch, range_size=2 * CHUNK + 7, attempts=1, enough=math.inf)
    )
    assert b"".join(chunks) == service.data
    assert max(map(len, chunks)) <= CHUNK
    assert service.asked[0] == 0
    assert sorted(service.asked) == [0, 2 * CHUNK + 7, 4 * CHUNK + 14]


@pytest.mark.parametrize("size", [0, 1, RANGE])
def test_a_small_object_takes_no_thread(size: int) -> None:
    service = Service(1)
    service.data = service.data[:1].ljust(size, b"x")[:size]
    service.obj = service.obj.model_copy(update={"size": size})
    assert b"".join(service.read()) == service.data
    assert service.threads <= {threading.current_thread().name}
    assert len(service.asked) == (1 if size else 0)


def test_so_many_are_read_at_once_and_no_more() -> None:
    service = Service(4 * AT_ONCE + 2, _together(AT_ONCE))
    assert b"".join(service.read()) == service.data
    assert service.most == AT_ONCE


def test_what_comes_sooner_waits_for_its_turn() -> None:
    others = threading.Semaphore(0)

    def answer(offset: int, data: bytes) -> Iterator[bytes]:
        yield data[:1]
        if offset == RANGE:
            for _ in range(AT_ONCE - 1):
                assert others.acquire(timeout=LONG)
        yield data[1:]
        if offset > RANGE:
            others.release()

    service = Service(10, answer)
    assert b"".join(service.read()) == service.data


def test_it_holds_so_many_ranges_and_asks_for_no_more() -> None:
    service = Service(20)
    chunks = service.read()
    next(chunks)
    next(chunks)
    until(lambda: len(service.asked) == 1 + AT_ONCE and service.under_way == 0, what="all that may be held")
    rest = iter(chunks)
    got = next(rest)
    assert len(got) == RANGE
    until(lambda: len(service.asked) == AT_ONCE + 2, what="one more, for the one that is given out")
    until(lambda: service.under_way == 0, what="its end")
    assert len(service.asked) == AT_ONCE + 2
    chunks.close()
    assert len(service.asked) == AT_ONCE + 2


@pytest.mark.parametrize("after", [0, 1, 3, 11])
def test_whoever_stops_leaves_no_thread_and_no_answer_open(after: int) -> None:
    service = Service(12, lambda _, data: iter([data[:10], data[10:]]))
    chunks = service.read()
    for _ in range(after):
        next(chunks)
    chunks.close()
    assert _nobody_reads()
    assert service.under_way == 0


def test_whoever_stops_waits_for_no_pause() -> None:
    paused = threading.Event()

    def answer(offset: int, data: bytes) -> Iterator[bytes]:
        if offset == 2 * RANGE:
            paused.set()
            raise StoreUnavailable("away")
        yield data

    chunks = Service(6, answer).read(attempts=10**6, pause=LONG)
    next(chunks)
    next(chunks)
    assert paused.wait(LONG)
    chunks.close()
    assert _nobody_reads()


@pytest.mark.parametrize(
    "error",
    [ObjectChanged("overwritten"), StoreDenied("expired"), StoreUnavailable("away"), RuntimeError("a bug")],
)
def test_an_error_comes_after_what_lies_before_it_and_ends_all(error: Exception) -> None:
    def answer(offset: int, data: bytes) -> Iterator[bytes]:
        if offset == 2 * RANGE:
            raise error
        yield data

    service = Service(100, answer)
    got: list[bytes] = []
    with pytest.raises(type(error), match=str(error)):
        got.extend(service.read(attempts=1))
    assert b"".join(got) == service.data[: 2 * RANGE]
    assert max(service.asked) <= (2 + AT_ONCE) * RANGE


def test_who_refuses_all_is_asked_once() -> None:
    def answer(_offset: int, _data: bytes) -> Iterator[bytes]:
        raise StoreDenied("no")
        yield b""

    service = Service(10, answer)
    with pytest.raises(StoreDenied):
        list(service.read())
    assert service.asked == [0]


@pytest.mark.parametrize("broken", [True, False])
@pytest.mark.parametrize("number", [0, 2, 9])
def test_breaks_without_one_new_byte_of_the_range_are_counted(number: int, broken: bool) -> None:
    def answer(offset: int, data: bytes) -> Iterator[bytes]:
        if offset != number * RANGE + 50:
            yield data[:50] if offset == number * RANGE else data
        elif broken:
            raise StoreUnavailable("away")

    service = Service(10, answer)
    with pytest.raises(StoreUnavailable, match="away" if broken else "ends early"):
        list(service.read(attempts=4))
    assert service.asked.count(number * RANGE + 50) == 4


@pytest.mark.parametrize(("number", "error"), [(0, StoreError), (3, StoreError), (9, ObjectChanged)])
def test_more_bytes_than_were_asked_for_are_refused(number: int, error: type[LinkspanError]) -> None:
    def answer(offset: int, data: bytes) -> Iterator[bytes]:
        yield data
        if offset == number * RANGE:
            yield b"x"

    with pytest.raises(error) as caught:
        list(Service(10, answer).read())
    assert type(caught.value) is error


def test_reads_at_once_share_what_is_beside_the_first() -> None:
    first, second = Service(30), Service(30)
    chunks = first.read()
    next(chunks)
    next(chunks)
    assert b"".join(second.read()) == second.data
    assert second.threads == {threading.current_thread().name}, "one connection, in a row"
    chunks.close()
    third = Service(4 * AT_ONCE + 2, _together(AT_ONCE))
    assert b"".join(third.read()) == third.data


def test_one_connection_that_is_quick_enough_stays_alone() -> None:
    service = Service(50)
    service.enough = 0.0
    assert b"".join(service.read()) == service.data
    assert service.threads == {threading.current_thread().name}
    assert service.asked == [0, RANGE, 21 * RANGE, 41 * RANGE]

"""Reading a pinned object range by range, so that a broken connection costs one range and never the rest.

Azure and S3 differ only in the one call that opens a range; resuming, counting and cutting are here, once.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

from linkspan.errors import ObjectChanged, StoreError, StoreUnavailable
from linkspan.stores.base import CHUNK, StoredObject
from linkspan.stores.in_order import Sleep, in_order

Fetch = Callable[[int, int], Iterator[bytes]]
"""Opens `length` bytes at `offset` of the pinned object, in several threads at once; raises errors of
linkspan.errors only."""

RANGE = 3 << 20
"""Bytes asked for at a time, and held of each range that is read beside others. A run may take 150 MB, with
the last 32 MiB that went to the registry among them."""
AT_ONCE = 4
_beside_the_first = threading.Semaphore(AT_ONCE - 1)


_LONG = 20
"""Ranges that are asked for together by one connection that is quick enough."""
ENOUGH = 200e6
"""Bytes a second, in the time that is spent waiting for them, with which one connection is quick enough."""


def read_ranges(
    obj: StoredObject,
    fetch: Fetch,
    *,
    range_size: int,
    attempts: int,
    pause: float = 0.2,
    enough: float = ENOUGH,
) -> Iterator[bytes]:
    """All bytes of `obj` in order, in chunks of at most CHUNK; by several connections where one is too slow.

    A range that breaks is opened again where it broke; `attempts` counts breaks without one new byte of that
    range between them, `pause` is the first wait in seconds and doubles. Raises StoreUnavailable then, and
    ObjectChanged if more bytes come than the object has.
    """

    def read(start: int, size: int, sleep: Sleep) -> Generator[bytes, None, None]:
        end = min(start + size, obj.size)
        return _range(obj, fetch, start, end, attempts=attempts, pause=pause, sleep=sleep)

    at, size = 0, range_size
    while at < obj.size:
        timed = _Timed(read(at, size, _sleep))
        for block in timed:
            yield from pieces(block)
        at, quick = min(at + size, obj.size), timed.seconds * enough < size
        size = range_size * _LONG
        if quick or obj.size - at <= range_size:
            continue
        with _more(-(-(obj.size - at) // range_size) - 1) as more:
            if more:
                yield from _beside_each_other(read, at, obj.size, range_size, 1 + more)
                return


def _beside_each_other(
    read: Callable[[int, int, Sleep], Generator[bytes, None, None]],
    begin: int,
    end: int,
    size: int,
    at_once: int,
) -> Iterator[bytes]:
    def stream(number: int, sleep: Sleep) -> Generator[bytes, None, None]:
        return read(begin + number * size, size, sleep)

    # Closed here, with its threads, and not whenever it is found to be garbage.
    with closing(in_order(stream, -(-(end - begin) // size), at_once=at_once, most=size)) as chunks:
        yield from chunks


class _Timed:
    """Blocks, and the seconds that were spent waiting for all but the first: none for what came meanwhile.

    Not for the first, which is the way there and back; a longer range makes up for it as more connections do.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.seconds = 0.0
        self._begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        before = time.monotonic()
        try:
            return next(self._blocks)
        finally:
            if self._begun:
                self.seconds += time.monotonic() - before
            self._begun = True


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _range(
    obj: StoredObject,
    fetch: Fetch,
    start: int,
    end: int,
    *,
    attempts: int,
    pause: float,
    sleep: Sleep,
) -> Generator[bytes, None, None]:
    at, failures = start, 0
    while at < end:
        before = at
        broken: StoreUnavailable | None = None
        try:
            for block in fetch(at, end - at):
                if at + len(block) > end:
                    raise _too_much(obj, start, end)
                if block:
                    at += len(block)
                    failures = 0
                    yield block
        except StoreUnavailable as error:
            broken = error
        if broken is not None or at == before:
            failures += 1
            if failures >= attempts:
                raise broken or StoreUnavailable(
                    f"{obj.key} ends early", expected=f"{obj.size} bytes", found=at, fix="Try again"
                )
            if sleep(min(pause * 2 ** (failures - 1), 5.0)):
                return


def _too_much(obj: StoredObject, start: int, end: int) -> StoreError:
    if end == obj.size:
        return ObjectChanged(f"{obj.key} has more bytes than when it was pinned", expected=obj.size)
    return StoreError(
        f"{obj.key}: the store sends more than it was asked for",
        expected=f"bytes {start} to {end - 1}",
        fix="Use a store, and a proxy before it, that obey the header Range",
    )


@contextmanager
def _more(wanted: int) -> Iterator[int]:
    """How many ranges may be read beside one, for as long as it takes.

    Both services give a connection a part of what line and account can do (S3 some 85 MB/s). There is no
    setting, for nobody would know what to fill in: what one connection reads tells whether it was waited for.
    Where it was not (a store on the machine, a registry that takes less) three more would only cost
    processor time, a second for a gigabyte. All reads of a process share them, so that memory is bounded: a
    further read has one connection, for there are others beside it already. Apps that are packaged at once
    are processes of their own; ten have forty connections and some hundred requests a second, where S3 takes
    5,500 of a prefix and Azure 20,000 of an account, and share the line as any ten downloads do.
    """
    got = 0
    try:
        while got < min(wanted, AT_ONCE - 1) and _beside_the_first.acquire(blocking=False):
            got += 1
        yield got
    finally:
        for _ in range(got):
            _beside_the_first.release()


def pieces(block: bytes) -> Iterator[bytes]:
    """`block` cut into pieces of at most CHUNK."""
    if len(block) <= CHUNK:
        if block:
            yield block
        return
    view = memoryview(block)
    for start in range(0, len(view), CHUNK):
        yield bytes(view[start : start + CHUNK])

"""Several streams of bytes read at once, each by a thread, and given out one after the other."""

import threading
from collections.abc import Callable, Generator
from contextlib import closing

from linkspan.stores.base import CHUNK

Sleep = Callable[[float], bool]
"""Lets so many seconds pass; true, and at once, if nobody wants the rest any more."""
Stream = Callable[[int, Sleep], Generator[bytes, None, None]]
"""The bytes with that number, in blocks; sleeps with what it is given."""


def in_order(stream: Stream, count: int, *, at_once: int, most: int) -> Generator[bytes, None, None]:
    """Streams 0 to `count` - 1, each of at most `most` bytes, in chunks of at most CHUNK.

    What is not given out yet is held, of at most `at_once` streams. The first is alone until it has given
    something: it makes the client that all use, and is the only one to be refused by a service that refuses
    all. What a stream raises comes out after what lies before it, and nothing further is begun then. The
    threads end with this generator.
    """
    window = _Window(count, at_once, most)
    threads: list[threading.Thread] = []

    def begin(more: int) -> None:
        for _ in range(more):
            thread = threading.Thread(target=_work, args=(stream, window), name="reads a range", daemon=True)
            thread.start()
            threads.append(thread)

    try:
        begin(1)
        if window.goes_well():
            begin(at_once - 1)
        while chunk := window.take():
            yield chunk
    finally:
        window.leave()
        for thread in threads:
            thread.join()


def _work(stream: Stream, window: "_Window") -> None:
    while (held := window.begin()) is not None:
        error: BaseException | None = None
        try:
            with closing(stream(held.number, window.sleep)) as blocks:
                for block in blocks:
                    if not window.put(held, block):
                        break
        except BaseException as raised:  # noqa: BLE001 raised where the bytes are wanted
            error = raised
        window.end(held, error)


class _Held:
    """What came of one stream.

    Copied into memory that stays as long as the read does: blocks that one thread makes and another one frees
    later leave holes in each thread's heap, which took as much again as all that was held.
    """

    def __init__(self, number: int, room: bytearray) -> None:
        self.number = number
        self.room = room
        self.filled = self.given = 0
        self.ended = False
        self.error: BaseException | None = None


class _Window:
    """The streams between the one that is given out and the last one that was begun.

    Nobody waits for room within a stream: it is room for all of it that `begin` waits for. So a consumer that
    takes its time keeps no connection half read, which services close after a while.
    """

    def __init__(self, count: int, at_once: int, most: int) -> None:
        self._count = count
        self._at_once = at_once
        self._most = most
        self._given = self._begun = 0
        self._held: dict[int, _Held] = {}
        self._free: list[bytearray] = []
        self._left = self._failed = False
        self._changed = threading.Condition()

    def begin(self) -> _Held | None:
        """Wait for room for the next stream; None if there is nothing to do any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._over() or self._begun < self._given + self._at_once)
            if self._over():
                return None
            room = self._free.pop() if self._free else bytearray(self._most)
            held = self._held[self._begun] = _Held(self._begun, room)
            self._begun += 1
            return held

    def put(self, held: _Held, block: bytes) -> bool:
        """Hold a block; whether anybody still wants it."""
        held.room[held.filled : held.filled + len(block)] = block
        with self._changed:
            held.filled += len(block)
            self._changed.notify_all()
            return not self._left

    def end(self, held: _Held, error: BaseException | None) -> None:
        with self._changed:
            held.ended, held.error = True, error
            self._failed |= error is not None
            self._changed.notify_all()

    def goes_well(self) -> bool:
        """Wait for the first bytes of all, or the first stream's end; whether it did not fail."""
        with self._changed:
            self._changed.wait_for(self._can_take)
            return not self._failed

    def take(self) -> bytes:
        """The next bytes in order; none at the end. Raises what their stream raised."""
        with self._changed:
            while self._given < self._count:
                self._changed.wait_for(self._can_take)
                held = self._held[self._given]
                if held.given < held.filled:
                    break
                if held.error:
                    raise held.error
                self._free.append(self._held.pop(self._given).room)
                self._given += 1
                self._changed.notify_all()
            else:
                return b""
            start, held.given = held.given, min(held.filled, held.given + CHUNK)
        return bytes(memoryview(held.room)[start : held.given])

    def sleep(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._left, seconds)

    def leave(self) -> None:
        with self._changed:
            self._left = True
            self._changed.notify_all()

    def _over(self) -> bool:
        return self._left or self._failed or self._begun == self._count

    def _can_take(self) -> bool:
        held = self._held.get(self._given)
        return held is not None and (held.given < held.filled or held.ended)

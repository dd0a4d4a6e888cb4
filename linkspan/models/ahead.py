"""Reads that run ahead of writes: a thread takes from the producer what the consumer will want next."""

import threading
from collections import deque
from collections.abc import Generator, Iterator

_MOST = 4 << 20
"""Bytes that wait at most, besides what a store holds that is far away (linkspan/stores/ranges.py): a disk is
quick enough to need no more."""
_PIECE = 64 << 10
"""What is smaller is put together: many small files come in small pieces, each a packet of its own."""


def ahead(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """`chunks` in pieces of some size, read by another thread, which ends with this generator.

    What the producer raises comes out after what it gave before, but for less than a piece.
    """
    queue = _Queue()
    thread = threading.Thread(target=_fill, args=(chunks, queue), name="reads ahead", daemon=True)
    thread.start()
    try:
        while piece := queue.take():
            yield piece
    finally:
        queue.leave()
        thread.join()


def _fill(chunks: Iterator[bytes], queue: "_Queue") -> None:
    try:
        pieces: list[bytes] = []
        size = 0
        for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= _PIECE:
                if not queue.put(b"".join(pieces)):
                    return
                pieces, size = [], 0
        if size:
            queue.put(b"".join(pieces))
    except BaseException as error:  # noqa: BLE001 raised where the bytes are wanted
        queue.error = error
    finally:
        if isinstance(chunks, Generator):
            chunks.close()
        queue.end()


class _Queue:
    """Bytes between two threads, of bounded size."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = self._left = False
        self._changed = threading.Condition()

    def put(self, piece: bytes) -> bool:
        """Wait for room; whether anybody still wants it."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < _MOST or self._left)
            self._pieces.append(piece)
            self._size += len(piece)
            self._changed.notify_all()
            return not self._left

    def take(self) -> bytes:
        """The next piece; empty at the end. Raises what the producer raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ended)
            if self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                self._changed.notify_all()
                return piece
        if self.error:
            raise self.error
        return b""

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def leave(self) -> None:
        with self._changed:
            self._left = True
            self._changed.notify_all()

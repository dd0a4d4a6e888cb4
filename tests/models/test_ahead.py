"""Reads run ahead of writes, so far and no further, and end with whoever wanted them."""

import threading
from collections.abc import Iterator

import pytest

from linkspan.errors import StoreUnavailable
from linkspan.models.ahead import ahead
from tests.waiting import until

MB = 1 << 20


class Source:
    """Gives pieces and says how many it gave and whether it was let go."""

    def __init__(self, pieces: int, size: int = MB, error: Exception | None = None) -> None:
        self.pieces, self.size, self.error = pieces, size, error
        self.given = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            while self.given < self.pieces:
                self.given += 1
                yield bytes([self.given % 256]) * self.size
            if self.error:
                raise self.error
        finally:
            self.closed = True


def content(source: Source) -> bytes:
    return b"".join(bytes([n % 256]) * source.size for n in range(1, source.pieces + 1))


@pytest.mark.parametrize(("pieces", "size"), [(0, 1), (1, 1), (40, MB), (5000, 700), (3, 65536)])
def test_every_byte_arrives_in_order(pieces: int, size: int) -> None:
    source = Source(pieces, size)
    assert b"".join(ahead(iter(source))) == content(source)
    assert source.closed


def test_it_reads_while_nobody_takes_and_holds_at_most_so_much() -> None:
    source = Source(100)
    pieces = ahead(iter(source))
    next(pieces)
    until(lambda: source.given == 6, what="4 MB read ahead, and one piece in hand")
    next(pieces)
    until(lambda: source.given == 7, what="one more")
    pieces.close()
    assert source.given == 7


def test_small_pieces_come_together() -> None:
    assert [len(piece) for piece in ahead(iter(Source(300, 1000)))] == [66_000] * 4 + [36_000]


def test_what_the_producer_raises_comes_after_what_it_gave() -> None:
    source = Source(3, error=StoreUnavailable("the store is away"))
    pieces = ahead(iter(source))
    assert [len(next(pieces)) for _ in range(3)] == [MB] * 3
    with pytest.raises(StoreUnavailable, match="the store is away"):
        next(pieces)


def test_whoever_leaves_lets_the_producer_go() -> None:
    source = Source(100)
    pieces = ahead(iter(source))
    next(pieces)
    pieces.close()
    assert source.closed
    assert "reads ahead" not in {thread.name for thread in threading.enumerate()}

"""Reading a pinned object range by range, so that a broken connection costs one range and never the rest.

Azure and S3 differ only in the one call that opens a range; resuming, counting and cutting are here, once.
"""

import time
from collections.abc import Callable, Iterator

from linkspan.errors import ObjectChanged, StoreUnavailable
from linkspan.stores.base import CHUNK, StoredObject

Fetch = Callable[[int, int], Iterator[bytes]]
"""Opens `length` bytes at `offset` of the pinned object; raises errors of linkspan.errors only."""


def read_ranges(
    obj: StoredObject, fetch: Fetch, *, range_size: int, attempts: int, pause: float = 0.2
) -> Iterator[bytes]:
    """All bytes of `obj`, in chunks of at most CHUNK.

    A range that breaks is opened again where it broke; `attempts` counts breaks without one new byte between
    them, `pause` is the first wait in seconds and doubles. Raises StoreUnavailable then, and ObjectChanged
    if more bytes come than the object has.
    """
    offset = failures = 0
    while offset < obj.size:
        start = offset
        try:
            for block in fetch(offset, min(range_size, obj.size - offset)):
                for piece in pieces(block):
                    if offset + len(piece) > obj.size:
                        raise ObjectChanged(
                            f"{obj.key} has more bytes than when it was pinned", expected=obj.size
                        )
                    offset += len(piece)
                    failures = 0
                    yield piece
            broken = None
        except StoreUnavailable as error:
            broken = error
        if broken is not None or offset == start:
            failures += 1
            if failures >= attempts:
                raise broken or StoreUnavailable(
                    f"{obj.key} ends early", expected=f"{obj.size} bytes", found=offset, fix="Try again"
                )
            time.sleep(min(pause * 2 ** (failures - 1), 5.0))


def pieces(block: bytes) -> Iterator[bytes]:
    """`block` cut into pieces of at most CHUNK."""
    if len(block) <= CHUNK:
        if block:
            yield block
        return
    view = memoryview(block)
    for start in range(0, len(view), CHUNK):
        yield bytes(view[start : start + CHUNK])

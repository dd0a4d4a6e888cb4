"""Sends a storm from a process of its own: `storm_sender PORT KEYS COUNT SHARE F`, as a module.

The file F holds what is newest of each key, a 32-bit number each, mapped by whoever looks. Prints how often
each status came, as JSON.
"""

import asyncio
import json
import mmap
import random
import struct
import sys
from pathlib import Path

from tests.webhooks.serving import headers, push

CONNECTIONS = 32


class Newest:
    """What is newest of each key, in a file that two processes share."""

    def __init__(self, file: Path, keys: int) -> None:
        if not file.exists():
            file.write_bytes(bytes(4 * keys))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 0)

    def __getitem__(self, key: int) -> int:
        (found,) = struct.unpack_from("<I", self._memory, 4 * key)
        return int(found)

    def advance(self, key: int) -> None:
        """There is something newer now."""
        struct.pack_into("<I", self._memory, 4 * key, self[key] + 1)


def hints_of(keys: int, count: int, share: float) -> list[tuple[int, int]]:
    """`count` hints over all keys, this share of them told twice or more, shuffled; the same every time."""
    chance = random.Random(7)
    unique = [(number % keys, number // keys) for number in range(round(count * (1 - share)))]
    hints = unique + chance.choices(unique, k=count - len(unique))
    chance.shuffle(hints)
    return hints


async def send(port: int, hints: list[tuple[int, int]], newest: Newest) -> dict[int, int]:
    """POST `(key, number)` hints over kept-alive connections; how often each status came.

    One that was not sent before makes what is newest of its key newer, just before it is sent.
    """
    waiting = iter(hints)
    seen: set[tuple[int, int]] = set()
    statuses: dict[int, int] = {}

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for key, number in waiting:
            if (key, number) not in seen:
                seen.add((key, number))
                newest.advance(key)
            body = push(f"{key}/{number}")
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers(body).items())
            head = f"POST /hooks/key-{key} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = int(answer.split(b" ", 2)[1])
            await reader.readexactly(int(answer.partition(b"content-length:")[2].split(b"\r\n")[0]))
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
    return statuses


if __name__ == "__main__":
    port, keys, count, share, file = sys.argv[1:]
    hints = hints_of(int(keys), int(count), float(share))
    print(json.dumps(asyncio.run(send(int(port), hints, Newest(Path(file), int(keys))))))  # noqa: T201 a result

"""What a step opens is closed when it ends, and not under a thread that nobody can end."""

import asyncio
from contextlib import closing

import pytest

from flows.support import Opened, opened


class Client:
    """Something with connections."""

    def __init__(self, it: Opened) -> None:
        self.closed = False
        it._closing.enter_context(closing(self))

    def close(self) -> None:
        self.closed = True


def test_what_a_step_opens_is_closed_when_it_ends() -> None:
    with opened() as it:
        client = Client(it)
        assert not client.closed
    assert client.closed


def test_also_when_it_fails() -> None:
    clients = []

    def step() -> None:
        with opened() as it:
            clients.append(Client(it))
            raise ValueError("so it goes")

    with pytest.raises(ValueError, match="so it goes"):
        step()
    assert clients[0].closed


async def test_a_step_whose_time_is_up_leaves_its_clients_to_its_thread() -> None:
    clients: list[Client] = []
    go_on = asyncio.Event()

    async def step() -> None:
        with opened() as it:
            clients.append(Client(it))
            go_on.set()
            await asyncio.to_thread(lambda: None)
            await asyncio.sleep(60)

    task = asyncio.create_task(step())
    await go_on.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not clients[0].closed

"""What a step opens is kept for its run, is nobody else's meanwhile, and is closed at the end."""

import asyncio
import threading
import traceback
from pathlib import Path

import pytest

from flows.opened import Opened, keeping, opened

KEY = ("registry", "container-registry/digits", "digits")


class Client:
    """Something with connections."""

    def __init__(self, trouble: str = "") -> None:
        self.trouble = trouble
        self.closed = False

    def close(self) -> None:
        self.closed = True
        if self.trouble:
            raise OSError(self.trouble)


async def client_of(it: Opened) -> Client:
    return await it.lend(KEY, Client)


async def test_what_a_step_opens_is_closed_when_it_ends() -> None:
    with opened() as it:
        client = await client_of(it)
        assert not client.closed
    assert client.closed


async def test_also_when_it_fails() -> None:
    clients = []

    async def step() -> None:
        with opened() as it:
            clients.append(await client_of(it))
            raise ValueError("so it goes")

    with pytest.raises(ValueError, match="so it goes"):
        await step()
    assert clients[0].closed


@pytest.mark.parametrize("well", [True, False])
async def test_a_client_that_cannot_be_closed_is_told_and_hides_nothing(
    well: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clients: list[Client] = []

    @keeping
    async def flow() -> str:
        with opened() as it:  # given back: closed with the run
            clients.append(await it.lend(("engine", "a"), lambda: Client("first")))
            clients.append(await it.lend(("engine", "b"), lambda: Client("second")))
        with opened() as it:
            clients.append(await it.lend(("engine", "c"), lambda: Client("third")))
            clients.append(await it.lend(("engine", "d"), lambda: Client("fourth")))
            if not well:
                raise ValueError("so it goes")
        return "done"

    if well:
        assert await flow() == "done"
    else:
        with pytest.raises(ValueError, match="so it goes"):
            await flow()
    assert all(client.closed for client in clients)
    assert {record.getMessage() for record in caplog.records} == {
        "engine a could not be closed: OSError: first",
        "engine b could not be closed: OSError: second",
        "engine c could not be closed: OSError: third",
        "engine d could not be closed: OSError: fourth",
    }


async def test_a_step_whose_time_is_up_leaves_its_clients_to_its_thread() -> None:
    clients: list[Client] = []
    go_on = asyncio.Event()

    @keeping
    async def flow() -> None:
        with opened() as it:
            clients.append(await client_of(it))
            go_on.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(flow())
    await go_on.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not clients[0].closed


async def test_the_steps_of_a_run_use_one_client_after_the_other_and_it_is_closed_with_the_run() -> None:
    clients: list[Client] = []

    async def step() -> None:
        with opened() as it:
            clients.append(await client_of(it))
            assert not clients[-1].closed

    @keeping
    async def flow() -> None:
        await step()
        await asyncio.create_task(step())
        assert not clients[-1].closed

    await flow()
    assert clients[0] is clients[1]
    assert clients[0].closed
    await flow()
    assert clients[2] is not clients[0]


async def test_a_traceback_through_it_shows_lines_that_are_there() -> None:
    @keeping
    async def flow() -> None:
        raise ValueError("so it goes")

    with pytest.raises(ValueError, match="so it goes") as error:
        await flow()
    frames = traceback.extract_tb(error.value.__traceback__)
    lines = [(Path(each.filename).name, each.line) for each in frames]
    assert lines == [
        ("test_opened.py", "await flow()"),
        ("test_opened.py", "async def flow() -> None:"),
        ("opened.py", "return await run"),
        ("test_opened.py", 'raise ValueError("so it goes")'),
    ]


async def test_steps_beside_each_other_have_a_client_each() -> None:
    both = asyncio.Barrier(2)

    async def step() -> Client:
        with opened() as it:
            client = await client_of(it)
            await both.wait()
            return client

    @keeping
    async def flow() -> tuple[Client, Client]:
        return await asyncio.gather(step(), step())

    one, other = await flow()
    assert one is not other
    assert one.closed
    assert other.closed


async def test_after_a_step_that_failed_everything_is_opened_anew() -> None:
    clients: list[Client] = []

    async def step(*, well: bool) -> None:
        with opened() as it:
            clients.append(await client_of(it))
            if not well:
                raise ValueError("so it goes")

    @keeping
    async def flow() -> None:
        await step(well=True)
        with pytest.raises(ValueError, match="so it goes"):
            await step(well=False)
        await step(well=True)

    await flow()
    assert clients[0] is clients[1]
    assert clients[2] is not clients[0]
    assert all(client.closed for client in clients)


async def test_what_no_step_waits_for_ends_with_the_run_and_before_its_clients() -> None:
    go_on = threading.Event()
    clients: list[Client] = []
    found: list[bool] = []
    said: list[str] = []

    def work() -> None:
        go_on.wait()
        found.append(clients[0].closed)
        raise OSError("the engine has gone")

    async def step() -> None:
        with opened() as it:
            clients.append(await client_of(it))
            it.later(work, said.append)

    @keeping
    async def flow() -> None:
        await step()
        assert not found
        go_on.set()

    await flow()
    assert found == [False]
    assert clients[0].closed
    assert said == ["What was left for later failed: the engine has gone"]

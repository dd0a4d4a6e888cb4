"""Clocks that are a day ahead or behind, or jump: nothing is lost and nothing is taken for another."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow_async
from prefect.logging.handlers import APILogHandler
from prefect.states import Pending, Scheduled

from flows.coalesce import supersede_siblings
from linkspan.webhooks.base import Hint
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import recent
from linkspan.webhooks.inbox.starter import Starter
from tests.services.prefect_server import PrefectServer
from tests.skew import DAY, skewed
from tests.webhooks.prefect_fake import PrefectFake, prefect_fake

SKEWS = pytest.mark.parametrize("skew", [-DAY, DAY], ids=["behind", "ahead"])
NOW = datetime.now(UTC)


@flow(name="test-skew")
async def superseding() -> Any:
    return await supersede_siblings()


@SKEWS
async def test_a_run_supersedes_what_is_due_by_the_servers_clock(
    prefect_api: PrefectServer, skew: timedelta
) -> None:
    """Of a clock that is ahead a planned run would be due, and the schedule would be gone for a day."""
    async with get_client() as client:
        flow_id = await client.create_flow(superseding)
        deployment = await client.create_deployment(flow_id=flow_id, name=f"skew-{uuid4().hex[:8]}")

        async def waiting(since: timedelta) -> FlowRun:
            state: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) + since)
            return await client.create_flow_run_from_deployment(deployment, state=state)

        due = [await waiting(timedelta(seconds=-1)) for _ in range(2)]
        planned = await waiting(timedelta(minutes=10))
        own = await waiting(timedelta())
        await client.set_flow_run_state(own.id, Pending())
        with skewed(skew):
            claimed = await client.read_flow_run(own.id)
            found: Any = await run_flow_async(superseding, flow_run=claimed, parameters={})

        async def state(run_id: UUID) -> str | None:
            return (await client.read_flow_run(run_id)).state_name

        assert found == 2
        assert [await state(run.id) for run in due] == ["Superseded", "Superseded"]
        assert await state(planned.id) == "Scheduled"
    await APILogHandler.aflush()  # else the last lines look for the server when the session is over


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    with Inbox(tmp_path / "inbox") as inbox:
        yield inbox


@pytest.fixture
def fake() -> Iterator[PrefectFake]:
    with prefect_fake() as fake:
        yield fake


def put(inbox: Inbox, key: str, deployment: str, at: datetime, said: datetime | None = None) -> bool:
    hint = Hint(key=key, text=f"push {key}", at=said)
    return bool(inbox.put("git", [deployment], [hint], at).result(10))


def test_what_is_told_again_is_known_whatever_any_clock_says(inbox: Inbox) -> None:
    """Of the sender, which says when it happened, and of this machine."""
    assert put(inbox, "k", "a/x", NOW, said=NOW)
    for by in (-DAY, DAY):
        assert not put(inbox, "k", "a/x", NOW + by, said=NOW + by)
        with skewed(by):
            assert not put(inbox, "k", "a/x", NOW, said=NOW)
    assert put(inbox, "k2", "a/x", NOW - DAY, said=NOW - DAY)
    batch = inbox.take("a/x").result(10)
    assert batch
    assert batch.text == "push k2 (and 1 more)"  # the last that came, though it is older by its time


def test_what_is_kept_for_thirty_days_is_kept_for_twenty_nine_by_a_wrong_clock(inbox: Inbox) -> None:
    for age in (0, 28.9, 29.5, 31.5):
        put(inbox, f"{age}", f"a/{age}", NOW - age * DAY)
    put(inbox, "waits", "b/y", NOW - 40 * DAY)
    for age in (0, 28.9, 29.5, 31.5):
        batch = inbox.take(f"a/{age}").result(10)
        assert batch
        inbox.failed(batch, "of this test").result(10)
    for by, left in ((-DAY, {0, 28.9, 29.5}), (DAY, {0, 28.9})):
        with skewed(by):
            inbox.forget().result(10)
        assert {each.text for each in recent(inbox.folder)} == {"push waits"} | {
            f"push {age}" for age in left
        }


def test_a_clock_that_jumps_between_two_calls_loses_nothing_and_doubles_nothing(
    inbox: Inbox, fake: PrefectFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NTP may set it, while hints come, are started and are forgotten, and over a restart."""
    right = time.time
    jumps = [timedelta(), DAY, -DAY, 30 * DAY, -30 * DAY, timedelta()]

    def settle() -> None:
        end = time.monotonic() + 30
        while not starter.idle:
            assert time.monotonic() < end
            time.sleep(0.01)

    for number, by in enumerate(jumps):
        monkeypatch.setattr(time, "time", lambda by=by: right() + by.total_seconds())
        with skewed(by), Starter(inbox, fake.server, gather=0.0) as starter:
            for key in range(number + 1):
                # All that were told before are told again; one is new.
                assert put(inbox, f"{key}", f"a/{key}", datetime.now(UTC) + by) == (key == number)
            settle()
            if abs(by) <= DAY:
                inbox.forget().result(10)
    assert fake.started() == {f"a/{number}": 1 for number in range(len(jumps))}
    assert {each.state for each in recent(inbox.folder)} == {"started"}

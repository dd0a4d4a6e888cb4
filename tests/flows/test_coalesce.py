"""Coalescing and crash recovery with a real server, a real worker and real SIGKILLs."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.coalesce import replaces
from linkspan.errors import ServerUnavailable
from linkspan.prefect_api.server import Run, Server
from linkspan.prefect_api.values import FINAL
from tests.flows.heartbeats import wait_for_heartbeats
from tests.services.prefect_server import AUTH, PrefectServer, asked
from tests.waiting import until

NOW = datetime(2026, 11, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
DEPLOYMENT = uuid4()


@pytest.fixture(scope="module")
def server(worker_server: PrefectServer) -> Iterator[PrefectServer]:
    """A server with a worker."""
    with worker_server.worker():
        yield worker_server


def state(api: Server, run_id: str) -> str:
    """Its state's type; `?` while the server is too busy to say, as with a full machine it may be."""
    try:
        return api.run(run_id).state_type
    except ServerUnavailable:
        return "?"


def seen(folder: Path) -> list[str]:
    file = folder / "seen"
    return file.read_text().splitlines() if file.exists() else []


def crashes(api: Server, run_id: str) -> list[str]:
    """What was said of each, the first one first."""
    states = asked(api.api_url, AUTH, "GET", f"flow_run_states/?flow_run_id={run_id}").json()
    return [each["message"] for each in states if each["type"] == "CRASHED"]


def finished(api: Server, ids: list[str]) -> list[Run]:
    until(lambda: all(state(api, each) in FINAL for each in ids))
    return [api.run(each) for each in ids]


@pytest.mark.calm
def test_of_a_burst_of_hints_two_run_and_the_last_state_wins(server: PrefectServer, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    with server.api() as api:
        ids = []
        for number in range(20):
            (tmp_path / "newest").write_text(f"state-{number}")
            hint = {"folder": str(tmp_path), "hint": f"hint {number}"}
            ids.append(api.start("test-coalesce/test", hint, idempotency_key=uuid4().hex).id)
            if number == 0:
                until(lambda: bool(seen(tmp_path)))
        (tmp_path / "hold").unlink()
        runs = finished(api, ids)
    states = Counter(run.state_name for run in runs)
    assert states == {"Completed": 2, "Superseded": 18}
    assert seen(tmp_path) == ["one state-0 False", "one state-19 False"]
    superseded = [run for run in runs if run.state_name == "Superseded"]
    assert all(run.state_type == "CANCELLED" and "by run" in run.message for run in superseded)


@pytest.mark.calm
def test_an_order_and_another_environment_are_not_superseded(server: PrefectServer, tmp_path: Path) -> None:
    (tmp_path / "newest").write_text("state")
    common: dict[str, Any] = {"folder": str(tmp_path)}
    with server.api() as api:
        ids = [
            api.start("test-coalesce/test", {**common, **each}, idempotency_key=uuid4().hex).id
            for each in ({}, {}, {"environment": "two"}, {"on_purpose": True}, {"hint": "again"})
        ]
        runs = finished(api, ids)
    assert {run.state_name for run in runs[2:4]} == {"Completed"}
    assert set(seen(tmp_path)) == {"one state False", "two state False", "one state True"}


def _run(**changes: Any) -> FlowRun:
    values: dict[str, Any] = {
        "id": uuid4(),
        "flow_id": UUID(int=1),
        "deployment_id": DEPLOYMENT,
        "parameters": {"app": "digits"},
        "next_scheduled_start_time": NOW,
        "run_count": 0,
    }
    return FlowRun(**{**values, **changes})


OWN = _run()


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (_run(), True),
        (_run(parameters={"app": "digits", "hint": "x", "before": [1]}), True),
        (_run(parameters={"app": "digits", "commit": None}), True),
        (_run(auto_scheduled=True, next_scheduled_start_time=NOW - HOUR), True),
        (OWN, False),
        (_run(next_scheduled_start_time=NOW + HOUR), False),
        (_run(next_scheduled_start_time=None), False),
        (_run(deployment_id=uuid4()), False),
        (_run(parameters={"app": "digits", "commit": "3fa9c1"}), False),
        (_run(parameters={"app": "digits", "on_purpose": True}), False),
        (_run(parameters={"app": "letters"}), False),
        (_run(run_count=1), False),
    ],
)
def test_which_run_does_the_work_of_which(other: FlowRun, expected: bool) -> None:
    assert replaces(OWN, other, NOW) is expected


@pytest.mark.calm
def test_a_run_killed_under_its_worker_starts_again_and_completes(
    server: PrefectServer, tmp_path: Path
) -> None:
    with server.api() as api:
        crash = {"folder": str(tmp_path), "times": 1}
        ref = api.start("test-crash/test", crash, idempotency_key=uuid4().hex)
        until(lambda: state(api, ref.id) == "COMPLETED")
    assert seen(tmp_path) == ["attempt 1", "attempt 2"]


@pytest.mark.calm
def test_a_run_that_always_crashes_fails_in_the_end_and_says_so(
    server: PrefectServer, tmp_path: Path
) -> None:
    with server.api() as api:
        crash = {"folder": str(tmp_path), "times": 99}
        ref = api.start("test-crash/test", crash, idempotency_key=uuid4().hex)
        until(lambda: state(api, ref.id) == "FAILED")
        message = api.run(ref.id).message
    assert "crashed 3 times" in message
    assert seen(tmp_path) == ["attempt 1", "attempt 2", "attempt 3"]


@pytest.mark.calm
def test_a_running_run_can_be_cancelled(server: PrefectServer, tmp_path: Path) -> None:
    with server.api() as api:
        ref = api.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
        until(lambda: bool(seen(tmp_path)))
        pid = int(seen(tmp_path)[0].split()[1])
        api.set_state(ref.id, "CANCELLING", "Cancelling")
        until(lambda: state(api, ref.id) == "CANCELLED")
    until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.calm
def test_a_run_that_cannot_even_start_is_not_started_again_and_again(
    server: PrefectServer, tmp_path: Path
) -> None:
    with server.api() as api:
        ref = api.start("test-broken/test", {}, idempotency_key=uuid4().hex)
        until(lambda: state(api, ref.id) == "CRASHED")
        # One that crashed later and is started again shows that its time has come, and gone.
        crash = {"folder": str(tmp_path), "times": 1}
        other = api.start("test-crash/test", crash, idempotency_key=uuid4().hex)
        until(lambda: state(api, other.id) == "COMPLETED")
        run = api.run(ref.id)
    assert (run.state_type, run.run_count) == ("CRASHED", 0)


@pytest.mark.calm
@pytest.mark.slow
def test_a_run_whose_worker_is_gone_too_is_noticed_and_finished_by_another(
    own_prefect_server: PrefectServer, tmp_path: Path
) -> None:
    """The slow path, by the missing heartbeat alone: both die at once and nobody is left to report it."""
    with own_prefect_server.api() as api:
        wait_for_heartbeats(api, AUTH, 75)  # a beat comes every 30 s, and one may be late
        with own_prefect_server.worker() as worker:
            ref = api.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
            until(lambda: bool(seen(tmp_path)))
            os.kill(int(seen(tmp_path)[0].split()[1]), signal.SIGSTOP)  # it must not report its own death
            worker.kill()
        (tmp_path / "go").touch()
        until(lambda: crashes(api, ref.id))
        wait_for_heartbeats(api, AUTH, 1200)  # those of the second attempt may come as late as they like
        with own_prefect_server.worker():
            until(lambda: state(api, ref.id) == "COMPLETED")
        assert api.run(ref.id).run_count == 2
        assert "No sign of life" in crashes(api, ref.id)[0]

"""`linkspan serve` as a process: killed, restarted, and with a Prefect server that comes and goes."""

import asyncio
import signal
import socket
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks import WebhookSource
from linkspan.local.home import Home
from linkspan.processes import Child, free_port, listens
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import recent
from linkspan.webhooks.serve import ServeSettings, default_inbox
from tests.services.prefect_server import PrefectServer
from tests.waiting import until
from tests.webhooks.patient_serve import SERVER_STAYS
from tests.webhooks.prefect_fake import PASSWORD, Failure, PrefectFake, prefect_fake
from tests.webhooks.process import ROOT, Serving, environment, fields, routes_file, serving
from tests.webhooks.serving import SECRET, headers, push, request

SCHEDULED = "test-scheduled/test"


def test_from_the_wire_to_a_run_and_a_clean_end(tmp_path: Path, fake: PrefectFake) -> None:
    fake.blocks["git"] = fields("a/x")
    with serving(tmp_path, environment(tmp_path, fake.api_url)) as receiver:
        assert receiver.call(push()) == 202
        until(lambda: receiver.states() == ["started"])
        assert receiver.child
        receiver.child._popen.send_signal(signal.SIGTERM)
        assert receiver.child._popen.wait(240) == 0
    assert fake.started() == {"a/x": 1}
    assert "202 accepted git from 127.0.0.1: push by ada" in receiver.log
    assert "a/x started as run-0" in receiver.log
    assert "stopped" in receiver.log
    assert "Traceback" not in receiver.log
    assert SECRET not in receiver.log
    assert PASSWORD not in receiver.log


@pytest.mark.calm
def test_at_its_end_it_finishes_the_request_and_the_start_that_are_under_way(
    tmp_path: Path, fake: PrefectFake
) -> None:
    fake.blocks["git"] = fields("a/x")
    called, go_on = threading.Event(), threading.Event()

    def slow(_method: str, path: str) -> Failure | None:
        if "create_flow_run" in path:
            called.set()
            go_on.wait(600)
            time.sleep(1.0)  # so that the end waits for it
        return None

    fake.fail = slow
    env = environment(tmp_path, fake.api_url) | {SERVER_STAYS: "1"}
    with serving(tmp_path, env) as receiver:
        body = push(1)
        lines = [f"{name}: {value}" for name, value in headers(body).items()]
        head = request(b"", *lines, f"Content-Length: {len(body)}", length=False)
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=600) as under_way:
            under_way.sendall(head + body[:20])
            assert receiver.call(push(0)) == 202
            assert called.wait(240)
            assert receiver.child
            receiver.child._popen.send_signal(signal.SIGTERM)
            until(lambda: not listens(receiver.port), what="the beginning of its end")
            under_way.sendall(body[20:])
            assert under_way.recv(65536).startswith(b"HTTP/1.1 202")
        go_on.set()
        assert receiver.child._popen.wait(240) == 0
    found = {each.text[-5:]: each.state for each in recent(receiver.inbox)}
    assert found["Say 0"] == "started"
    assert found["Say 1"] in {"waiting", "started"}


@pytest.mark.calm
def test_killed_ten_times_in_a_burst_every_hint_is_one_start(tmp_path: Path, fake: PrefectFake) -> None:
    """Each hint has a route and a deployment of its own, so that its starts can be counted."""
    count = 200
    found = {f"git-{number}": fields(f"flow/{number}") for number in range(count)}
    acknowledged: set[int] = set()
    told: list[int] = list(range(count))
    lock = threading.Lock()
    stop = threading.Event()
    # A moment between the run and its note, to be killed in.
    fake.fail = lambda _method, path: (
        Failure(how="late", seconds=0.02) if "create" in path and flip() else None
    )
    turns = iter(range(10**9))

    def flip() -> bool:
        return next(turns) % 5 == 0

    def tell(receiver: Serving) -> None:
        while not stop.is_set():
            with lock:
                number = told.pop(0) if told else None
            if number is None:
                return
            try:
                status = receiver.call(push(number), f"git-{number}")
            except httpx.TransportError:
                status = 0
            with lock:
                if status == 202:
                    acknowledged.add(number)
                else:
                    told.append(number)  # as senders do
            if status != 202:
                time.sleep(0.05)

    env = environment(tmp_path, fake.api_url)
    with serving(tmp_path, env, routes_file(tmp_path, found)) as receiver, ThreadPoolExecutor(4) as pool:
        tellers = [pool.submit(tell, receiver) for _ in range(4)]
        try:
            for attempt in range(10):
                until(lambda goal=(attempt + 1) * count // 14: len(acknowledged) >= goal)  # type: ignore[misc]
                assert receiver.child
                receiver.child.kill()
                receiver.start()
            for each in tellers:
                each.result(600)
        finally:
            stop.set()
        until(lambda: receiver.states() == ["started"])
    starts = fake.started()
    assert len(acknowledged) == count
    assert set(starts) == {f"flow/{number}" for number in range(count)}
    assert set(starts.values()) == {1}
    assert sum(fake.asked.values()) > count, "it was never killed between a run and its note"
    assert "Traceback" not in receiver.log


@pytest.mark.calm
def test_with_the_server_away_hints_are_taken_also_after_a_restart(tmp_path: Path) -> None:
    state = PrefectFake(port=free_port())
    state.blocks["git"] = fields("a/x")
    env = environment(tmp_path, state.api_url)
    with prefect_fake(state.port, state), serving(tmp_path, env) as receiver:
        assert receiver.call(push(0)) == 202
        until(lambda: receiver.states() == ["started"])
        cache = receiver.inbox / "routes.json"
        until(cache.exists)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    with serving(tmp_path, env) as again:
        assert [again.call(push(number)) for number in (1, 2)] == [202, 202]
        assert again.call(push(3), secret="another secret, a long one") == 401
        with prefect_fake(state.port, state):
            until(lambda: again.states() == ["started"])
    assert state.started()["a/x"] in {2, 3}


def test_a_server_that_comes_up_later_is_found(tmp_path: Path, fake: PrefectFake) -> None:
    from linkspan.local.home import Home, State

    with serving(tmp_path, environment(tmp_path), routes_file(tmp_path, {"git": fields()})) as receiver:
        assert receiver.call(push()) == 202
        until(lambda: "no Prefect server is known" in receiver.log)
        home = Home(tmp_path / "home")
        home.auth()
        home.write_state(State(api_url=fake.api_url, ui_url="", pid=1, pids={}, auth_file=""))
        until(lambda: receiver.states() == ["started"])


def test_where_none_is_named_the_inbox_is_in_a_home_that_is_only_ours(tmp_path: Path) -> None:
    env = {"LINKSPAN_HOME": str(tmp_path / "not" / "there")}
    with Inbox(default_inbox(env)):
        Home.default(env).create()  # what `linkspan up` does after it
    assert stat.S_IMODE((tmp_path / "not" / "there").stat().st_mode) == 0o700
    assert ServeSettings.from_environment(env) == ServeSettings(tmp_path / "not" / "there" / "inbox")
    named = env | {"LINKSPAN_INBOX": "/a/b", "LINKSPAN_ROUTES": "/c.toml"}
    assert ServeSettings.from_environment(named) == ServeSettings(Path("/a/b"), Path("/c.toml"))


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    file = routes_file(tmp_path, {"git": fields()})
    with serving(tmp_path, environment(tmp_path), file) as receiver:
        command = [sys.executable, "-m", "linkspan", "serve", "--routes", str(file)]
        command += ["--inbox", str(tmp_path / "other"), "--port", str(receiver.port)]
        log = tmp_path / "second.log"
        second = Child("second", command, log=log, env=receiver.env, cwd=ROOT)
        assert second._popen.wait(240) == 2
    assert "cannot listen" in log.read_text()


def test_any_asgi_server_serves_the_factory(tmp_path: Path, fake: PrefectFake) -> None:
    fake.blocks["git"] = fields("a/x")
    env = environment(tmp_path, fake.api_url) | {"LINKSPAN_INBOX": str(tmp_path / "inbox")}
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "linkspan.webhooks.serve:app",
        "--factory",
        "--port",
        str(port),
    ]
    receiver = Serving(tmp_path, env, port=port)
    child = Child("uvicorn", command, log=tmp_path / "serve.log", env=env, cwd=ROOT)
    try:
        child.wait_until(receiver.ready, seconds=600)
        # This one has the usual limits; what it took too late to say so is known the next time.
        until(lambda: receiver.call(push()) == 202)
        until(lambda: fake.started() == {"a/x": 1})
    finally:
        child.stop()


class TestRealServer:
    """With blocks and deployments in Prefect itself."""

    async def test_a_block_is_a_route_as_soon_as_it_is_saved(
        self, engine_flows: PrefectServer, prefect_api: PrefectServer, tmp_path: Path
    ) -> None:
        env = environment(tmp_path, engine_flows.api_url, engine_flows.auth.get_secret_value())
        name, word = f"git-{uuid4().hex[:8]}", uuid4().hex
        with serving(tmp_path, env) as receiver:
            assert receiver.call(push(word), name) == 401
            block: Block = WebhookSource(provider="github", secret=SecretStr(SECRET), start=[SCHEDULED])
            await block.asave(name)
            await asyncio.to_thread(until, lambda: receiver.call(push(word), name) == 202)
            until(lambda: receiver.states() == ["started"])
            [arrival] = recent(receiver.inbox)
            with engine_flows.api() as server:
                assert server.run(arrival.run_id).parameters["hint"] == arrival.text
                assert word in arrival.text
            await type(block).adelete(name)

            def gone() -> bool:
                # What was wrong with this one is why it looks.
                assert receiver.call(push(word), "unknown") == 401
                return receiver.call(push(word), name) == 401

            await asyncio.to_thread(until, gone)

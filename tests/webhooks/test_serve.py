"""`linkspan serve` as a process: killed, restarted, and with a Prefect server that comes and goes."""

import asyncio
import json
import os
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks import WebhookSource
from linkspan.errors import ConfigError, EngineUnavailable
from linkspan.processes import Child, free_port
from linkspan.webhooks import known_server, routes
from linkspan.webhooks.inbox_file import recent
from linkspan.webhooks.known_server import KnownServer
from linkspan.webhooks.routes import SavedRoutes, blocks_of, routes_in
from tests.services.prefect_server import PrefectServer
from tests.webhooks.prefect_fake import PASSWORD, Failure, PrefectFake, prefect_fake
from tests.webhooks.serving import SECRET, headers, push, raw, request

ROOT = Path(__file__).parents[2]
SCHEDULED = "test-scheduled/test"


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@dataclass
class Serving:
    """A receiver that is a process of its own."""

    folder: Path
    env: dict[str, str]
    routes: Path | None = None
    port: int = 0
    child: Child | None = None

    def start(self) -> "Serving":
        self.port = self.port or free_port()
        command = [sys.executable, "-m", "linkspan", "serve", "--port", str(self.port)]
        command += ["--inbox", str(self.inbox)]
        if self.routes:
            command += ["--routes", str(self.routes)]
        self.child = Child("receiver", command, log=self.folder / "serve.log", env=self.env, cwd=ROOT)
        self.child.wait_until(self.ready, seconds=30, every=0.05)
        return self

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def call(self, body: bytes, name: str = "git", secret: str = SECRET) -> int:
        url = f"http://127.0.0.1:{self.port}/hooks/{name}"
        return httpx.post(url, content=body, headers=headers(body, secret), timeout=20).status_code

    def states(self) -> list[str]:
        return sorted({each.state for each in recent(self.inbox, 10_000)})


@contextmanager
def serving(folder: Path, env: dict[str, str], routes: Path | None = None) -> Iterator[Serving]:
    folder.mkdir(exist_ok=True)
    made = Serving(folder, env, routes).start()
    try:
        yield made
    finally:
        if made.child:
            made.child.stop()


def environment(folder: Path, api_url: str = "", auth: str = PASSWORD) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"LINKSPAN_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    return env | ({"PREFECT_API_URL": api_url, "PREFECT_API_AUTH_STRING": auth} if api_url else {})


def fields(*start: str, **more: str) -> dict[str, Any]:
    return {"provider": "github", "secret": SECRET, "start": list(start) or ["a/x"], **more}


def routes_file(folder: Path, found: dict[str, dict[str, Any]]) -> Path:
    file = folder / "routes.json"
    file.write_text(json.dumps(found))
    return file


@pytest.fixture
def fake() -> Iterator[PrefectFake]:
    with prefect_fake() as fake:
        yield fake


def test_from_the_wire_to_a_run_and_a_clean_end(tmp_path: Path, fake: PrefectFake) -> None:
    fake.blocks["git"] = fields("a/x")
    with serving(tmp_path, environment(tmp_path, fake.api_url)) as receiver:
        assert receiver.call(push()) == 202
        until(lambda: receiver.states() == ["started"])
        assert receiver.child
        receiver.child._popen.send_signal(signal.SIGTERM)
        assert receiver.child._popen.wait(20) == 0
    assert fake.started() == {"a/x": 1}
    assert "202 accepted git from 127.0.0.1: push by ada" in receiver.log
    assert "a/x started as run-0" in receiver.log
    assert "stopped" in receiver.log
    assert "Traceback" not in receiver.log
    assert SECRET not in receiver.log
    assert PASSWORD not in receiver.log


def test_at_its_end_it_finishes_the_request_and_the_start_that_are_under_way(
    tmp_path: Path, fake: PrefectFake
) -> None:
    fake.blocks["git"] = fields("a/x")
    called = threading.Event()

    def slow(_method: str, path: str) -> Failure | None:
        if "create_flow_run" in path:
            called.set()
            time.sleep(1.0)
        return None

    fake.fail = slow
    with serving(tmp_path, environment(tmp_path, fake.api_url)) as receiver, ThreadPoolExecutor(1) as pool:
        body = push(1)
        lines = [f"{name}: {value}" for name, value in headers(body).items()]
        head = request(b"", *lines, f"Content-Length: {len(body)}", length=False)
        under_way = pool.submit(raw, receiver.port, head, body[:20], body[20:], pause=0.7)
        assert receiver.call(push(0)) == 202
        assert called.wait(10)
        assert receiver.child
        receiver.child._popen.send_signal(signal.SIGTERM)
        assert under_way.result().startswith(b"HTTP/1.1 202")
        assert receiver.child._popen.wait(20) == 0
    found = {each.text[-5:]: each.state for each in recent(receiver.inbox)}
    assert found["Say 0"] == "started"
    assert found["Say 1"] in {"waiting", "started"}


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
                each.result(60)
        finally:
            stop.set()
        until(lambda: receiver.states() == ["started"])
    starts = fake.started()
    assert len(acknowledged) == count
    assert set(starts) == {f"flow/{number}" for number in range(count)}
    assert set(starts.values()) == {1}
    assert sum(fake.asked.values()) > count, "it was never killed between a run and its note"
    assert "Traceback" not in receiver.log


def test_with_the_server_away_hints_are_taken_also_after_a_restart(tmp_path: Path) -> None:
    state = PrefectFake(port=free_port())
    state.blocks["git"] = fields("a/x")
    env = environment(tmp_path, state.api_url)
    with prefect_fake(state.port, state), serving(tmp_path, env) as receiver:
        assert receiver.call(push(0)) == 202
        until(lambda: receiver.states() == ["started"])
    cache = receiver.inbox / "routes.json"
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


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    file = routes_file(tmp_path, {"git": fields()})
    with serving(tmp_path, environment(tmp_path), file) as receiver:
        command = [sys.executable, "-m", "linkspan", "serve", "--routes", str(file)]
        command += ["--inbox", str(tmp_path / "other"), "--port", str(receiver.port)]
        log = tmp_path / "second.log"
        second = Child("second", command, log=log, env=receiver.env, cwd=ROOT)
        assert second._popen.wait(30) == 2
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
        child.wait_until(receiver.ready, seconds=30)
        assert receiver.call(push()) == 202
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
            await asyncio.sleep(routes.LEAST_SECONDS)
            assert receiver.call(push(word), name) == 202
            until(lambda: receiver.states() == ["started"])
            [arrival] = recent(receiver.inbox)
            with engine_flows.engine() as engine:
                assert engine.run(arrival.run_id).parameters["hint"] == arrival.text
                assert word in arrival.text
            await type(block).adelete(name)
            await asyncio.sleep(routes.LEAST_SECONDS)
            # What was wrong with this one is why it looks.
            assert receiver.call(push(word), "unknown") == 401
            assert receiver.call(push(word), name) == 401


class TestRoutes:
    """Where they come from."""

    def test_a_block_that_is_wrong_is_said_without_its_secret_and_holds_up_nobody(self) -> None:
        said: list[str] = []
        found = {
            "good": fields(),
            "short": fields(secret="s3cr3t"),
            "who": fields(provider="sourceforge"),
            "empty": {"provider": "github"},
            "nothing": fields() | {"start": []},
            "types": {"provider": 1, "secret": [SECRET], "start": "a/x"},
        }
        routes = SavedRoutes(lambda: found, say=said.append)
        assert routes.renew()
        assert [name for name in found if routes.get(name)] == ["good"]
        assert len([line for line in said if "is not served" in line]) == 5
        assert not [line for line in said if SECRET in line or "s3cr3t" in line]

    def test_while_nobody_can_tell_the_known_ones_go_on_and_that_is_said_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(routes, "LEAST_SECONDS", -1)
        said: list[str] = []
        away = EngineUnavailable("away")
        answers: Iterator[dict[str, Any] | EngineUnavailable] = iter([{"git": fields()}, away, away, {}])

        def fetch() -> dict[str, Any]:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        saved = SavedRoutes(fetch, say=said.append)
        for known in (True, True, True, False):
            saved.renew()
            assert bool(saved.get("git")) is known
        assert len([line for line in said if "away" in line]) == 1

    @pytest.mark.parametrize(
        "failure",
        [
            Failure(404),
            Failure(401),
            Failure(500),
            Failure(200, b"<html>Sign in</html>"),
            Failure(200, b"[1]"),
            Failure(200, b'[{"name": "git", "data": 1}]'),
            Failure(200, b'{"git": {}}'),
            Failure(how="drop"),
        ],
    )
    def test_whatever_is_answered_instead_of_blocks_changes_nothing(
        self, monkeypatch: pytest.MonkeyPatch, fake: PrefectFake, failure: Failure
    ) -> None:
        monkeypatch.setattr(routes, "LEAST_SECONDS", -1)
        fake.blocks["git"] = fields()
        saved = SavedRoutes(blocks_of(fake.engine))
        saved.renew()
        fake.fail = lambda _method, path: failure if "block_documents" in path else None
        saved.renew()
        assert saved.get("git")

    def test_nobody_looks_more_often_than_every_few_seconds(self) -> None:
        looked = []
        saved = SavedRoutes(lambda: looked.append(1) or {})  # type: ignore[func-returns-value]
        assert [saved.renew() for _ in range(100)] == [True] + [False] * 99
        assert len(looked) == 1

    @pytest.mark.parametrize("text", ["[", '[git]\nsecret = "unfinished', "git = 1", "\x00", "[a]\n" * 2])
    def test_a_file_that_is_wrong_is_said_without_its_text(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "routes.toml"
        file.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(str(file))) as caught:
            routes_in(file)()
        assert "unfinished" not in str(caught.value)

    def test_toml_and_json_say_the_same(self, tmp_path: Path) -> None:
        one, other = tmp_path / "a.toml", tmp_path / "a.json"
        one.write_text(f'[git]\nprovider = "github"\nsecret = "{SECRET}"\nstart = ["a/x"]\n')
        other.write_text(json.dumps({"git": fields()}))
        assert routes_in(one)() == routes_in(other)() == {"git": fields()}

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"git": 1}', b"\xff", b"[" * 100_000])
    def test_a_broken_cache_is_as_none(self, tmp_path: Path, content: bytes) -> None:
        cache = tmp_path / "routes.json"
        cache.write_bytes(content)
        saved = SavedRoutes(lambda: {"git": fields()}, cache=cache)
        saved.start()
        try:
            assert saved.get("git")
            until(lambda: json.loads(cache.read_bytes()) == {"git": fields()})
        finally:
            saved.stop()


def test_the_server_is_looked_up_again(monkeypatch: pytest.MonkeyPatch, fake: PrefectFake) -> None:
    monkeypatch.setattr(known_server, "LOOK_SECONDS", -1)
    with prefect_fake() as other:
        now: list[PrefectFake | None] = [None, fake, fake, None, other]

        def find() -> Any:
            found = now.pop(0)
            if found is None:
                raise ConfigError("no Prefect server is known")
            from linkspan.engine import Engine

            return Engine(found.api_url, SecretStr(PASSWORD))

        server = KnownServer(find)
        with pytest.raises(EngineUnavailable, match="no Prefect server is known"):
            server()
        first = server()
        assert first.api_url == fake.api_url
        assert server() is first
        assert server() is first, "what was known may come back"
        assert server().api_url == other.api_url
        assert first.version()
        first.close()
        server.close()

"""The REST client against a real server: nothing lost, nothing doubled, and refusals that say why."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from linkspan.errors import (
    ConfigError,
    RunFailed,
    ServerDenied,
    ServerError,
    ServerUnavailable,
    ServerUnknown,
)
from linkspan.local.home import Home, State
from linkspan.local.known import known_server
from linkspan.prefect_api import http
from linkspan.prefect_api import server as module
from linkspan.prefect_api.http import ServerHttp, refusal
from linkspan.prefect_api.server import LogLine, Run, Server
from linkspan.processes import free_port
from tests.services.prefect_server import AUTH, PrefectServer, asked
from tests.waiting import until

SCHEDULED = "test-scheduled/test"


@pytest.fixture
def server(engine_flows: PrefectServer) -> Iterator[Server]:
    with engine_flows.api() as server:
        yield server


def test_a_key_starts_one_run(server: Server) -> None:
    key = uuid4().hex
    first = server.start(SCHEDULED, {"word": "a"}, idempotency_key=key)
    again = server.start(SCHEDULED, {"word": "b"}, idempotency_key=key)
    other = server.start(SCHEDULED, {"word": "c"}, idempotency_key=uuid4().hex)
    assert first.created
    assert not again.created
    assert again.id == first.id != other.id
    run = server.run(first.id)
    assert (run.state_type, run.parameters) == ("SCHEDULED", {"word": "a"})
    assert first.url.startswith(server.ui_url)


def test_concurrent_calls_with_one_key_start_one_run(server: Server) -> None:
    key = uuid4().hex

    def start(_: int) -> str:
        with Server(server.api_url, AUTH) as own:
            return own.start(SCHEDULED, {}, idempotency_key=key).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(16)))) == 1


def test_a_parameter_the_flow_does_not_take_is_refused_by_name(server: Server) -> None:
    with pytest.raises(ServerError, match="wrod"):
        server.start(SCHEDULED, {"wrod": "a"}, idempotency_key=uuid4().hex)


def test_a_parameter_of_the_wrong_type_is_refused_in_the_servers_words(server: Server) -> None:
    with pytest.raises(ServerError, match=r"(?s)refused it.*is not of type"):
        server.start(SCHEDULED, {"word": {"not": "a word"}}, idempotency_key=uuid4().hex)


def test_a_missing_deployment_is_said_at_once(server: Server) -> None:
    begin = time.monotonic()
    with pytest.raises(ServerError, match="deployment test-scheduled/nowhere is not on"):
        server.start("test-scheduled/nowhere", {}, idempotency_key="k", patience=300)
    assert time.monotonic() - begin < 240


@pytest.mark.parametrize("name", ["nothing", "/x", "x/", ""])
def test_a_deployment_has_two_names(server: Server, name: str) -> None:
    with pytest.raises(ConfigError, match="names no deployment"):
        server.start(name, {}, idempotency_key="k")


def test_a_wrong_password_is_refused_and_not_repeated_in_the_error(server: Server) -> None:
    with Server(server.api_url, SecretStr("linkspan:wr0ng")) as stranger:
        until(stranger.ready)
        with pytest.raises(ServerDenied) as caught:
            stranger.start(SCHEDULED, {}, idempotency_key="k")
    assert "PREFECT_API_AUTH_STRING" in str(caught.value)
    assert "wr0ng" not in f"{caught.value!r} {caught.value}"


def test_a_server_that_is_away_is_waited_for_as_long_as_was_said() -> None:
    with Server(f"http://127.0.0.1:{free_port()}/api") as nowhere:
        assert not nowhere.ready()
        begin = time.monotonic()
        with pytest.raises(ServerUnavailable, match="cannot be reached"):
            nowhere.start("a/b", {}, idempotency_key="k", patience=1.5)
        assert 1.5 <= time.monotonic() - begin < 240


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ServerDenied),
        (403, ServerDenied),
        (404, ServerError),
        (409, ServerError),
        (429, ServerUnavailable),
    ]
    + [(status, ServerUnavailable) for status in (500, 502, 503, 504)],
)
def test_what_an_answer_means(status: int, kind: type[ServerError]) -> None:
    error = refusal(httpx.Response(status, json={"detail": "because"}), "a thing", "http://server/api")
    assert type(error) is kind
    assert error.retriable is (kind is ServerUnavailable)


@contextmanager
def unsteady(
    *, stalls: int = 0, hang_ups: int = 0, stalled: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """A server that leaves the first so many requests to each path without an answer, and what was asked.

    It says nothing, but calls `stalled`, or hangs up. Of what was asked: the path, and the port at the other
    end.
    """
    asked: list[tuple[str, int]] = []
    released = threading.Event()

    class Unsteady(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.path, self.client_address[1]))
            times = sum(path == self.path for path, _ in asked)
            if times <= hang_ups:
                self.close_connection = True
                return
            if times <= stalls:
                stalled()
                released.wait(240)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            with suppress(OSError):  # whoever asked first has gone
                self.wfile.write(b"[]")

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Unsteady)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        released.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("ways", "says"), [({"stalls": 1}, "timed out"), ({"hang_ups": 1}, "without sending a response")]
)
def test_an_unsteady_server_is_asked_once_more_what_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, ways: dict[str, int], says: str
) -> None:
    def patience(seconds: float) -> None:
        monkeypatch.setattr(http, "REQUEST_SECONDS", seconds)

    # Of a question and its repetition only the one that nobody answers has to be short.
    with (
        unsteady(**ways, stalled=lambda: patience(240)) as (url, asked),
        closing(ServerHttp(url, None, None)) as client,
    ):
        for method, path in (("GET", "one"), ("POST", "things/filter")):
            patience(3)
            assert client.request(method, path, seconds=600).json() == []
        patience(3)
        with pytest.raises(ServerUnavailable, match=says):
            client.request("POST", "things", {})
        assert Counter(path for path, _ in asked) == {"/one": 2, "/things/filter": 2, "/things": 1}


def test_a_connection_is_not_kept_until_the_server_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http.IDLE_SECONDS < 5, "uvicorn's default, and so that of any Prefect server"
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.1)
    with unsteady() as (url, asked), closing(ServerHttp(url, None, None)) as client:

        def connections() -> int:
            client.get("one")
            return len({port for _, port in asked})

        until(lambda: connections() > 1, what="another connection")


def test_a_server_that_never_answers_is_waited_for_as_long_as_was_said() -> None:
    with unsteady(stalls=100) as (url, asked), Server(url) as server:
        begin = time.monotonic()
        with pytest.raises(ServerUnavailable, match="timed out"):
            server.start("a/b", {}, idempotency_key="k", patience=2)
        assert 2 <= time.monotonic() - begin < http.REQUEST_SECONDS, "one question alone may take that long"
    assert asked


def test_what_answers_is_no_prefect_server(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html>Sign in</html>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with (
            closing(ServerHttp(url, None, None)) as client,
            pytest.raises(ServerUnknown, match=r"expected JSON.*text/html"),
        ):
            client.get("")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ConfigError, match="is no URL"):
        Server("http://[::1/api")


def test_deployments_and_the_parts_of_one(server: Server) -> None:
    found = {each.name: each for each in server.deployments()}
    assert found[SCHEDULED] == server.deployment(SCHEDULED)
    assert found[SCHEDULED].tags == ("linkspan",)
    assert found[SCHEDULED].queue == "test-scheduled"


def test_a_password_in_the_address_is_used_and_never_shown(server: Server) -> None:
    host = server.api_url.removeprefix("http://")
    user, _, password = AUTH.get_secret_value().partition(":")
    with Server(f"http://{user}:{password}@{host}") as own:
        assert own.version()
        assert password not in own.api_url
    with (
        Server(f"http://{user}:wr0ng-one@{host}") as stranger,
        pytest.raises(ServerDenied) as refused,
    ):
        stranger.version()
    assert "wr0ng-one" not in str(refused.value)


def test_the_version_proves_the_password(server: Server) -> None:
    assert server.version().startswith("3.")


def test_automations_are_listed(server: Server) -> None:
    assert "linkspan: a crashed run starts again" in {each["name"] for each in server.automations()}


def test_recent_runs_are_of_one_deployment_and_not_of_the_future(server: Server) -> None:
    ref = server.start(SCHEDULED, {"word": "recent"}, idempotency_key=uuid4().hex)
    runs = server.recent_runs(SCHEDULED, limit=50)
    assert ref.id in {run.id for run in runs}
    assert {run.deployment_id for run in runs} == {server.deployment(SCHEDULED).id}
    assert server.recent_runs("test-wait/nowhere") == []


def test_a_run_that_waits_is_cancelled_at_once(server: Server) -> None:
    ref = server.start(SCHEDULED, {}, idempotency_key=uuid4().hex)
    server.set_state(ref.id, "CANCELLING", "Cancelling")
    run = server.run(ref.id)
    assert run.state_type == "CANCELLED"
    assert isinstance(run.failure, RunFailed)
    assert "Cancelled" in run.failure.what


def test_a_run_can_be_put_back_into_its_queue(server: Server) -> None:
    ref = server.start(SCHEDULED, {}, idempotency_key=uuid4().hex)
    server.set_state(ref.id, "CANCELLING", "Cancelling")
    assert server.requeue(ref.id, "once more")
    run = server.run(ref.id)
    assert (run.state_type, run.state_name, run.message) == ("SCHEDULED", "AwaitingRetry", "once more")


def test_an_event_reaches_the_feed(server: Server) -> None:
    resource = f"linkspan.app.{uuid4().hex}"
    server.emit("linkspan.test.event", resource, {"n": 1}, name="x")
    wanted = {"filter": {"resource": {"id": [resource]}}}
    events = until(lambda: asked(server.api_url, AUTH, "POST", "events/filter", wanted).json()["events"])
    assert [(each["event"], each["payload"]) for each in events] == [("linkspan.test.event", {"n": 1})]


@pytest.mark.calm
def test_following_a_run_shows_states_and_log_and_ends_with_the_last_state(
    own_prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 240)
    seen: list[Run | LogLine] = []
    with own_prefect_server.worker(), own_prefect_server.api() as server:
        ref = server.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)
        for each in server.follow(ref.id, every=0.05):
            seen.append(each)
            if isinstance(each, Run) and each.state_name == "Running":
                (tmp_path / "go").touch()
    states = [each.state_name for each in seen if isinstance(each, Run)]
    lines = [each.message for each in seen if isinstance(each, LogLine)]
    assert states[-2:] == ["Running", "Completed"]
    assert lines.count("it may go") == 1
    assert isinstance(seen[-1], Run)


@pytest.mark.calm
def test_a_killed_server_loses_no_run_and_doubles_none(own_prefect_server: PrefectServer) -> None:
    """PREFECT.md, "Starting runs": the reason why there is no other way to start one."""
    keys = [f"burst-{number}" for number in range(40)]
    begun = threading.Event()

    def start(key: str) -> str:
        with own_prefect_server.api() as own:
            if key == keys[10]:
                begun.set()
            return own.start("test-wait/test", {"folder": key}, idempotency_key=key, patience=600).id

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(start, key) for key in keys]
        assert begun.wait(240)
        own_prefect_server.child.kill()
        own_prefect_server.start()
        ids = [each.result() for each in asked]
    with own_prefect_server.api() as server:
        runs = server.recent_runs("test-wait/test", limit=200)
    assert sorted(run.parameters["folder"] for run in runs) == sorted(keys)
    assert {run.id for run in runs} == set(ids)


class TestEnvironment:
    """Which server is meant."""

    def test_the_variable_wins(self, tmp_path: Path) -> None:
        env = {"PREFECT_API_URL": "http://a.example/api/", "LINKSPAN_HOME": str(tmp_path)}
        assert known_server(env).api_url == "http://a.example/api"

    def test_else_the_state_file_and_its_password(
        self, prefect_server: PrefectServer, tmp_path: Path
    ) -> None:
        home = Home(tmp_path)
        home.auth()
        home.auth_file.write_text(prefect_server.auth.get_secret_value() + "\n")
        state = State(api_url=prefect_server.api_url, ui_url="", pid=os.getpid(), pids={}, auth_file="")
        home.write_state(state)
        assert known_server({"LINKSPAN_HOME": str(tmp_path)}).version().startswith("3.")

    def test_else_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="linkspan up"):
            known_server({"LINKSPAN_HOME": str(tmp_path)})

    def test_a_broken_state_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "state.json").write_text('{"api_url": 1}')
        with pytest.raises(ConfigError, match=r"state\.json"):
            known_server({"LINKSPAN_HOME": str(tmp_path)})

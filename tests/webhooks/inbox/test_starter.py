"""From the inbox to runs: each batch once, whatever the server does, and nobody held up by another."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from linkspan.errors import ConfigError
from linkspan.prefect_api.server import Server
from linkspan.processes import free_port
from linkspan.webhooks.base import Hint
from linkspan.webhooks.inbox import starter as starter_module
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import recent
from linkspan.webhooks.inbox.starter import Starter
from tests.memory import traced
from tests.services.prefect_server import PrefectServer
from tests.waiting import until
from tests.webhooks.prefect_fake import Failure, PrefectFake, prefect_fake

SCHEDULED = "test-scheduled/test"


@contextmanager
def starting(
    inbox: Inbox, server: Callable[[], Server], *, gather: float = 0.0, said: list[str] | None = None
) -> Iterator[Starter]:
    say = said.append if said is not None else (lambda _line: None)
    with Starter(inbox, server, gather=gather, say=say) as starter:
        yield starter


def told(inbox: Inbox, *deployments: str, text: str = "push", key: str = "") -> None:
    hint = Hint(key=key or uuid4().hex, text=text)
    inbox.put("git", deployments, [hint], datetime.now(UTC)).result(240)


def runs_of(inbox: Inbox) -> set[str]:
    return {each.run_id for each in recent(inbox.folder, 1000)}


def states(inbox: Inbox) -> list[str]:
    return sorted({each.state for each in recent(inbox.folder, 100_000)})


def test_a_hint_starts_every_deployment_of_its_source_once(inbox: Inbox, fake: PrefectFake) -> None:
    with starting(inbox, fake.server):
        told(inbox, "a/x", "b/y", text="push by Ada", key="k")
        told(inbox, "a/x", "b/y", text="push by Ada", key="k")
        until(lambda: states(inbox) == ["started"])
    assert fake.started() == {"a/x": 1, "b/y": 1}
    assert [run["parameters"] for run in fake.runs.values()] == [{"hint": "push by Ada"}] * 2


class Clock:
    """In the place of the starter's `time`: a clock that a test puts forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def test_the_first_starts_at_once_and_those_after_it_share_the_next(
    inbox: Inbox, fake: PrefectFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(starter_module, "time", clock)
    with starting(inbox, fake.server, gather=3600) as starter:
        told(inbox, "a/x", text="first")
        until(lambda: fake.started()["a/x"] == 1 and starter.idle)
        for number in range(20):
            told(inbox, "a/x", text=f"more {number}")
        assert fake.started()["a/x"] == 1
        clock.ahead = 3600
        starter.wake(set())
        until(lambda: states(inbox) == ["started"])
    texts = [run["parameters"]["hint"] for run in fake.runs.values()]
    assert texts == ["first", "more 19 (and 19 more)"]


def test_the_feed_is_told_of_each_hint(inbox: Inbox, fake: PrefectFake) -> None:
    with starting(inbox, fake.server):
        told(inbox, "a/x", text="push by Ada")
        until(lambda: len(fake.events) == 1)
    [event] = fake.events
    assert event["event"] == "linkspan.webhook.accepted"
    assert event["resource"]["prefect.resource.id"] == "linkspan.webhook.git"
    assert event["payload"]["hint"] == "push by Ada"


def failing(path_part: str, *failures: Failure) -> Callable[[str, str], Failure | None]:
    """Fail so many requests in a row, one in each way, then let all pass."""
    left = list(failures)
    lock = threading.Lock()

    def fail(_method: str, path: str) -> Failure | None:
        with lock:
            return left.pop(0) if left and path_part in path else None

    return fail


PASSING = {
    **{str(status): Failure(status) for status in (408, 425, 429, 500, 502, 503, 504)},
    "401": Failure(401),
    "403": Failure(403),
    "dropped": Failure(how="drop"),
    "reset": Failure(how="reset"),
    "done, but nobody heard": Failure(how="late"),
    "a page of somebody else's": Failure(200, b"<html>Sign in</html>"),
    "nothing": Failure(200, b""),
    "half": Failure(200, b'{"id": "x", "na'),
    "a list": Failure(200, b"[]"),
    "null": Failure(200, b"null"),
    "no name": Failure(201, b"{}"),
    "wrong types": Failure(201, b'{"id": 1, "name": null}'),
    "not UTF-8": Failure(200, b"\xff\xfe"),
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING.keys())
def test_what_passes_by_itself_is_tried_again_and_starts_one_run(
    inbox: Inbox, fake: PrefectFake, failure: Failure
) -> None:
    fake.fail = failing("create_flow_run", failure)
    with starting(inbox, fake.server):
        told(inbox, "a/x")
        until(lambda: states(inbox) == ["started"])
    assert fake.started() == {"a/x": 1}


def test_all_of_it_in_a_row_wherever_it_happens(inbox: Inbox, fake: PrefectFake) -> None:
    row = [PASSING[name] for name in ("dropped", "403", "half", "500")]
    fake.fail = failing("deployments/", *row)
    with starting(inbox, fake.server):
        told(inbox, "a/x")
        until(lambda: states(inbox) == ["started"])
    assert fake.started() == {"a/x": 1}


def test_a_404_of_whatever_stands_in_front_of_a_server_that_is_away_is_no_refusal(
    inbox: Inbox, fake: PrefectFake
) -> None:
    fake.fail = lambda _method, _path: Failure(404)
    said: list[str] = []
    with starting(inbox, fake.server, said=said):
        told(inbox, "a/x")
        until(lambda: bool(said))
        assert states(inbox) == ["asked"]
        fake.fail = lambda _method, _path: None
        until(lambda: states(inbox) == ["started"])


REFUSALS: dict[str, tuple[str, Callable[[PrefectFake], None]]] = {
    "no such deployment": ("a/missing", lambda _fake: None),
    "no name": ("nonsense", lambda _fake: None),
    "it takes no hint": ("a/x", lambda fake: setattr(fake, "parameters", ("word",))),
    "409": ("a/x", lambda fake: setattr(fake, "fail", failing("create_flow_run", Failure(409)))),
    "422": ("a/x", lambda fake: setattr(fake, "fail", failing("create_flow_run", Failure(422)))),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_no_retry_mends_is_kept_with_its_reason_and_holds_up_nobody(
    inbox: Inbox, fake: PrefectFake, refusal: str
) -> None:
    deployment, prepare = REFUSALS[refusal]
    prepare(fake)
    said: list[str] = []
    with starting(inbox, fake.server, said=said):
        told(inbox, deployment, text="bad")
        until(lambda: states(inbox) == ["failed"])
        fake.parameters = ("hint",)
        told(inbox, "b/y", text="good")
        until(lambda: fake.started()["b/y"] == 1)
    [bad] = [each for each in recent(inbox.folder) if each.text == "bad"]
    assert bad.state == "failed"
    assert bad.reason
    assert any("NOT started" in line and "bad" in line for line in said)


def test_one_that_the_server_stumbles_over_holds_up_nobody_else(inbox: Inbox, fake: PrefectFake) -> None:
    fake.fail = lambda _method, path: Failure(500) if "a~x" in path else None
    with starting(inbox, fake.server):
        told(inbox, "a/x")
        until(lambda: fake.asked["a/x"] == 0 and states(inbox) == ["asked"])
        for number in range(10):
            told(inbox, f"b/{number}")
        until(lambda: len(fake.started()) == 10)
        fake.fail = lambda _method, _path: None
        until(lambda: fake.started()["a/x"] == 1)


def test_a_server_that_is_away_is_waited_for_and_seldom_asked(inbox: Inbox) -> None:
    port = free_port()
    state = PrefectFake(port=port)
    said: list[str] = []
    with starting(inbox, state.server, said=said):
        for number in range(50):
            told(inbox, f"a/{number}", text=f"push {number}")
        until(lambda: bool(said))
        assert set(states(inbox)) <= {"asked", "waiting"}
        with prefect_fake(port, state):
            until(lambda: states(inbox) == ["started"])
    assert set(state.started().values()) == {1}
    assert len(state.started()) == 50
    back = next(number for number, line in enumerate(said) if "is back after" in line)
    # A machine that stands still may add lines about single calls.
    assert ["cannot be reached" in line for line in said[:back] if "Hints are kept" in line] == [True]


def test_what_comes_while_a_batch_waits_for_the_server_is_the_next_batch(inbox: Inbox) -> None:
    state = PrefectFake(port=free_port())
    with starting(inbox, state.server, gather=0.2):
        told(inbox, "a/x", text="first")
        until(lambda: states(inbox) == ["asked"])
        for number in range(5):
            told(inbox, "a/x", text=f"later {number}")
        with prefect_fake(state.port, state):
            until(lambda: states(inbox) == ["started"])
    assert [run["parameters"]["hint"] for run in state.runs.values()] == ["first", "later 4 (and 4 more)"]


def test_no_server_known_at_all_is_one_that_is_away(inbox: Inbox, fake: PrefectFake) -> None:
    known = threading.Event()

    def server() -> Server:
        if not known.is_set():
            raise ConfigError("no Prefect server is known", fix="run `linkspan up`")
        return fake.server()

    said: list[str] = []
    with starting(inbox, server, said=said):
        told(inbox, "a/x")
        until(lambda: bool(said))
        known.set()
        until(lambda: states(inbox) == ["started"])
    assert "no Prefect server is known" in said[0]


def test_what_a_stopped_receiver_left_is_started_by_the_next(tmp_path: Path, fake: PrefectFake) -> None:
    with Inbox(tmp_path) as inbox:
        told(inbox, "asked/x", text="asked")
        inbox.take("asked/x").result(240)
        told(inbox, "asked/x", text="came later")
        told(inbox, "waits/x", text="waits")
    with Inbox(tmp_path) as again, starting(again, fake.server):
        until(lambda: states(again) == ["started"])
    assert fake.started() == {"asked/x": 2, "waits/x": 1}


def test_killed_between_the_run_and_its_note_there_is_one_run(tmp_path: Path, fake: PrefectFake) -> None:
    with Inbox(tmp_path) as inbox:
        told(inbox, "a/x")
        batch = inbox.take("a/x").result(240)
        assert batch
        fake.server().start("a/x", {"hint": batch.text}, idempotency_key=batch.key)
    said: list[str] = []
    with Inbox(tmp_path) as again, starting(again, fake.server, said=said):
        until(lambda: states(again) == ["started"])
    assert fake.started() == {"a/x": 1}
    assert fake.asked["a/x"] >= 2
    assert any("it was known there already" in line for line in said)


def test_a_full_disk_does_not_stop_it(inbox: Inbox, fake: PrefectFake) -> None:
    with starting(inbox, fake.server):
        told(inbox, "a/x")
        until(lambda: states(inbox) == ["started"])
        inbox._database.execute("PRAGMA query_only = 1")  # every write fails from now on
        inbox.arrived({"b/y"})
        time.sleep(0.5)
        inbox._database.execute("PRAGMA query_only = 0")
        told(inbox, "b/y")
        until(lambda: states(inbox) == ["started"])
    assert fake.started() == {"a/x": 1, "b/y": 1}


def test_stopping_finishes_the_call_that_is_under_way(
    inbox: Inbox, fake: PrefectFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter_module, "PATIENCE", 600)
    slow = threading.Event()

    def fail(_method: str, path: str) -> Failure | None:
        if "create_flow_run" in path:
            slow.set()
            time.sleep(0.5)
        return None

    fake.fail = fail
    starter = Starter(inbox, fake.server)
    starter.start()
    told(inbox, "a/x")
    assert slow.wait(240)
    starter.stop(600)
    assert states(inbox) == ["started"]
    told(inbox, "a/x")
    assert states(inbox) == ["started", "waiting"]


@pytest.mark.slow
def test_a_storm(inbox: Inbox, fake: PrefectFake) -> None:
    """10,000 hints for 100 deployments, 30 % told twice, shuffled: all are started, and seldom."""
    keys = [(f"k{number % 7000}", f"flow/{number % 7000 % 100}") for number in range(10_000)]
    random.Random(4).shuffle(keys)
    begin = time.monotonic()
    with starting(inbox, fake.server, gather=2.0) as starter:
        futures = [
            inbox.put("git", [deployment], [Hint(key=key, text=f"push {key}")], datetime.now(UTC))
            for key, deployment in keys
        ]
        assert sum(bool(future.result(240)) for future in futures) == 7000
        acknowledged = time.monotonic() - begin
        with traced() as peak:
            until(lambda: starter.idle, seconds=1200)
            assert states(inbox) == ["started"]
            seconds = time.monotonic() - begin
            assert peak() < 20_000_000
    starts = fake.started()
    print(  # noqa: T201
        f"10,000 hints: acknowledged in {acknowledged:.1f} s, all started in {seconds:.1f} s with "
        f"{starts.total()} runs, at most {max(starts.values())} for a deployment"
    )
    assert len(starts) == 100
    # One at once, and one for each two seconds in which more came.
    assert max(starts.values()) <= 2 + seconds / 2


class TestRealServer:
    """The same against Prefect itself."""

    def test_a_hint_becomes_a_run_with_its_text(self, inbox: Inbox, engine_flows: PrefectServer) -> None:
        text = f"push {uuid4().hex}"
        with engine_flows.api() as server, starting(inbox, lambda: server):
            told(inbox, SCHEDULED, text=text, key="k")
            told(inbox, SCHEDULED, text=text, key="k")
            until(lambda: states(inbox) == ["started"])
        [arrival] = recent(inbox.folder)
        with engine_flows.api() as server:
            run = server.run(arrival.run_id)
            runs = server.recent_runs(SCHEDULED, limit=200)
        assert run.parameters["hint"] == text
        assert sum(each.parameters.get("hint") == text for each in runs) == 1

    def test_a_deployment_that_is_not_there_is_said(self, inbox: Inbox, engine_flows: PrefectServer) -> None:
        with engine_flows.api() as server, starting(inbox, lambda: server):
            told(inbox, "test-scheduled/nowhere")
            until(lambda: states(inbox) == ["failed"])
        assert "is not on the Prefect server" in recent(inbox.folder)[0].reason

    @pytest.mark.calm
    def test_killed_in_the_middle_of_a_burst_it_gets_every_batch_once(
        self, inbox: Inbox, own_prefect_server: PrefectServer
    ) -> None:
        with own_prefect_server.api() as one, starting(inbox, lambda: one):
            for attempt in range(3):
                known = runs_of(inbox)
                for number in range(20):
                    told(inbox, "test-wait/test", text=f"{attempt}.{number}")
                    told(inbox, SCHEDULED, text=f"burst {attempt}.{number}")
                    if number == 10:
                        until(lambda known=known: runs_of(inbox) > known)  # type: ignore[misc]
                own_prefect_server.child.kill()
                own_prefect_server.start()
            until(lambda: "waiting" not in states(inbox) and "asked" not in states(inbox))
        found = recent(inbox.folder, 1000)
        # test-wait takes no `hint`: refused, with the reason, while the others went on.
        assert {each.state for each in found if each.deployment == "test-wait/test"} == {"failed"}
        started = {each.run_id for each in found if each.deployment == SCHEDULED}
        with own_prefect_server.api() as server:
            runs = server.recent_runs(SCHEDULED, limit=200)
        ours = [run.id for run in runs if str(run.parameters.get("hint")).startswith("burst")]
        assert len(ours) == len(set(ours)) == len(started) >= 3
        assert set(ours) == started

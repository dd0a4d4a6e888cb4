"""`linkspan events` on a real feed: what is in it and what is not, in which words, and as it comes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from linkspan.cli.events import span
from linkspan.errors import ConfigError
from linkspan.prefect_api.server import Server
from tests.cli.shell import Result, shell
from tests.services.prefect_server import AUTH, PrefectServer
from tests.waiting import until


@pytest.fixture
def feed(worker_server: PrefectServer) -> Callable[..., Result]:
    def ask(*arguments: str) -> Result:
        for _ in range(10):
            told = shell("events", *arguments, COLUMNS="", **environment(worker_server))
            if told.code != 9:  # SQLite, on a machine that does something else too
                break
        return told

    return ask


def environment(server: PrefectServer) -> dict[str, str]:
    return {"PREFECT_API_URL": server.api_url, "PREFECT_API_AUTH_STRING": AUTH.get_secret_value()}


def test_what_arrived_and_what_it_started(worker_server: PrefectServer, feed: Callable[..., Result]) -> None:
    app, other = f"app-{uuid4().hex[:6]}", f"app-{uuid4().hex[:6]}"
    with worker_server.api() as api:
        for name in (app, other):
            told = {"hint": f"push by Ada to {name}", "deployment": f"app-stream/{name}", "run": "http://…"}
            api.emit("linkspan.webhook.accepted", "linkspan.webhook.github", told, name="github")
        model = {"name": "reader", "version": "v2", "app": app}
        api.emit("linkspan.model.published", "linkspan.model.reader", model)
        api.emit(
            "linkspan.release.failed",
            f"linkspan.app.{app}",
            {
                "title": "3fa9c1d + v2",
                "reason": "it\x1b[31m crashed\nwith code 7",
                "environment": "production",
            },
        )
        run = api.start("test-scheduled/test", {"hint": "push"}, idempotency_key=uuid4().hex)
        # The feed is written in batches.
        until(lambda: {"linkspan.release.failed", "prefect.flow-run.Scheduled"} <= names(api))
    found = feed("--app", app)
    lines = [line.split(maxsplit=1)[1] for line in found.out.splitlines()]
    assert lines == [
        f"webhook.accepted     github: push by Ada to {app} → app-stream/{app}",
        "model.published      reader v2",
        f"release.failed       {app}: 3fa9c1d + v2: it crashed with code 7",
    ]
    everything = feed()
    assert other in everything.out
    assert f"Scheduled            test-scheduled/test ({run.name})" in everything.out
    events = [json.loads(line) for line in feed("--json", "--limit", "1000").out.splitlines()]
    assert {"linkspan.webhook.accepted", "prefect.flow-run.Scheduled"} <= {each["name"] for each in events}
    assert [each["at"] for each in events] == sorted(each["at"] for each in events)


def names(api: Server) -> set[str]:
    found = api.events(("linkspan.", "prefect.flow-run."), since=datetime.now(UTC) - timedelta(hours=1))
    return {event.name for event in found}


def test_what_others_do_hides_nothing_of_an_app(
    worker_server: PrefectServer, feed: Callable[..., Result]
) -> None:
    """So many are shown, not so many looked at."""
    app, last = f"app-{uuid4().hex[:6]}", f"linkspan.test.{uuid4().hex}"
    with worker_server.api() as api:
        api.emit("linkspan.code.tested", f"linkspan.app.{app}", {"hint": "a push"})
        for number in range(60):  # more than the server gives at once
            api.emit("linkspan.code.tested", f"linkspan.app.other-{number}", {"hint": "another push"})
        api.emit(last, "linkspan.app.other", {})
        until(lambda: last in names(api))
    found = feed("--app", app, "--limit", "1")
    [line] = found.out.splitlines()
    assert line.endswith(f"{app}: a push")


def test_follow_shows_what_comes(worker_server: PrefectServer) -> None:
    command = [sys.executable, "-m", "linkspan", "events", "--follow", "--json", "--since", "1h"]
    with (
        worker_server.api() as api,
        subprocess.Popen(
            command, env={**os.environ, **environment(worker_server)}, stdout=subprocess.PIPE, text=True
        ) as child,
    ):
        try:
            assert child.stdout is not None
            for number in range(2):
                word = f"{number}-{uuid4().hex}"
                api.emit("linkspan.code.tested", "linkspan.app.x", {"hint": word})
                seen: dict[str, Any] = {}
                while seen.get("payload", {}).get("hint") != word:  # the session's time-out ends this
                    seen = json.loads(child.stdout.readline())
        finally:
            child.kill()


def test_nothing_is_said_as_nothing(feed: Callable[..., Result]) -> None:
    found = feed("--app", f"nobody-{uuid4().hex[:6]}")
    assert (found.code, found.out) == (0, "")
    assert "Nothing since 1h ago" in found.err


@pytest.mark.parametrize(
    ("text", "means"), [("30s", timedelta(seconds=30)), ("10m", timedelta(minutes=10)), ("7d", timedelta(7))]
)
def test_spans(text: str, means: timedelta) -> None:
    assert span(text) == means


@pytest.mark.parametrize("text", ["", "10", "-1h", "1w", "9999999999d"])
def test_spans_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="30s, 10m, 2h or 7d"):
        span(text)

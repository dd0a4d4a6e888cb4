"""Who waits for a release, whose seconds are counted, takes little from what makes it."""

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from demo import story
from linkspan.errors import SmokeFailed
from linkspan.nouns import Revision
from linkspan.prefect_api.values import Run
from tests.values import NOW, release, revision

OLD, NEW = revision(1, release(1, "1")), revision(2, release(1, "2"))


class Service(http.server.ThreadingHTTPServer):
    """An app that answers with what it is, and is another one after so many requests."""

    daemon_threads = True
    asked = 0
    old_for = 10


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked += 1
        answers = (OLD if self.server.asked <= self.server.old_for else NEW).release
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{answers.commit.sha} {answers.model.version}".encode())

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Parts:
    """A runtime, a registry and a Prefect server in one, which count how often they are asked."""

    service: Service
    failed: list[Run] = field(default_factory=list)
    lives: int = 0
    looks: int = 0
    ui_url: str = "the UI"

    def url(self, _: object) -> str:
        return f"http://127.0.0.1:{self.service.server_address[1]}"

    def live(self, _: object) -> Revision:
        self.lives += 1
        return OLD if self.service.asked <= self.service.old_for else NEW

    def recent_runs(self, **_: object) -> list[Run]:
        self.looks += 1
        return self.failed


@pytest.fixture
def parts() -> Iterator[Parts]:
    service = Service(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=service.serve_forever, args=(0.02,))
    thread.start()
    yield Parts(service)
    service.shutdown()
    thread.join()
    service.server_close()


def waited(parts: Parts) -> Revision:
    anything = cast(Any, parts)
    stage = story.Stage(anything, anything, anything)
    old = f"{OLD.release.commit.sha} {OLD.release.model.version}"
    before = story._Before(1, 0, frozenset(), stage.url, old)
    return story._wait(stage, before, time.monotonic(), lambda new: new.release.model.version == "2")


def test_the_engine_is_asked_when_the_service_answers_something_new(parts: Parts) -> None:
    begin = time.monotonic()
    assert waited(parts) == NEW
    assert parts.service.asked > parts.service.old_for
    assert parts.lives == 1
    assert parts.looks <= time.monotonic() - begin


def test_a_run_that_failed_ends_the_wait(parts: Parts) -> None:
    parts.service.old_for = 10**6
    says = "Flow run encountered an exception: SmokeFailed: it says 8"
    ended = {"id": "1", "name": "a run", "created": NOW, "state_type": "FAILED", "state": {"message": says}}
    parts.failed = [Run.of(ended, "the UI")]
    with pytest.raises(SmokeFailed, match="it says 8"):
        waited(parts)
    assert parts.lives == 0

"""Whose run the command line watches."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from linkspan.cli.context import Context
from linkspan.cli.follow import follow
from linkspan.errors import RunFailed
from linkspan.prefect_api.server import Run

MINE, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def run(number: str, state_type: str, state_name: str, message: str) -> Run:
    fields = dict.fromkeys(("deployment_id", "started", "ended"))
    return Run(
        id=number, name="a run", url=f"http://x/{number}", state_type=state_type, state_name=state_name,
        message=message, parameters={}, run_count=1, scheduled=False, created=datetime.now(UTC),
        **cast(Any, fields),
    )  # fmt: skip


def watching(*runs: Run) -> Context:
    known = {each.id: each for each in runs}

    def says(run_id: str) -> Iterator[Run]:
        yield known[run_id]

    return cast(Context, SimpleNamespace(server=SimpleNamespace(follow=says)))


def test_a_superseded_run_is_watched_as_the_one_that_does_it() -> None:
    message = f"Superseded by run digits: newest (really) commit ({OTHER})"
    mine = run(MINE, "CANCELLED", "Superseded", message)
    done = run(OTHER, "COMPLETED", "Completed", "live")
    assert follow(watching(mine, done), MINE).id == OTHER
    with pytest.raises(RunFailed, match="tests failed"):
        follow(watching(mine, run(OTHER, "FAILED", "Failed", "tests failed")), MINE)


def test_a_cancelled_run_is_an_error() -> None:
    with pytest.raises(RunFailed, match="ended as Cancelled"):
        follow(watching(run(MINE, "CANCELLED", "Cancelled", "by a person")), MINE)

"""Clocks that are a day ahead or behind, or jump: no hint is lost and none is taken for another."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from linkspan.webhooks.base import Hint
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import recent
from linkspan.webhooks.inbox.starter import Starter
from tests.skew import DAY, skewed
from tests.waiting import until
from tests.webhooks.prefect_fake import PrefectFake


def put(inbox: Inbox, key: str, deployment: str, at: datetime, said: datetime | None = None) -> bool:
    hint = Hint(key=key, text=f"push {key}", at=said)
    return bool(inbox.put("git", [deployment], [hint], at).result(240))


def test_what_is_told_again_is_known_whatever_any_clock_says(inbox: Inbox) -> None:
    """Of the sender, which says when it happened, and of this machine."""
    now = datetime.now(UTC)
    assert put(inbox, "k", "a/x", now, said=now)
    for by in (-DAY, DAY):
        assert not put(inbox, "k", "a/x", now + by, said=now + by)
        with skewed(by):
            assert not put(inbox, "k", "a/x", now, said=now)
    assert put(inbox, "k2", "a/x", now - DAY, said=now - DAY)
    batch = inbox.take("a/x").result(240)
    assert batch
    assert batch.text == "push k2 (and 1 more)"  # the last that came, though it is older by its time


def test_what_is_kept_for_thirty_days_is_kept_for_twenty_nine_by_a_wrong_clock(inbox: Inbox) -> None:
    now = datetime.now(UTC)
    for age in (0, 28.9, 29.5, 31.5):
        put(inbox, f"{age}", f"a/{age}", now - age * DAY)
    put(inbox, "waits", "b/y", now - 40 * DAY)
    for age in (0, 28.9, 29.5, 31.5):
        batch = inbox.take(f"a/{age}").result(240)
        assert batch
        inbox.failed(batch, "of this test").result(240)
    for by, left in ((-DAY, {0, 28.9, 29.5}), (DAY, {0, 28.9})):
        with skewed(by):
            inbox.forget().result(240)
        assert {each.text for each in recent(inbox.folder)} == {"push waits"} | {
            f"push {age}" for age in left
        }


def test_a_clock_that_jumps_between_two_calls_loses_nothing_and_doubles_nothing(
    inbox: Inbox, fake: PrefectFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NTP may set it, while hints come, are started and are forgotten, and over a restart."""
    right = time.time
    jumps = [timedelta(), DAY, -DAY, 30 * DAY, -30 * DAY, timedelta()]

    for number, by in enumerate(jumps):
        monkeypatch.setattr(time, "time", lambda by=by: right() + by.total_seconds())
        with skewed(by), Starter(inbox, fake.server, gather=0.0) as starter:
            for key in range(number + 1):
                # All that were told before are told again; one is new.
                assert put(inbox, f"{key}", f"a/{key}", datetime.now(UTC) + by) == (key == number)
            until(lambda: starter.idle)
            if abs(by) <= DAY:
                inbox.forget().result(240)
    assert fake.started() == {f"a/{number}": 1 for number in range(len(jumps))}
    assert {each.state for each in recent(inbox.folder)} == {"started"}

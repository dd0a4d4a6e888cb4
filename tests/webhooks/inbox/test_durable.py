"""The inbox: what was acknowledged is there after any death, once, and starts one run per batch."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from linkspan.errors import ConfigError, InboxUnavailable
from linkspan.prefect_api.values import RunRef
from linkspan.webhooks.base import Hint
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import FILE, recent
from tests.waiting import until

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RUN = RunRef(id="r1", name="busy-bee", url="http://prefect.example/r1", created=True)


def hint(key: str, text: str = "") -> Hint:
    return Hint(key=key, text=text or f"push {key}")


def put(inbox: Inbox, key: str, *deployments: str, source: str = "git", at: datetime = NOW) -> bool:
    return bool(inbox.put(source, deployments or ("a/x",), [hint(key)], at).result(240))


def test_the_same_key_of_a_source_is_one_hint(inbox: Inbox) -> None:
    assert put(inbox, "k")
    assert not put(inbox, "k")
    assert put(inbox, "k", source="other")
    assert put(inbox, "k2")


def test_which_of_several_were_new_is_said(inbox: Inbox) -> None:
    put(inbox, "1")
    new = inbox.put("git", ["a/x"], [hint("1"), hint("2"), hint("3")], NOW).result(240)
    assert [each.key for each in new] == ["2", "3"]


def test_a_duplicate_stays_one_after_its_run_was_started(inbox: Inbox) -> None:
    put(inbox, "k")
    batch = inbox.take("a/x").result(240)
    assert batch
    inbox.started(batch, RUN).result(240)
    assert not put(inbox, "k")
    assert inbox.take("a/x").result(240) is None


def test_all_that_waits_for_a_deployment_is_one_batch(inbox: Inbox) -> None:
    for number in range(5):
        put(inbox, f"k{number}", "a/x", "b/y")
    batch = inbox.take("a/x").result(240)
    assert batch
    assert (batch.hints, batch.text, batch.deployment) == (5, "push k4 (and 4 more)", "a/x")
    assert inbox.waiting().result(240) == ["b/y"]
    assert inbox.unfinished().result(240) == [batch]


def test_whoever_asks_again_asks_with_the_same_key(tmp_path: Path) -> None:
    """The exactly-once of the whole path: killed after the run was asked for, before that was noted."""
    with Inbox(tmp_path) as inbox:
        put(inbox, "k")
        batch = inbox.take("a/x").result(240)
    with Inbox(tmp_path) as again:
        assert again.unfinished().result(240) == [batch]
        assert batch
        again.started(batch, RUN).result(240)
        assert again.unfinished().result(240) == []


def test_a_new_inbox_never_uses_the_key_of_an_old_one(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        with Inbox(tmp_path / name) as inbox:
            put(inbox, "k")
            batch = inbox.take("a/x").result(240)
            assert batch
            keys.add(batch.key)
    assert len(keys) == 2


def test_told_again_starts_what_was_refused_before(inbox: Inbox) -> None:
    put(inbox, "k", "a/x", "b/y")
    for deployment in ("a/x", "b/y"):
        batch = inbox.take(deployment).result(240)
        assert batch
        if deployment == "a/x":
            inbox.failed(batch, "no such deployment").result(240)
        else:
            inbox.started(batch, RUN).result(240)
    assert put(inbox, "k", "a/x", "b/y")
    assert inbox.waiting().result(240) == ["a/x"]


def test_the_starter_hears_of_what_is_new_and_only_of_that(tmp_path: Path) -> None:
    heard: list[set[str]] = []
    with Inbox(tmp_path, arrived=heard.append) as inbox:
        put(inbox, "k", "a/x", "b/y")
        put(inbox, "k", "a/x", "b/y")
        put(inbox, "k2", "b/y")
    assert heard == [{"a/x", "b/y"}, {"b/y"}]


def test_what_is_old_and_done_is_forgotten_and_nothing_else(inbox: Inbox) -> None:
    old = NOW - timedelta(days=31)
    put(inbox, "done", at=old)
    done = inbox.take("a/x").result(240)
    assert done
    inbox.started(done, RUN).result(240)
    put(inbox, "asked", at=old)
    asked = inbox.take("a/x").result(240)
    put(inbox, "waiting", at=old)
    put(inbox, "new", "b/y")
    assert inbox.forget(NOW - timedelta(days=30)).result(240) == 1
    assert [each.text for each in recent(inbox.folder)] == ["push new", "push waiting", "push asked"]
    assert inbox.unfinished().result(240) == [asked]
    assert put(inbox, "done")


def test_recent_says_what_became_of_each(inbox: Inbox) -> None:
    for key in ("started", "failed", "asked", "waiting"):
        put(inbox, key)
        batch = inbox.take("a/x").result(240) if key != "waiting" else None
        if batch and key == "started":
            inbox.started(batch, RUN).result(240)
        if batch and key == "failed":
            inbox.failed(batch, "it takes no hint").result(240)
    found = recent(inbox.folder, 10)
    assert [each.state for each in found] == ["waiting", "asked", "failed", "started"]
    assert [each.reason for each in found] == ["", "", "it takes no hint", ""]
    assert found[3].run_url == RUN.url
    assert found[0].received == NOW
    assert len(recent(inbox.folder, 2)) == 2


def test_no_inbox_holds_nothing(tmp_path: Path) -> None:
    assert recent(tmp_path) == []


def test_only_its_owner_can_read_it(inbox: Inbox) -> None:
    put(inbox, "k")
    files = list(inbox.folder.iterdir())
    assert len(files) >= 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(inbox.folder.stat().st_mode) == 0o700


def test_it_is_written_through_to_the_disk(inbox: Inbox) -> None:
    assert inbox._database.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert inbox._database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_one_process_holds_it(inbox: Inbox) -> None:
    with pytest.raises(ConfigError, match="another receiver"):
        Inbox(inbox.folder, patience=0.1)


def test_the_next_one_waits_for_the_one_that_ends(tmp_path: Path) -> None:
    first = Inbox(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(Inbox, tmp_path, patience=600)
        assert put(first, "k")
        first.close()
        with second.result(240) as opened:
            assert opened.waiting().result(240) == ["a/x"]


def test_text_that_has_no_utf8_is_kept_readable(inbox: Inbox) -> None:
    assert inbox.put("git", ["a/x"], [Hint.model_construct(key="\ud800", text="a\udcff")], NOW).result(240)
    assert recent(inbox.folder)[0].text == "a\\udcff"


@pytest.mark.parametrize("damage", ["garbage", "page", "tables"])
def test_a_broken_file_is_set_aside_with_a_loud_line(tmp_path: Path, damage: str) -> None:
    with Inbox(tmp_path) as inbox:
        for number in range(300):
            put(inbox, f"k{number}")
    file = tmp_path / FILE
    data = bytearray(file.read_bytes())
    if damage == "garbage":
        file.write_bytes(os.urandom(5000))
    elif damage == "page":
        data[8192:12288] = os.urandom(4096)
        file.write_bytes(data)
    else:
        data[100:4096] = bytes(3996)
        file.write_bytes(data)
    said: list[str] = []
    with Inbox(tmp_path, say=said.append) as inbox:
        assert put(inbox, "k1")
    assert len(said) == 1
    assert "BROKEN" in said[0]
    assert list(tmp_path.glob(f"{FILE}.broken-*"))


def test_one_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with Inbox(tmp_path):
        pass
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(ConfigError, match="newer"):
        Inbox(tmp_path)
    assert not list(tmp_path.glob(f"{FILE}.broken-*"))


def test_a_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--inbox"):
        Inbox(tmp_path / "file")


def test_a_full_disk_refuses_and_takes_again_once_there_is_room(inbox: Inbox) -> None:
    """SQLite says SQLITE_FULL at its own limit of pages just as it does for the disk's."""
    assert put(inbox, "before")
    pages = inbox._database.execute("PRAGMA page_count").fetchone()[0]
    inbox._database.execute(f"PRAGMA max_page_count = {pages}")
    big = [Hint(key=f"k{number}", text="x" * 300) for number in range(500)]
    with pytest.raises(InboxUnavailable, match="full"):
        inbox.put("git", ["a/x"], big, NOW).result(240)
    assert [each.text for each in recent(inbox.folder)] == ["push before"]
    inbox._database.execute("PRAGMA max_page_count = 1000000")
    assert len(inbox.put("git", ["a/x"], big, NOW).result(240)) == 500


def test_one_that_was_removed_while_it_runs_is_there_again_with_all_it_held(inbox: Inbox) -> None:
    put(inbox, "before")
    shutil.rmtree(inbox.folder)
    put(inbox, "after")
    assert [each.text for each in recent(inbox.folder)] == ["push after", "push before"]
    with pytest.raises(ConfigError, match="another receiver uses"):
        Inbox(inbox.folder, patience=0)
    inbox.close()
    with Inbox(inbox.folder) as later:
        assert later.waiting().result(240) == ["a/x"]
        assert later.id == inbox.id


def test_one_that_was_replaced_while_it_runs_takes_nothing(inbox: Inbox, tmp_path: Path) -> None:
    with Inbox(tmp_path / "other") as other:
        put(other, "theirs")
    (tmp_path / "other" / FILE).replace(inbox.folder / FILE)
    with pytest.raises(InboxUnavailable, match="was replaced by another"):
        put(inbox, "k")


def test_no_mistake_ends_the_thread_that_writes(inbox: Inbox) -> None:
    def no_memory(_: sqlite3.Connection) -> None:
        raise MemoryError  # what sqlite3 raises for SQLITE_NOMEM

    with pytest.raises(InboxUnavailable):
        inbox._do(no_memory).result(240)
    assert put(inbox, "k")


def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.close()
    inbox.close()
    with pytest.raises(InboxUnavailable, match="closed"):
        put(inbox, "k")


def test_a_storm_is_written_in_groups(inbox: Inbox) -> None:
    """10,000 hints from many threads; 30 % are told twice. Each flush of the disk serves many."""
    keys = [f"k{number % 7000}" for number in range(10_000)]
    flushes = 0

    def count(statement: str) -> None:
        nonlocal flushes
        flushes += statement == "COMMIT"

    inbox._database.set_trace_callback(count)
    begin = time.monotonic()
    futures = [inbox.put("git", [f"d/{hash(key) % 100}"], [hint(key)], NOW) for key in keys]
    new = sum(bool(future.result(240)) for future in futures)
    seconds = time.monotonic() - begin
    print(f"10,000 hints in {seconds:.2f} s with {flushes} flushes")  # noqa: T201
    assert new == 7000
    assert flushes < 1000


WRITER = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from linkspan.webhooks.base import Hint
from linkspan.webhooks.inbox.durable import Inbox

inbox = Inbox(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    now = datetime.now(UTC)
    hints = [inbox.put("git", ["a/x"], [Hint(key=str(number + n), text="t")], now) for n in range(5)]
    for n, future in enumerate(hints):
        future.result()
        sys.stdout.write(f"{number + n}\\n")
    sys.stdout.flush()
    number += 5
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for attempt in range(5):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(attempt * 1_000_000)]
        lines: list[str] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            reader = threading.Thread(target=lines.extend, args=(child.stdout,))
            reader.start()
            until(lambda lines=lines: len(lines) > 50)  # type: ignore[misc]
            child.kill()
            reader.join()
        acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
    with Inbox(tmp_path) as inbox:
        batch = inbox.take("a/x").result(240)
        keys = [row[0] for row in inbox._database.execute("SELECT key FROM hints")]
    assert len(keys) == len(set(keys)) == (batch.hints if batch else 0)
    assert acknowledged <= set(keys)
    assert len(acknowledged) > 250

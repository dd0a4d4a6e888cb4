"""Machines whose clocks are a day apart release in turn: the newest pair is live, never an older one."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.world import World
from tests.skew import DAY, skewed


@pytest.mark.parametrize("first", [DAY, -DAY], ids=["first ahead", "first behind"])
async def test_the_newest_pair_is_live_whatever_the_clocks_say(
    world: World, monkeypatch: pytest.MonkeyPatch, first: timedelta
) -> None:
    """Each has a wrong clock of its own: who commits, who publishes, and who builds and rolls out."""

    def commit(word: str, skew: timedelta) -> str:
        monkeypatch.setenv("GIT_COMMITTER_DATE", (datetime.now(UTC) + skew).isoformat())
        return world.commit(word)

    def publish(skew: timedelta) -> None:
        with skewed(skew):
            world.publish(seed=world.made)

    commit("one", first)
    publish(first)
    with skewed(first):
        assert (await world.all_three()).name == "Completed"
    sha = commit("two", -first)
    publish(-first)
    with skewed(-first):
        assert (await world.all_three()).name == "Completed"
    newest = {"word": "two", "commit": sha, "model": "v2"}
    assert world.ask() == newest

    history = world.runtime().history(world.service)
    assert [each.release.model.version for each in history] == ["v2", "v1"]
    assert [each.number for each in history] == [2, 1]
    live, before = history
    dates = [
        (live.at, before.at),
        (live.release.commit.committed_at, before.release.commit.committed_at),
        (live.release.model.published_at, before.release.model.published_at),
    ]
    assert {new < old for new, old in dates if new and old} == {first > timedelta()}

    # Whoever looks next finds nothing to do, whatever time it is there.
    world.front.reset()
    for skew in (timedelta(), first, -first):
        with skewed(skew):
            assert (await world.all_three()).name == "UpToDate"
    assert (world.ask(), world.sent()) == (newest, 0)

    # Back is what was live before, not what has an earlier date.
    assert world.roll_back().release == before.release
    assert world.ask()["word"] == "one"

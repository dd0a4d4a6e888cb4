"""Which worker gets which test; and that each test is run, once, by somebody."""

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.lanes import ASLEEP, BUSY, CALM, LANES, Facts, Lanes, LaneScheduling, read, write


def facts(unit: str, *needs: str, calm: bool = False, last: bool = False, seconds: float = 0) -> Facts:
    return Facts(unit, frozenset(needs), calm, last, seconds)


STORE = facts("store", "azurite")
FLOW = facts("flow", "prefect", "engine")
ROLLOUT = facts("rollout", "cluster", "engine")
KILL = facts("kill", "cluster", calm=True, last=True)
STORY = facts("story", "prefect", "engine", calm=True, seconds=900)
PURE = facts("pure")


def taken(all_of_them: list[Facts], lane: str | None, *started: str) -> list[str]:
    """The units that one worker takes if those of the other lanes never come to it."""
    lanes, has = Lanes(all_of_them), frozenset(started)
    lanes.staffed = dict.fromkeys(LANES, True)
    found = []
    while (unit := lanes.take(lane, has)) is not None:
        has |= unit.needs
        found.append(all_of_them[unit.tests[0]].unit)
    return found


def test_tests_of_a_unit_are_together() -> None:
    lanes = Lanes([STORE, FLOW, STORE, STORE])
    unit = lanes.take(None, frozenset())
    assert unit is not None
    assert unit.tests == [0, 2, 3]


def test_a_worker_goes_on_with_what_it_has_started() -> None:
    assert taken([STORE, FLOW], None, "prefect", "engine") == ["flow", "store"]
    assert taken([FLOW, STORE, FLOW], None, "azurite") == ["store", "flow"]


def test_what_is_calm_has_a_lane_and_what_takes_long_begins_first() -> None:
    long = facts("long", "postgres", seconds=600)
    assert taken([STORY, FLOW, long], BUSY, "prefect", "engine") == ["long", "flow", "story"]
    assert taken([FLOW, long, STORY], CALM) == ["story", "long", "flow"]
    assert taken([STORY, FLOW], None, "prefect", "engine") == ["flow", "story"]


def test_who_sleeps_takes_nothing_else_and_who_disturbs_comes_last() -> None:
    assert taken([KILL, STORE, ROLLOUT, FLOW], ASLEEP) == ["rollout", "kill"]


def test_who_has_nothing_left_helps_but_never_disturbs() -> None:
    assert taken([KILL, ROLLOUT, STORY, STORE], BUSY) == ["store", "story", "rollout"]


def test_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    given = [STORE, FLOW, KILL, STORY]
    write(given, tmp_path / "facts")
    assert read(tmp_path / "facts") == given
    assert [path.name for path in tmp_path.iterdir()] == ["facts"]


class Node:
    """One of xdist's workers: runs a test when it knows what comes after it."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.queue: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def can_run(self) -> bool:
        return len(self.queue) >= (1 if self.shutting_down else 2)


def scheduled(
    all_of_them: list[Facts], count: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[LaneScheduling, list[Node], list[str]]:
    """A scheduler that has begun, its workers, and what had to be prepared."""
    monkeypatch.setattr("tests.lanes.parse_tx_spec_config", lambda _: range(count))
    monkeypatch.setattr("tests.lanes.yield_to_others", lambda *_: None)
    write(all_of_them, folder / "facts")
    prepared: list[str] = []
    scheduler = LaneScheduling(cast(Any, None), folder / "facts", prepared.extend)
    nodes = [Node(f"gw{number}") for number in range(count)]
    names = [f"test-{number}" for number in range(len(all_of_them))]
    for node in nodes:
        scheduler.add_node(cast(Any, node))
        scheduler.add_node_collection(cast(Any, node), names)
    assert scheduler.collection_is_completed
    scheduler.schedule()
    return scheduler, nodes, sorted(prepared)


def run(scheduler: LaneScheduling, nodes: list[Node], chance: random.Random) -> Counter[int]:
    """Until nobody can go on; which tests were run."""
    done: Counter[int] = Counter()
    while able := [node for node in nodes if node.can_run]:
        node = chance.choice(able)
        index = node.queue.pop(0)
        done[index] += 1
        scheduler.mark_test_complete(cast(Any, node), index)
    return done


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("seed", range(20))
def test_every_test_runs_once(count: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    some = chance.choices([STORE, FLOW, ROLLOUT, KILL, STORY, PURE], k=chance.randrange(1, 30))
    scheduler, nodes, prepared = scheduled(some, count, tmp_path, monkeypatch)
    assert prepared == sorted({need for each in some for need in each.needs})
    assert run(scheduler, nodes, chance) == Counter(range(len(some)))
    assert all(node.shutting_down for node in nodes)
    assert scheduler.tests_finished
    assert not scheduler.has_pending


def test_one_lane_is_no_work_for_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [facts(f"more-{number}") for number in range(4)]
    _, nodes, _ = scheduled([STORE, FLOW, PURE, *more], 4, tmp_path, monkeypatch)
    assert [bool(node.queue) for node in nodes] == [True, True, False, False]
    _, nodes, _ = scheduled([ROLLOUT, ROLLOUT, FLOW, STORE, STORE], 2, tmp_path, monkeypatch)
    assert nodes[1].queue == [0, 1]


def test_each_lane_has_workers_where_there_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [facts(f"store-{number}", "azurite") for number in range(9)]
    some += [facts(f"rollout-{number}", "cluster") for number in range(9)]
    some += [facts(f"kill-{number}", "prefect", calm=True) for number in range(9)]
    _, nodes, _ = scheduled(some, 6, tmp_path, monkeypatch)
    assert [{some[index].unit.partition("-")[0] for index in node.queue} for node in nodes] == 2 * [
        {"store"},
        {"rollout"},
        {"kill"},
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_worker_that_dies_is_replaced_and_only_the_test_it_died_in_is_lost(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    some = chance.choices([STORE, FLOW, ROLLOUT, KILL, STORY, PURE], k=30)
    scheduler, nodes, _ = scheduled(some, 3, tmp_path, monkeypatch)
    victim = chance.choice([node for node in nodes if node.queue])
    nodes.remove(victim)
    died = scheduler.remove_node(cast(Any, victim))
    fresh = Node("gw3")
    scheduler.add_node(cast(Any, fresh))
    scheduler.add_node_collection(cast(Any, fresh), [f"test-{number}" for number in range(30)])
    nodes.append(fresh)
    scheduler.schedule()
    lost = victim.queue[0]
    assert died == f"test-{lost}"
    assert run(scheduler, nodes, chance) == Counter(number for number in range(30) if number != lost)


def test_who_collects_other_tests_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, _, _ = scheduled([STORE, FLOW], 2, tmp_path, monkeypatch)
    other = cast(Any, Node("gw9"))
    scheduler.add_node(other)
    with pytest.raises(RuntimeError, match="gw9"):
        scheduler.add_node_collection(other, ["test-0"])

"""Which worker runs which tests: what waits beside what keeps the cores busy.

pytest-xdist spreads tests over workers and knows nothing of what they cost. Here each worker has a lane: the
tests that mostly sleep until a rollout on a cluster is ready; the `calm` ones, which kill something and wait
for what survives; and all the rest, which yields the cores to the others. In a lane, what may take long
begins first; then a worker goes on with tests that need the services it has started already.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from xdist.report import report_collection_diff
from xdist.workermanage import WorkerController, parse_tx_spec_config

from tests.needs import needs_of

CLUSTER = "cluster"
SLEEPY = frozenset({CLUSTER, "rollouts"})

BUSY, ASLEEP, CALM = "busy", "asleep", "calm"
LANES = (BUSY, ASLEEP, CALM)
PER_LANE = 2
"""Workers: more of them keep no core busier."""
YIELDS = 5
"""How nice workers of the lane BUSY are."""
HELPS = {BUSY: (CALM, ASLEEP), CALM: (BUSY, ASLEEP), ASLEEP: ()}
"""Which lanes a worker goes on with. Those of ASLEEP end, so that the cluster does not run for nobody."""
LONG = 300.0
"""Seconds, as a test's own time-out says."""


class Facts(NamedTuple):
    """What decides where and when a test runs. Tests of the same unit are run in a row by one worker."""

    unit: str
    needs: frozenset[str]
    calm: bool
    last: bool
    """Whether it disturbs all that use the cluster."""
    seconds: float
    """How long it may take; who may take long begins early."""


def facts_of(item: pytest.Item) -> Facts:
    needs = needs_of(item)
    calm = item.get_closest_marker("calm") is not None
    group = item.get_closest_marker("xdist_group")
    limit = item.get_closest_marker("timeout")
    if group is not None:
        unit = str(group.args[0])
    elif not needs or _shares_with_its_module(item):
        unit = f"{item.path}{' calm' if calm else ''}{' asleep' if SLEEPY & needs else ''}"
    else:
        unit = item.nodeid
    seconds = float(limit.args[0]) if limit is not None else 0.0
    return Facts(unit, needs, calm, item.get_closest_marker("alone_on_the_cluster") is not None, seconds)


def _shares_with_its_module(item: pytest.Item) -> bool:
    """Whether it uses a fixture that lives as long as its module."""
    info: Any = getattr(item, "_fixtureinfo", None)
    used = info.name2fixturedefs.values() if info else ()
    return any(found[-1].scope in {"module", "package", "class"} for found in used)


def write(facts: Sequence[Facts], file: Path) -> None:
    """Each worker writes the same file, for the process that schedules and collects no tests itself."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(json.dumps([[each.unit, sorted(each.needs), *each[2:]] for each in facts]))
    new.rename(file)


def read(file: Path) -> list[Facts]:
    return [
        Facts(unit, frozenset(needs), calm, last, seconds)
        for unit, needs, calm, last, seconds in json.loads(file.read_text())
    ]


def here_is(worker: str, run: Path) -> None:
    """Each worker says which process it is."""
    (run / f"{worker}.pid").write_text(str(os.getpid()))


def yield_to_others(run: Path, worker: str) -> None:
    """It and what it starts from now on."""
    os.setpriority(os.PRIO_PROCESS, int((run / f"{worker}.pid").read_text()), YIELDS)


class Unit:
    """Tests that one worker runs in a row."""

    def __init__(self) -> None:
        self.tests: list[int] = []
        self.needs: frozenset[str] = frozenset()
        self.calm = self.last = False
        self.seconds = 0.0

    def add(self, index: int, facts: Facts) -> None:
        self.tests.append(index)
        self.needs |= facts.needs
        self.calm |= facts.calm
        self.last |= facts.last
        self.seconds = max(self.seconds, facts.seconds)

    @property
    def lane(self) -> str:
        if self.needs & SLEEPY:
            return ASLEEP
        return CALM if self.calm else BUSY


class Lanes:
    """What is left to do, and who should do which of it. Knows nothing of xdist."""

    def __init__(self, facts: Sequence[Facts]) -> None:
        units: dict[str, Unit] = {}
        for index, each in enumerate(facts):
            units.setdefault(each.unit, Unit()).add(index, each)
        # Stable: what may take as long as another stays in the order of the files.
        self.left = sorted(units.values(), key=lambda unit: -unit.seconds)
        self.present = [lane for lane in LANES if any(unit.lane == lane for unit in self.left)]
        self.staffed = dict.fromkeys(LANES, False)

    def take(self, lane: str | None, started: frozenset[str]) -> Unit | None:
        """The next unit for a worker of a lane (None: of all) that has started some services; None: no more.

        Who has nothing to do any more helps another lane, but for what disturbs everybody there.
        """
        for candidates in self._rounds(lane):
            if candidates:
                best = min(candidates, key=lambda unit: _order(unit, started))
                self.left.remove(best)
                return best
        return None

    def _rounds(self, lane: str | None) -> Iterator[list[Unit]]:
        mine = [unit for unit in self.left if lane is None or unit.lane == lane]
        yield [unit for unit in mine if not unit.calm and not unit.last]
        yield [unit for unit in mine if not unit.last]
        yield mine
        if lane is not None:
            for other in HELPS[lane]:
                yield [unit for unit in self.left if unit.lane == other and not unit.last]
            yield [unit for unit in self.left if not self.staffed[unit.lane]]


def _order(unit: Unit, started: frozenset[str]) -> tuple[float, int, int]:
    """Less is earlier: may it take long; services that must be started; less those that are used again."""
    long = unit.seconds if unit.seconds > LONG else 0.0
    return -long, len(unit.needs - started), -len(unit.needs & started)


class Worker:
    """What one of xdist's workers has to do."""

    def __init__(self, lane: str | None) -> None:
        self.lane = lane
        self.started: frozenset[str] = frozenset()
        self.pending: list[int] = []


class LaneScheduling:
    """xdist's scheduler, as far as DSession asks it (xdist/scheduler/protocol.py).

    A worker begins a test only when it knows the next one or that there is none: hence it gets the next unit
    while its last test is pending.
    """

    def __init__(self, config: pytest.Config, facts: Path, prepare: Callable[[set[str]], object]) -> None:
        self.config, self.facts, self.prepare = config, facts, prepare
        self.numnodes = len(parse_tx_spec_config(config))
        self.workers: dict[WorkerController, Worker] = {}
        self.collections: dict[WorkerController, list[str]] = {}
        self.collection: list[str] | None = None
        self.lanes = Lanes([])
        self.orphans: list[str | None] = []

    @property
    def nodes(self) -> list[WorkerController]:
        return list(self.workers)

    @property
    def collection_is_completed(self) -> bool:
        return len(self.collections) >= self.numnodes

    @property
    def tests_finished(self) -> bool:
        return (
            self.collection_is_completed
            and not self.lanes.left
            and all(len(worker.pending) < 2 for worker in self.workers.values())
        )

    @property
    def has_pending(self) -> bool:
        return bool(self.lanes.left) or any(worker.pending for worker in self.workers.values())

    def add_node(self, node: WorkerController) -> None:
        self.workers[node] = Worker(self.orphans.pop() if self.orphans else None)

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self.collections[node] = list(collection)
        if self.collection is not None:
            if list(collection) != self.collection:
                raise RuntimeError(f"{node.gateway.id}, which replaces another worker, found other tests")
            self._yields(node)

    def schedule(self) -> None:
        if self.collection is None:
            if not self._all_collected_the_same():
                return
            self.collection = next(iter(self.collections.values()))
            facts = read(self.facts) if self.collection else []
            self.prepare({need for each in facts for need in each.needs})
            self.lanes = Lanes(facts)
            self._choose_lanes()
        for node in self.nodes:
            self._supply(node)

    def _choose_lanes(self) -> None:
        """Some workers for each lane that has tests; one alone takes all."""
        nodes, present = self.nodes, self.lanes.present
        if len(nodes) < 2:
            return
        for number, node in enumerate(nodes):
            if number >= PER_LANE * len(present):
                node.shutdown()
                continue
            lane = present[number % len(present)]
            self.workers[node].lane = lane
            self.lanes.staffed[lane] = True
            self._yields(node)

    def _yields(self, node: WorkerController) -> None:
        if self.workers[node].lane == BUSY and len(self.lanes.present) > 1:
            yield_to_others(self.facts.parent, node.gateway.id)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        self.workers[node].pending.remove(item_index)
        self._supply(node)

    def mark_test_pending(self, item: str) -> None:
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError

    def remove_node(self, node: WorkerController) -> str | None:
        """Give what it had to others; the test in which it died, if it did."""
        worker = self.workers.pop(node)
        if not worker.pending or self.collection is None:
            return None
        self.orphans.append(worker.lane)
        died, *left = worker.pending
        if left:
            unit = Unit()
            unit.tests = left
            unit.needs, unit.calm = SLEEPY if worker.lane == ASLEEP else frozenset(), worker.lane == CALM
            self.lanes.left.insert(0, unit)
        return self.collection[died]

    def _supply(self, node: WorkerController) -> None:
        worker = self.workers[node]
        while len(worker.pending) < 2 and not node.shutting_down:
            unit = self.lanes.take(worker.lane, worker.started)
            if unit is None:
                node.shutdown()
                return
            worker.started |= unit.needs
            worker.pending += unit.tests
            node.send_runtest_some(unit.tests)

    def _all_collected_the_same(self) -> bool:
        (first, expected), *others = self.collections.items()
        for node, found in others:
            if difference := report_collection_diff(expected, found, first.gateway.id, node.gateway.id):
                report = pytest.CollectReport(
                    nodeid=node.gateway.id, outcome="failed", longrepr=difference, result=[]
                )
                self.config.hook.pytest_collectreport(report=report)
                return False
        return True

"""Which worker runs which tests: what waits for a cluster beside what keeps the cores busy.

pytest-xdist spreads tests over workers and knows nothing of what they cost. Here half of the workers have the
tests that mostly sleep until a rollout is ready; the others have all the rest. A worker goes on with tests
that need the services it has started already. `calm` tests, which kill something and wait for what survives,
come last.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from xdist.report import report_collection_diff
from xdist.workermanage import WorkerController, parse_tx_spec_config

from tests.needs import needs_of

CLUSTER = "cluster"
SLEEPY = frozenset({CLUSTER, "rollouts"})

ASLEEP, BUSY = "asleep", "busy"
"""The lanes."""


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
        return ASLEEP if self.needs & SLEEPY else BUSY


class Lanes:
    """What is left to do, and who should do which of it. Knows nothing of xdist."""

    def __init__(self, facts: Sequence[Facts]) -> None:
        units: dict[str, Unit] = {}
        for index, each in enumerate(facts):
            units.setdefault(each.unit, Unit()).add(index, each)
        # Stable: what may take as long as another stays in the order of the files.
        self.left = sorted(units.values(), key=lambda unit: -unit.seconds)
        self.busy = any(unit.lane == BUSY for unit in self.left)
        self.asleep = any(unit.lane == ASLEEP for unit in self.left)

    def take(self, lane: str | None, started: frozenset[str]) -> Unit | None:
        """The next unit for a worker of a lane (None: of all) that has started some services; None: no more.

        What is calm waits until nothing else of the lane is left, so that two of them have a core each. Who
        has nothing to do any more helps those that sleep, but for what disturbs everybody there.
        """
        for candidates in self._rounds(lane):
            if candidates:
                # Costs the fewest starts of services, then uses most of what there is.
                best = min(candidates, key=lambda unit: _starts(unit, started))
                self.left.remove(best)
                return best
        return None

    def _rounds(self, lane: str | None) -> list[list[Unit]]:
        mine = [unit for unit in self.left if lane is None or unit.lane == lane]
        quiet = [unit for unit in mine if unit.calm and not unit.last]
        help_out = [unit for unit in self.left if lane == BUSY and unit.lane == ASLEEP and not unit.last]
        return [
            [unit for unit in mine if not unit.calm and not unit.last],
            quiet,
            [unit for unit in mine if unit.last],
            help_out,
        ]


def _starts(unit: Unit, started: frozenset[str]) -> tuple[int, int]:
    """Less is better: how many services must be started; then, how many that are there are used."""
    return len(unit.needs - started), -len(unit.needs & started)


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
        if self.collection is not None and list(collection) != self.collection:
            raise RuntimeError(f"{node.gateway.id}, which replaces another worker, found other tests")
        self.collections[node] = list(collection)

    def schedule(self) -> None:
        if self.collection is None:
            if not self._all_collected_the_same():
                return
            self.collection = next(iter(self.collections.values()))
            facts = read(self.facts) if self.collection else []
            self.prepare({need for each in facts for need in each.needs})
            self.lanes = Lanes(facts)
            self._choose_lanes()
        # Those of the second half first, before others offer their help.
        for node in reversed(self.nodes):
            self._supply(node)

    def _choose_lanes(self) -> None:
        """Half of the workers for each; if none sleep, the cores have no work for the other half."""
        nodes = self.nodes
        half = len(nodes) // 2
        if not half:
            return
        if self.lanes.busy and self.lanes.asleep:
            for number, node in enumerate(nodes):
                self.workers[node].lane = ASLEEP if number >= len(nodes) - half else BUSY
        elif self.lanes.busy and len(nodes) > 2:
            for node in nodes[len(nodes) - half :]:
                node.shutdown()

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
            unit.needs = SLEEPY if worker.lane == ASLEEP else frozenset()
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

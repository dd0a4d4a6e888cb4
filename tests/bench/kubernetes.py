"""How long it takes until users of a cluster have what was published, pushed, rolled back or refused.

Everything is real and on this machine: worker, registry, a cluster of one node, an app of two replicas that
starts at once, a model of 100 MB. Steps are between moments that follow each other, so they add up. The
moments of traffic are those of two clients that ask 50 times a second each. A connection that is kept stays
with its replica until that closes it, some 10 s after it was asked to end (preStop in k8s/app).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import pairwise

from linkspan.prefect_api.values import LogLine, Run
from tests.bench.figures import Figure, Say
from tests.bench.stage import Stage, stage
from tests.bench.witness import Crash, Witness, now
from tests.e2e import tiny_app
from tests.e2e.deployed import hint
from tests.e2e.world import World, task_runs

ROUNDS = 3
SIDE = 5000
"""Of the model's matrix: 4 * side² bytes."""

MODEL = {"validate and package the model": "validate, package and push the layer"}
CODE = {
    "build the code image": "build the code image",
    "run the app's tests": "run the app's tests",
    "push the code image": "push the code image",
}
RELEASE = {
    "compare with what is live": "find the newest of both, compare",
    "link": "link, push the manifest",
    "smoke-test the linked image": "pull, smoke-test",
}
START, ANSWERS = "start", "the first new replica answers"
MOVED, KEPT = "all new connections go to it", "(then) kept connections too"
DONE = "all new connections go to it, it is done"
RESTORED = "the one before is restored"

Moments = dict[str, datetime]
"""When each step ended, by its name; the first is START."""


def measure(say: Say) -> list[Figure]:
    """Publish, push, a bad release and a rollback, each of them ROUNDS times."""
    with stage(say) as here:
        world = here.world
        text = tiny_app.files(world.app, world.base)["linkspan.toml"]
        toml = text.replace("replicas = 1", "replicas = 2")

        def commit(word: str, behaviour: str = "good") -> None:
            world.commit(word, behaviour, linkspan_toml=toml)

        say("first release")
        commit("first")
        world.publish(side=SIDE)
        hint(world, "app-stream")
        hint(world, "model-stream")
        _wait(lambda: world.live() is not None and _quiet(world))
        published, pushed, refused, back = [], [], [], []
        with Witness(world) as witness:
            for number in range(ROUNDS):
                say(f"publish {number + 1}")
                world.publish(world.model_folder(seed=number + 1, side=SIDE))
                published.append(_release(world, witness, "model-stream", MODEL))
            for number in range(ROUNDS):
                say(f"push {number + 1}")
                commit(f"word {number}")
                pushed.append(_release(world, witness, "app-stream", CODE))
            for number in range(ROUNDS):
                say(f"bad release {number + 1}")
                commit(f"bad {number}", "dies in a cluster")
                refused.append(_bad_release(here))
            for number in range(ROUNDS):
                say(f"rollback {number + 1}")
                back.append(_rollback(world, witness))
        sent, failed = witness.counted()
    return [
        *_figures("A model of 100 MB is published", published, MOVED),
        *_figures("A commit is pushed", pushed, MOVED),
        *_figures("A bad release: its first crash", refused, RESTORED),
        *_figures("linkspan rollback", back, DONE),
        Figure("Requests meanwhile", "sent", [sent], ""),
        Figure("Requests meanwhile", "failed", [failed], "", total=True),
    ]


def _release(world: World, witness: Witness, flow: str, steps: Mapping[str, str]) -> Moments:
    """One release by a hint of what was just published or pushed, to the end of its run."""
    live = world.revision().release
    moments = {START: now()}
    stream, _ = _followed(world, hint(world, flow))
    release, lines = _followed(world, _started_after(world, moments[START]))
    assert stream.started
    assert release.started
    moments["the hint starts the stream"] = stream.started
    moments |= _ends(stream, steps)
    moments["the stream starts the release"] = release.started
    moments |= _ends(release, RELEASE)
    moments["make it a release, apply"] = _said(lines, "waiting until all are ready")
    new = world.revision().release
    moved = witness.moved(live, new, moments[START])
    return moments | {ANSWERS: moved.first, MOVED: moved.new_connections, KEPT: moved.keep_alive}


def _bad_release(here: Stage) -> Moments:
    """One that crashes in the cluster, from its first crash on."""
    world = here.world
    since = now()
    with Crash(here.cluster, str(world.service), code=7) as crash:
        _followed(world, hint(world, "app-stream"))
        release, lines = _followed(world, _started_after(world, since))
        assert release.ended
        return {
            START: crash.seen(),
            "Linkspan gives it up": _said(lines, "putting revision"),
            RESTORED: release.ended,
        }


def _rollback(world: World, witness: Witness) -> Moments:
    """To the newest release that worked and is another one. Its image is on the node."""
    history = world.runtime().history(world.service)
    live = world.revision()
    target = next(each for each in history if each.outcome == "replaced" and each.release != live.release)
    moments = {START: now()}
    world.roll_back(str(target.number))
    done = now()
    moved = witness.moved(live.release, target.release, moments[START])
    return moments | {
        ANSWERS: moved.first,
        DONE: max(done, moved.new_connections),
        KEPT: moved.keep_alive,
    }


def _figures(group: str, rounds: list[Moments], until: str) -> list[Figure]:
    """The steps, one after the other, and how long it was from START to `until`."""
    names = list(rounds[0])
    steps = [
        Figure(group, name, [(each[name] - each[before]).total_seconds() for each in rounds])
        for before, name in pairwise(names)
    ]
    whole = [(each[until] - each[START]).total_seconds() for each in rounds]
    return [*steps, Figure(group, f"in all: {until}", whole, total=True)]


def _followed(world: World, run_id: str) -> tuple[Run, list[LogLine]]:
    """A run when it has ended, and its log."""
    with world.server.api() as server:
        *earlier, last = server.follow(run_id)
    assert isinstance(last, Run)
    return last, [each for each in earlier if isinstance(each, LogLine)]


def _started_after(world: World, since: datetime) -> str:
    """The id of the release's run that a stream has started."""
    found: list[str] = []

    def look() -> bool:
        with world.server.api() as server:
            runs = server.recent_runs(f"build-and-deploy/{world.service}")
        found[:] = [run.id for run in runs if run.created > since]
        return bool(found)

    _wait(look)
    return found[0]


def _ends(run: Run, names: Mapping[str, str]) -> Moments:
    """When steps of a run ended, by the names they have here."""
    tasks = asyncio.run(task_runs(run.id))
    ends = {here: tasks[name].end_time for name, here in names.items()}
    return {name: end for name, end in ends.items() if end}


def _said(lines: list[LogLine], words: str) -> datetime:
    return next(each.at for each in lines if words in each.message)


def _quiet(world: World) -> bool:
    """Whether no run is under way or waits."""
    names = (f"app-stream/{world.app}", f"model-stream/{world.app}", f"build-and-deploy/{world.service}")
    with world.server.api() as server:
        return all(run.final for name in names for run in server.recent_runs(name))


def _wait(there: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s")
        time.sleep(0.1)

"""One release after another, split into steps: what every part of the bench that releases has in common.

Steps are between moments that follow each other, so they add up. The moments of traffic are those of two
clients that ask 50 times a second each.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise

from linkspan.prefect_api.values import LogLine, Run
from tests.bench.figures import Figure, Say
from tests.bench.sample import SampleWorld
from tests.bench.witness import Witness, now
from tests.e2e.world import World, task_runs
from tests.waiting import until

ROUNDS = 3

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

Moments = dict[str, datetime]
"""When each step ended, by its name; the first is START."""


def sample_figures(world: SampleWorld, where: str, say: Say) -> list[Figure]:
    """The sample app, published and pushed ROUNDS times each as people do it: with the command, with git."""
    say("first release")
    world.commit_app()
    world.push()
    world.publish_folder(world.train())
    until(lambda: world.live() is not None and quiet(world), what="the first release")
    published, pushed = [], []
    with Witness(world, world.pair_of) as witness:
        for number in range(ROUNDS):
            folder = world.another(f"round {number + 1}")
            say(f"publish {number + 1}")
            began = now()
            world.publish_folder(folder)
            published.append(release(world, witness, "model-stream", MODEL, began))
        for number in range(ROUNDS):
            world.commit_app(f" {number + 1}")
            say(f"push {number + 1}")
            began = now()
            world.push()
            pushed.append(release(world, witness, "app-stream", CODE, began))
    sent, failed = witness.counted()
    return [
        *figures(f"The sample app on {where}: linkspan publish", published, ANSWERS),
        *figures(f"The sample app on {where}: git push", pushed, ANSWERS),
        Figure("Requests meanwhile", "sent", [sent], ""),
        Figure("Requests meanwhile", "failed", [failed], "", total=True),
    ]


def release(world: World, witness: Witness, flow: str, steps: Mapping[str, str], began: datetime) -> Moments:
    """One release by a hint of what was published or pushed since `began`, to the end of its run."""
    live = world.revision().release
    moments = {START: began}
    stream, _ = followed(world, started_after(world, f"{flow}/{world.app}", began))
    run, lines = followed(world, started_after(world, f"build-and-deploy/{world.service}", began))
    assert stream.started
    assert run.started
    moments["publish or push, its hint is stored"] = stream.created
    moments["the hint starts the stream"] = stream.started
    moments |= _ends(stream, steps)
    moments["the stream starts the release"] = run.started
    moments |= _ends(run, RELEASE)
    moments["make it a release, start it"] = said(lines, "waiting until all are ready")
    new = world.revision().release
    moved = witness.moved(live, new, began)
    return moments | {ANSWERS: moved.first, MOVED: moved.new_connections, KEPT: moved.keep_alive}


def figures(group: str, rounds: list[Moments], end: str) -> list[Figure]:
    """The steps, one after the other, and how long it was from START to `end`."""
    names = list(rounds[0])
    steps = [
        Figure(group, name, [(each[name] - each[before]).total_seconds() for each in rounds])
        for before, name in pairwise(names)
    ]
    whole = [(each[end] - each[START]).total_seconds() for each in rounds]
    return [*steps, Figure(group, f"in all: {end}", whole, total=True)]


def followed(world: World, run_id: str) -> tuple[Run, list[LogLine]]:
    """A run when it has ended, and its log."""
    with world.server.api() as server:
        *earlier, last = server.follow(run_id)
    assert isinstance(last, Run)
    return last, [each for each in earlier if isinstance(each, LogLine)]


def started_after(world: World, deployment: str, since: datetime) -> str:
    """The id of a deployment's first run since then."""

    def look() -> list[str]:
        with world.server.api() as server:
            return [run.id for run in server.recent_runs(deployment) if run.created > since]

    return until(look, what=f"a run of {deployment}")[-1]


def _ends(run: Run, names: Mapping[str, str]) -> Moments:
    """When steps of a run ended, by the names they have here."""
    tasks = asyncio.run(task_runs(run.id))
    ends = {here: tasks[name].end_time for name, here in names.items()}
    return {name: end for name, end in ends.items() if end}


def said(lines: list[LogLine], words: str) -> datetime:
    """When a run said it first."""
    return next(each.at for each in lines if words in each.message)


def quiet(world: World) -> bool:
    """Whether no run is under way or waits."""
    names = (f"app-stream/{world.app}", f"model-stream/{world.app}", f"build-and-deploy/{world.service}")
    with world.server.api() as server:
        return all(run.final for name in names for run in server.recent_runs(name))

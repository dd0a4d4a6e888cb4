"""How long it takes until users of a cluster have what was published, pushed, rolled back or refused.

Everything is real and on this machine: worker, registry, a cluster of one node. First the sample app, then an
app of two replicas that starts at once, with a model of 100 MB. A connection that is kept stays with its
replica until that closes it, some 10 s after it was asked to end (preStop in k8s/app).
"""

from tests.bench.figures import Figure, Say
from tests.bench.releases import (
    ANSWERS,
    CODE,
    KEPT,
    MODEL,
    MOVED,
    ROUNDS,
    START,
    Moments,
    figures,
    followed,
    quiet,
    release,
    said,
    sample_figures,
    started_after,
)
from tests.bench.sample import SampleWorld
from tests.bench.stage import running_cluster, stage
from tests.bench.witness import Crash, Witness, now
from tests.e2e import tiny_app
from tests.e2e.deployed import hint
from tests.e2e.world import World, pair_of
from tests.services.cluster import RunningCluster
from tests.waiting import until

SIDE = 5000
"""Of the model's matrix: 4 * side² bytes."""

DONE = "all new connections go to it, it is done"
RESTORED = "the one before is restored"


def measure(say: Say) -> list[Figure]:
    """The sample app; then publish, push, a bad release and a rollback, each of them ROUNDS times."""
    with running_cluster(say) as cluster:
        with stage(say, SampleWorld, cluster) as sample:
            found = sample_figures(sample, "a cluster", say)
        with stage(say, World, cluster) as world:
            return found + _figures(world, cluster, say)


def _figures(world: World, cluster: RunningCluster, say: Say) -> list[Figure]:
    text = tiny_app.files(world.app, world.base)["linkspan.toml"]
    toml = text.replace("replicas = 1", "replicas = 2")

    def commit(word: str, behaviour: str = "good") -> None:
        world.commit(word, behaviour, linkspan_toml=toml)

    say("first release")
    commit("first")
    world.publish(side=SIDE)
    hint(world, "app-stream")
    hint(world, "model-stream")
    until(lambda: world.live() is not None and quiet(world), what="the first release")
    published, pushed, refused, back = [], [], [], []
    with Witness(world, pair_of) as witness:
        for number in range(ROUNDS):
            say(f"publish {number + 1}")
            world.publish(world.model_folder(seed=number + 1, side=SIDE))
            began = now()
            hint(world, "model-stream")
            published.append(release(world, witness, "model-stream", MODEL, began))
        for number in range(ROUNDS):
            say(f"push {number + 1}")
            commit(f"word {number}")
            began = now()
            hint(world, "app-stream")
            pushed.append(release(world, witness, "app-stream", CODE, began))
        for number in range(ROUNDS):
            say(f"bad release {number + 1}")
            commit(f"bad {number}", "dies when rolled out")
            refused.append(_bad_release(world, cluster))
        for number in range(ROUNDS):
            say(f"rollback {number + 1}")
            back.append(_rollback(world, witness))
    sent, failed = witness.counted()
    return [
        *figures("A model of 100 MB is published", published, MOVED),
        *figures("A commit is pushed", pushed, MOVED),
        *figures("A bad release: its first crash", refused, RESTORED),
        *figures("linkspan rollback", back, DONE),
        Figure("Requests meanwhile", "sent", [sent], ""),
        Figure("Requests meanwhile", "failed", [failed], "", total=True),
    ]


def _bad_release(world: World, cluster: RunningCluster) -> Moments:
    """One that crashes in the cluster, from its first crash on."""
    since = now()
    with Crash(cluster, str(world.service), code=7) as crash:
        followed(world, hint(world, "app-stream"))
        release, lines = followed(world, started_after(world, f"build-and-deploy/{world.service}", since))
        assert release.ended
        return {
            START: crash.seen(),
            "Linkspan gives it up": said(lines, "putting revision"),
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

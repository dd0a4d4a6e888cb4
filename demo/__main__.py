"""`python -m demo [up|once|down]`: the whole story, and its end."""

import os
import shutil
import signal
import sys
from contextlib import ExitStack
from types import FrameType

from docker.errors import DockerException

from demo import kubernetes, machine, show, story, world
from demo.kubernetes import DemoCluster
from demo.places import HOME, LOGS, ROOT, WORLD
from linkspan.cli.output import fail
from linkspan.engine import engine
from linkspan.errors import LinkspanError
from linkspan.local import leftovers
from linkspan.local.home import Home
from linkspan.local.services import Local
from linkspan.places import PORT
from linkspan.processes import free_port, listens
from linkspan.runtimes.base import Runtime
from linkspan.runtimes.docker.runtime import DockerRuntimeSettings

ON_KUBERNETES = os.environ.get("RUNTIME") == "kubernetes"
KEPT = WORLD.parent / "logs-of-the-last-failure"


def main() -> int:
    """The command; its exit code is 0 only if all of it was seen to happen."""
    command = sys.argv[1] if len(sys.argv) > 1 else "up"
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        down()  # a run that was killed half-way may have left something
        if command != "down":
            play(stay=command == "up")
            down()
    except LinkspanError as error:
        fail(error)
        _keep_logs()
        if command == "once":
            down()
        return error.exit_code
    except KeyboardInterrupt:
        show.note("Stopping; this takes some seconds")
        down()
        return 130
    return 0


def play(*, stay: bool) -> None:
    """Start everything, tell the story, show the table, and stay until Ctrl-C if asked to."""
    show.title("This machine")
    client = machine.engine()
    show.done("Base image", machine.run_script("base-image.sh", machine.BASE).removeprefix("base image: "))
    cluster = DemoCluster() if ON_KUBERNETES else None
    with ExitStack() as stack:
        if cluster:
            cluster.start()
        registry = machine.DemoRegistry(client, Home(WORLD).mark)
        registry.start()
        stack.callback(registry.stop)
        show.title("Prefect")
        port = PORT if not listens(PORT) else free_port()
        local = stack.enter_context(Local(Home(HOME), port=port, say=show.note))
        world.save_blocks(local.server, registry)
        show.done("Blocks", "git repository, model store, registry, builder, runtime")
        world.make_repository()
        settings = registry.settings
        runtime: Runtime = DockerRuntimeSettings().open(settings.docker_auth())
        if cluster:
            access = cluster.settings()
            cluster.link(local.server, access)
            runtime = access.open(settings.docker_auth())
        stage = story.Stage(local.server, registry, runtime)

        story.first_release(stage)
        with story.prober(stage) as prober:
            story.better_model(stage)
            story.next_commit(stage)
            story.count(prober.stop())
        show.table(stage.rows)
        shutil.rmtree(KEPT, ignore_errors=True)
        if stay:
            show.addresses(stage.url, local.ui_url, local.home.auth_file)
            show.try_it(ROOT)
            local.wait()
            show.note("Stopping; this takes some seconds")


def down() -> None:
    """Remove everything the demo started, and nothing else; the Docker Engine stays, as others may use it."""
    for place in (HOME, WORLD):
        leftovers.end_all(Home(place).mark)
    try:
        client = engine()
    except LinkspanError:
        client = None  # no engine, so nothing of ours runs in one
    if client is not None:
        try:
            machine.remove_container(client)
            DockerRuntimeSettings().open().destroy(story.SERVICE)
            machine.remove_trials(client)
            machine.remove_networks(client)
            machine.remove_images(client)
        except DockerException as error:
            show.note(f"the Docker Engine could not be asked to tidy up: {error}")
    if ON_KUBERNETES or kubernetes.OURS.exists():
        DemoCluster().remove()
    shutil.rmtree(WORLD, ignore_errors=True)


def _keep_logs() -> None:
    shutil.rmtree(KEPT, ignore_errors=True)
    for folder in (HOME / "logs", LOGS):
        if folder.exists():
            shutil.copytree(folder, KEPT, dirs_exist_ok=True)
    if KEPT.exists():
        show.note(f"Logs: {KEPT}; what a run said last is in worker.log")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

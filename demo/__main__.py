"""`python -m demo [up|once|down]`: the whole story, and its end."""

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from docker.errors import DockerException

from demo import machine, show, story, world
from demo.places import HOME, LOGS, ROOT, WORLD
from linkspan.cli.output import fail
from linkspan.docker_engine import engine
from linkspan.errors import LinkspanError
from linkspan.local import leftovers
from linkspan.local.home import Home
from linkspan.local.services import PORT, Local
from linkspan.processes import free_port, listens
from linkspan.runtimes.docker import DockerRuntimeSettings


def main() -> int:
    """The command; its exit code is 0 only if all of it was seen to happen."""
    command = sys.argv[1] if len(sys.argv) > 1 else "up"
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if command == "down":
            down()
            return 0
        down()  # a run that was killed half-way may have left something
        try:
            play(stay=command == "up")
        finally:
            if command == "once":
                down() if not __import__("os").environ.get("KEEP") else None
    except LinkspanError as error:
        fail(error)
        if LOGS.exists() or HOME.exists():
            show.note(f"Logs: {HOME / 'logs'} and {LOGS}")
        return error.exit_code
    except KeyboardInterrupt:
        show.note("Stopped. `make down` removes what is left.")
        return 130
    return 0


def play(*, stay: bool) -> None:
    """Start everything, tell the story, show the table, and stay until Ctrl-C if asked to."""
    show.title("This machine")
    client = machine.engine()
    show.done("Base image", machine.run_script("base-image.sh", machine.BASE))
    with ExitStack() as stack:
        registry = machine.DemoRegistry(client, Home(WORLD).mark)
        registry.start()
        stack.callback(registry.stop)
        show.title("Prefect")
        port = PORT if not listens(PORT) else free_port()
        local = stack.enter_context(Local(Home(HOME), port=port, say=show.note))
        world.save_blocks(local.engine, registry)
        show.done("Blocks", "git repository, model store, registry, builder, runtime")
        world.make_repository()
        settings = registry.settings
        runtime = DockerRuntimeSettings().open(settings.docker_auth())
        stage = story.Stage(local.engine, registry, runtime)

        story.first_release(stage)
        with story.prober(stage) as prober:
            story.better_model(stage)
            story.next_commit(stage)
            story.count(prober.stop())
        show.table(stage.rows)
        show.addresses(stage.url, local.ui_url, local.home.auth_file)
        if stay:
            show.try_it(ROOT)
            with _ctrl_c():
                local.wait()


def down() -> None:
    """Remove everything the demo started, and nothing else."""
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
            machine.remove_images(client)
        except DockerException as error:
            show.note(f"the Docker Engine could not be asked to tidy up: {error}")
    shutil.rmtree(WORLD, ignore_errors=True)


@contextmanager
def _ctrl_c() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        return


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

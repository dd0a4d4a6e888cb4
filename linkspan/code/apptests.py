"""Runs an app's own tests inside its code image: no network, little that can be broken, and an end."""

import re
import shlex
import threading
import uuid

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.models.containers import Container

from linkspan.code.output import Lines
from linkspan.config import TestSection
from linkspan.engine import engine_time, killed_for_memory, reaching
from linkspan.errors import AppTestsFailed, BuildFailed, BuildUnavailable
from linkspan.progress import Say

_ROLE = "dev.linkspan.role"
_UNTIL = "dev.linkspan.until"
_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory|permission denied|exec format")
_MOST_OUTPUT = 100 << 20  # the engine keeps all of it on its disk until the container is gone
_GRACE = 60.0  # seconds past its end after which a container is nobody's


def run_tests(client: docker.DockerClient, image: str, test: TestSection, *, memory: str, say: Say) -> None:
    """Run `test.command` in a container of `image`, and remove the container whatever happens.

    Raises AppTestsFailed with the last lines of output, BuildUnavailable (retriable) if the engine goes away.
    """
    if not test.command:
        say("linkspan.toml has no test.command: nothing was tested")
        return
    with reaching(BuildUnavailable):
        _sweep(client)
        container = _create(client, image, test, memory)
        try:
            _run(container, test, say)
        finally:
            _remove(container)


def _create(client: docker.DockerClient, image: str, test: TestSection, memory: str) -> Container:
    until = engine_time(client).timestamp() + test.timeout_seconds + _GRACE
    try:
        return client.containers.create(
            image,
            command=list(test.command[1:]),
            entrypoint=[test.command[0]],
            name=f"linkspan-test-{uuid.uuid4().hex[:12]}",
            labels={
                _ROLE: "test",
                _UNTIL: str(int(until)),
            },
            environment={"HOME": "/tmp"},  # noqa: S108 (in the container, where nothing else can be written)
            network_mode="none",
            read_only=True,
            tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=1g"},  # noqa: S108
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=memory,
            memswap_limit=memory,
            pids_limit=1024,
        )
    except ImageNotFound:
        raise BuildFailed(
            f"image {image} is not in the engine any more", fix="Run the stream again"
        ) from None
    except APIError as error:
        # Not AppTestsFailed: that would be remembered as the commit's fault.
        raise BuildFailed("the app's tests cannot be started", found=_explanation(error)) from None


def _run(container: Container, test: TestSection, say: Say) -> None:
    command = " ".join(shlex.join(test.command).split())[:200]
    lines = Lines(say)
    say(f"testing: {command}")
    try:
        container.start()
    except APIError as error:
        if not _NO_PROGRAM.search(_explanation(error)):
            raise BuildFailed("the app's tests cannot be started", found=_explanation(error)) from None
        raise AppTestsFailed(
            f"the app's tests cannot be started: `{command}`",
            found=_explanation(error),
            fix="The program of test.command must be in the image: look at linkspan.toml and the Dockerfile",
        ) from None
    late = threading.Event()

    def stop() -> None:
        late.set()
        try:
            container.kill()
        except (APIError, NotFound):
            return  # it ended by itself in this very moment

    timer = threading.Timer(test.timeout_seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        passed = 0
        for piece in container.logs(stream=True, follow=True):
            lines.feed(piece)
            passed += len(piece)
            if passed > _MOST_OUTPUT:
                raise AppTestsFailed(
                    f"the app's tests print without end: `{command}`\n{lines.tail}\n",
                    expected=f"at most {_MOST_OUTPUT >> 20} MB",
                )
        lines.close()
        status = int(container.wait()["StatusCode"])
    except NotFound:
        raise BuildUnavailable("somebody removed the container of the app's tests while they ran") from None
    finally:
        timer.cancel()
    if late.is_set():
        raise AppTestsFailed(
            f"the app's tests did not end within {test.timeout_seconds:g} s: `{command}`\n{lines.tail}\n",
            fix="Make them quicker, or raise test.timeout_seconds in linkspan.toml",
        )
    if status != 0:
        container.reload()
        killed = killed_for_memory(container)
        raise AppTestsFailed(
            f"the app's tests failed: `{command}`\n{lines.tail}\n",
            expected="exit code 0",
            found=f"{status}, killed for taking more memory than it may" if killed else status,
        )
    say("the app's tests passed")


def _remove(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return  # somebody was quicker; it is gone, which is what was wanted


def _sweep(client: docker.DockerClient) -> None:
    """Remove test containers of workers that were killed: their time is over and nobody waits for them."""
    now = engine_time(client).timestamp()
    for container in client.containers.list(
        all=True, filters={"label": f"{_ROLE}=test"}, ignore_removed=True
    ):
        if float(container.labels.get(_UNTIL, "inf")) < now:
            _remove(container)


def _explanation(error: APIError) -> str:
    return " ".join(str(error.explanation or error).split())[:300]

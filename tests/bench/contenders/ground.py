"""Where contenders meet: one registry, an engine that builds and one that is the node, and all are theirs."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.models.images import Image

from linkspan.engine import engine
from tests.bench.contenders.memory import Watch
from tests.bench.figures import Say
from tests.services.engine import BASE
from tests.services.own_engine import OwnEngine, own_engine
from tests.services.registry import RunningRegistry, start_registry
from tests.services.tally import Tally

ROOT = Path(__file__).parents[3]
_LAST = 300  # characters of what a program said before it failed


@dataclass
class Ground:
    """All contenders push through `pushes`, the node pulls through `pulls`."""

    folder: Path
    registry: RunningRegistry
    storage: Path
    pushes: Tally
    pulls: Tally
    builder: OwnEngine
    node: OwnEngine
    base: str
    """The base image, in the engine that builds and in the registry."""
    kept: frozenset[Path | str] = frozenset()
    """What is in the registry and in the builder's caches before any contender comes."""
    watch: Watch | None = None

    @property
    def login(self) -> dict[str, str]:
        return {"username": self.registry.username, "password": self.registry.password}

    @property
    def environment(self) -> dict[str, str]:
        """For clients: our engine, our passwords."""
        return {**os.environ, "DOCKER_HOST": self.builder.url, "DOCKER_CONFIG": str(self.folder / "login")}

    def run(self, command: Sequence[str], *, cwd: Path | None = None, **env: str) -> str:
        """What a program prints. Its memory counts. Raises Failed with its last lines."""
        return run(command, cwd=cwd, env={**self.environment, **env}, watch=self.watch)

    def pull(self, reference: str) -> None:
        """Have the node fetch an image and create a container of it."""
        image = reference.replace(self.pushes.host, self.pulls.host)
        env = {**self.environment, "DOCKER_HOST": self.node.url}
        run(["docker", "pull", "-q", image], env=env)
        run(["docker", "create", "--network=none", image], env=env)

    def forget(self, *, but: Sequence[str] = ()) -> None:
        """Remove all images from the node, except some, with their containers."""
        kept = {reference.replace(self.pushes.host, self.pulls.host) for reference in but}
        with self.node.client() as client:
            for container in client.containers.list(all=True):
                if not kept & set(_names(container.image)):
                    container.remove(force=True)
            for image in client.images.list():
                if not kept & set(_names(image)):
                    client.images.remove(str(image.id), force=True)

    def keep(self) -> None:
        """What is there now is nobody's, and stays."""
        with self.builder.client() as client:
            images = [str(image.id) for image in client.images.list()]
            self.kept = frozenset([*self._stored(), *_caches(client), *images])

    def clear(self) -> None:
        """Remove what a contender left: on the node, in the registry, in the engine that builds."""
        self.forget()
        for path in self._stored():
            if path not in self.kept:
                shutil.rmtree(path)
        with self.builder.client() as client:
            for image in client.images.list():
                if image.id not in self.kept:
                    client.images.remove(str(image.id), force=True)
            client.images.prune({"dangling": True})
            left = _caches(client) - self.kept
            while left:  # a cache goes after those that are made from it
                for cache in left:
                    chosen: Any = {"id": cache}  # the engine knows more filters than docker-py's types
                    client.api.prune_builds(chosen, all=True)
                before, left = left, _caches(client) - self.kept
                if left == before:
                    break

    def _stored(self) -> list[Path]:
        """Repositories and blobs."""
        place = self.storage / "docker/registry/v2"
        return [*(place / "repositories").iterdir(), *(place / "blobs/sha256").glob("*/*")]


class Failed(Exception):
    """A program that ended with an error."""


def run(
    command: Sequence[str], *, env: dict[str, str], cwd: Path | None = None, watch: Watch | None = None
) -> str:
    """What a program prints; it ends with us."""
    with subprocess.Popen(
        list(command),
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        if watch:
            watch.add(child.pid)
        try:
            output, errors = child.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, 9)
            raise
    if child.returncode:
        last = " ".join((errors or output).split())[-_LAST:]
        raise Failed(f"{Path(command[0]).name} {command[1]} ended with {child.returncode}: {last}")
    return output


@contextmanager
def ground(say: Say) -> Iterator[Ground]:
    """Set it all up, and remove every trace of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linkspan-bench-")))
        say("starting a registry and two Docker Engines of its own")
        storage, place = folder / "storage", folder / "registry"
        place.mkdir()
        child, registry = start_registry(place, storage)
        stack.callback(child.stop)
        pushes, pulls = (stack.enter_context(Tally(registry.host)) for _ in range(2))
        builder, node = (stack.enter_context(own_engine(folder / name)) for name in ("builder", "node"))
        _log_in(folder / "login", registry, (pushes.host, pulls.host))
        base = f"{pushes.host}/base:bench"
        here = Ground(folder, registry, storage, pushes, pulls, builder, node, base)
        _bring_base(here)
        yield here


def _bring_base(here: Ground) -> None:
    """From the machine's engine into ours, and into the registry: nobody is first to push it."""
    file = here.folder / "base.tar"
    with closing(engine()) as machine, file.open("wb") as tar:
        for chunk in machine.images.get(BASE).save(named=True):
            tar.write(chunk)
    with here.builder.client() as client:
        with file.open("rb") as tar:
            client.images.load(tar)
        client.images.get(BASE).tag(here.base)
    file.unlink()
    here.run(["docker", "push", "-q", here.base])


def _log_in(folder: Path, registry: RunningRegistry, hosts: Sequence[str]) -> None:
    folder.mkdir(mode=0o700)
    auth = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}}))


def _names(image: Image | None) -> list[str]:
    return [*image.attrs["RepoTags"], *image.attrs["RepoDigests"]] if image else []


def _caches(client: docker.DockerClient) -> frozenset[str]:
    return frozenset(str(cache["ID"]) for cache in client.df()["BuildCache"] or ())

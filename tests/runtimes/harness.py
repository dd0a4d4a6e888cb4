"""What the conformance suite needs of a runtime beyond the protocol: to open it, hurt it, look behind it.

A new runtime adds one class here and one parameter in conftest.py.
"""

import contextlib
import json
from collections.abc import Sequence
from typing import Protocol

import docker
from docker.errors import NotFound

from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.docker import DockerRuntimeSettings


class Harness(Protocol):
    """A runtime under test."""

    def open(self) -> Runtime: ...

    def opener(self) -> str:
        """A Python expression that gives the same runtime in another process."""
        ...

    def replicas(self, service: Service) -> Sequence[str]:
        """The names of all replicas that exist, of every revision."""
        ...

    def kill_replica(self, service: Service) -> None:
        """Remove one replica of what is live, as an operator or a crash would."""
        ...

    def remove_proxy(self, service: Service) -> bool:
        """Remove what stands between users and replicas; False if the runtime has no such thing."""
        ...

    def resources(self, service: Service) -> Sequence[str]:
        """Everything that exists because of the service."""
        ...


class DockerHarness:
    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    def open(self) -> Runtime:
        return DockerRuntimeSettings().open()

    def opener(self) -> str:
        return "__import__('linkspan.runtimes.docker', fromlist=['x']).DockerRuntimeSettings().open()"

    def replicas(self, service: Service) -> Sequence[str]:
        return sorted(name for name in self.resources(service) if f"linkspan-{service}-r" in name)

    def kill_replica(self, service: Service) -> None:
        self._client.containers.get(self.replicas(service)[0]).remove(force=True)

    def remove_proxy(self, service: Service) -> bool:
        self._client.containers.get(f"linkspan-{service}").remove(force=True)
        return True

    def resources(self, service: Service) -> Sequence[str]:
        name = f"linkspan-{service}"
        found = self._client.containers.list(all=True, filters={"name": name}, ignore_removed=True)
        names = [str(container.name) for container in found]
        names += [f"network {network.name}" for network in self._client.networks.list(names=[name])]
        with contextlib.suppress(NotFound):
            names.append(f"volume {self._client.volumes.get(name).name}")
        return names


def child_program(opener: str, rollout: dict[str, object], die_at: str) -> str:
    """A program that rolls out and kills itself, without any clean-up, when a line with `die_at` is said."""
    return f"""
import json, os, signal
from linkspan.runtimes.base import Rollout
def say(line):
    print(line, flush=True)
    if {die_at!r} in line:
        os.kill(os.getpid(), signal.SIGKILL)
runtime = {opener}
runtime.roll_out(Rollout.model_validate(json.loads({json.dumps(rollout)!r})), say=say)
"""

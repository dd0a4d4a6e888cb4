"""Names, labels, addresses and options of the docker runtime's containers, apart from their being made.

Everything is derived from the service and the revision's number, so that any process, also after a crash,
finds again what another one made.
"""

import ipaddress
import json
from collections.abc import Collection
from itertools import islice
from typing import Any

from docker.types import LogConfig

from linkspan.errors import ConfigError
from linkspan.nouns import sha256
from linkspan.runtimes.base import Rollout, Service
from linkspan.runtimes.docker.nginx import EDGE, PROXY_PORT, RUN, START

APP = "dev.linkspan.app"
ENVIRONMENT = "dev.linkspan.environment"
ROLE = "dev.linkspan.role"
REVISION = "dev.linkspan.revision"
RELEASE = "dev.linkspan.release"
PORT = "dev.linkspan.port"
PROXY = "dev.linkspan.proxy"

VOLUME_PATH = "/linkspan"
NOBODY_ID = 65534
# The first addresses of the network: the gateway has the first, the proxy the second.
_PROXY_HOST = 2
_FIRST_REPLICA = 16
MAX_REPLICAS = 64

# No capability, no way to get one, nothing to write to but /tmp.
CONFINED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "log_config": LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
}
# The container's own /tmp, in memory.
TMP = {"/tmp": "rw,nosuid,nodev,mode=1777"}  # noqa: S108


def name_of(service: Service) -> str:
    """The name of the service's proxy, volume and network."""
    return f"linkspan-{service}"


def replica_name(service: Service, revision: int, index: int) -> str:
    return f"{name_of(service)}-r{revision}-{index}"


def labels(service: Service, role: str, **more: str) -> dict[str, str]:
    """What marks everything of a service. Images carry APP too: only with ENVIRONMENT it is one of these."""
    return {APP: service.app, ENVIRONMENT: service.environment, ROLE: role, **more}


def label_filter(service: Service, role: str = "") -> dict[str, str | list[str] | bool]:
    wanted = [f"{APP}={service.app}", f"{ENVIRONMENT}={service.environment}"]
    return {"label": [*wanted, f"{ROLE}={role}"] if role else wanted}


def proxy_address(subnet: str) -> str:
    return str(ipaddress.ip_network(subnet)[_PROXY_HOST])


def replica_addresses(subnet: str, revision: int, count: int, taken: Collection[str]) -> tuple[str, ...]:
    """Addresses for the replicas of a revision: fixed, so that they survive restarts and nginx needs no DNS.

    Successive revisions get different ones, so that a late connection never reaches a stranger. Raises
    ConfigError for a network that is too small.
    """
    network = ipaddress.ip_network(subnet)
    room = network.num_addresses - _FIRST_REPLICA - 1
    if room < 3 * MAX_REPLICAS:
        raise ConfigError(
            f"the Docker Engine's network {subnet} is too small for two revisions at once",
            expected="a /24 or larger",
            fix="Change `default-address-pools` in /etc/docker/daemon.json",
        )
    start = revision * MAX_REPLICAS
    places = (str(network[_FIRST_REPLICA + (start + step) % room]) for step in range(room))
    return tuple(islice((place for place in places if place not in taken), count))


def spec_of(rollout: Rollout) -> str:
    """The digest of everything that makes the replicas what they are.

    The image counts by digest: the same release under another registry host is the same.
    """
    parts = rollout.model_dump(mode="json", include={"replicas", "port", "ready_path", "env", "memory"})
    return sha256(json.dumps([rollout.release.image, parts], sort_keys=True).encode())


def replica_options(rollout: Rollout, revision: int, index: int) -> dict[str, Any]:
    """How a replica is created, but for its address.

    It is not restarted until it was ready once: a container that exits must stay visible as such.
    """
    options: dict[str, Any] = {
        **CONFINED,
        "name": replica_name(rollout.service, revision, index),
        "labels": labels(
            rollout.service,
            "replica",
            **{REVISION: str(revision), RELEASE: rollout.release.image},
        ),
        "environment": rollout.env,
        "tmpfs": TMP,
        "detach": True,
    }
    if rollout.memory:
        # Without swap: an app that needs more than it said is found out at once, not slowly.
        options |= {"mem_limit": rollout.memory, "memswap_limit": rollout.memory}
    return options


def proxy_options(service: Service, bind: str, port: int) -> dict[str, Any]:
    """How the proxy is created, but for its network."""
    name = name_of(service)
    return {
        **CONFINED,
        "name": name,
        # One that was made otherwise, by an older Linkspan or for another port, is made anew.
        "labels": labels(service, "proxy", **{PROXY: sha256(f"{bind}:{port} {START} {EDGE}".encode())}),
        "entrypoint": ["sh", "-c", START],
        "command": [],
        "user": f"{NOBODY_ID}:{NOBODY_ID}",
        "volumes": {name: {"bind": VOLUME_PATH, "mode": "rw"}},
        "ports": {f"{PROXY_PORT}/tcp": (bind, port)},
        "restart_policy": {"Name": "unless-stopped"},
        # Where Debian's and nginx.org's builds put bodies that they buffer. Owned by nobody, since runc
        # gives a tmpfs the mode of the folder that it covers.
        "tmpfs": dict.fromkeys(
            (RUN, "/var/lib/nginx", "/var/cache/nginx"),
            f"rw,nosuid,nodev,noexec,uid={NOBODY_ID},gid={NOBODY_ID}",
        ),
        "detach": True,
    }

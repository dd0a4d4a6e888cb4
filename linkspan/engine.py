"""The local Docker Engine: opened with clear errors, and asked to pull by digest.

Building, smoke-testing and running go through the same engine; what can go wrong with it is said here once.
"""

import os
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import urlsplit

import docker
import requests
from docker.context import ContextAPI
from docker.errors import (
    APIError,
    DockerException,
    ImageNotFound,
    NotFound,
    create_api_error_from_http_exception,
)
from docker.models.containers import Container
from docker.models.images import Image
from docker.utils.config import load_general_config
from urllib3.exceptions import HTTPError

from linkspan.errors import (
    BuildUnavailable,
    ConfigError,
    LinkspanError,
    RegistryDenied,
    RegistryError,
    RegistryNotFound,
    RegistryUnavailable,
    RuntimeUnavailable,
)
from linkspan.processes import KILLED
from linkspan.progress import Say, Transfer

Unavailable = type[BuildUnavailable] | type[RuntimeUnavailable]
"""The error to raise when the engine cannot be reached: it says which step could not be done."""

_EXIT_SECONDS = 60.0
_MEMORY_SECONDS = 10.0

_START = "Start it (`systemctl start docker`), or set DOCKER_HOST to the engine you mean"


def engine(
    base_url: str = "", *, unavailable: Unavailable = RuntimeUnavailable, timeout_seconds: float = 120
) -> docker.DockerClient:
    """A client of the engine at `base_url`, else at DOCKER_HOST, else of docker's current context.

    `timeout_seconds` is the longest silence of the engine: give a build as long as its slowest quiet step.
    Raises `unavailable` (retriable) when nothing answers, ConfigError for an address that is none and for an
    engine that refuses this user.
    """
    where = base_url or os.environ.get("DOCKER_HOST", "") or _context_host()
    timeout = max(1, round(timeout_seconds))
    try:
        if base_url or not os.environ.get("DOCKER_HOST"):
            return docker.DockerClient(base_url=where or None, timeout=timeout)
        return docker.from_env(timeout=timeout)  # also reads DOCKER_TLS_VERIFY and DOCKER_CERT_PATH
    except (DockerException, requests.RequestException, ValueError) as error:
        raise _cannot_open(where or "its default socket", error, unavailable) from None


def _context_host() -> str:
    # docker-py ignores `docker context use`, which is how Docker Desktop and rootless engines are found.
    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return ""
    return str(context.Host or "") if context is not None else ""


def _cannot_open(where: str, error: Exception, unavailable: Unavailable) -> LinkspanError:
    text = str(error)
    if "PermissionError" in text or "Permission denied" in text:
        return ConfigError(
            f"the Docker Engine at {where} refuses this user",
            fix="Add the user to the group `docker` and log in again, or use rootless Docker",
        )
    if isinstance(error, ValueError) or "nsupported scheme" in text or "Invalid bind address" in text:
        return ConfigError(
            f"{where!r} is no address of a Docker Engine",
            expected="unix:///var/run/docker.sock, tcp://host:2375 or ssh://user@host",
        )
    return unavailable(f"the Docker Engine at {where} does not answer", found=_cause(text), fix=_START)


def _cause(text: str) -> str:
    for known in (
        "No such file or directory",
        "Connection refused",
        "timed out",
        "Name or service not known",
    ):
        if known.lower() in text.lower():
            return known.lower()
    return text.splitlines()[0][:200] if text else "no reason given"


@contextmanager
def reaching(unavailable: Unavailable = RuntimeUnavailable) -> Iterator[None]:
    """Turn a lost engine inside the block, also in the middle of a stream, into `unavailable`.

    APIError passes: only the caller knows what it asked for.
    """
    try:
        yield
    except APIError:
        raise
    except requests.RequestException as error:
        raise unavailable(
            "the Docker Engine stopped answering", found=_cause(str(error)), fix=_START
        ) from None
    except HTTPError as error:
        raise unavailable(
            "the Docker Engine went away in the middle",
            found=str(error)[:200],
            fix="The next run starts over",
        ) from None


def is_here(client: docker.DockerClient) -> bool:
    """Whether the engine is on this machine, so that a port on its loopback can be reached."""
    # docker-py's names for a Unix socket and for a named pipe of Windows are the first two.
    return urlsplit(client.api.base_url).hostname in {"localhost", "localnpipe", "127.0.0.1", "::1"}


def engine_here() -> docker.DockerClient:
    """This machine's engine. Raises as `engine`, and ConfigError if DOCKER_HOST names one elsewhere."""
    found = engine()
    if not is_here(found):
        raise ConfigError(
            "a release is smoke-tested where this machine can reach it",
            expected="a Docker Engine on this machine",
            found=os.environ.get("DOCKER_HOST", "") or _context_host(),
            fix="Run one here and unset DOCKER_HOST; blocks can name another for builds and for releases",
        )
    return found


def engine_time(client: docker.DockerClient) -> datetime:
    """What the engine's clock says: by ours, a machine a day ahead would remove what others just started."""
    return datetime.fromisoformat(str(client.info()["SystemTime"]))


def engine_id(client: docker.DockerClient) -> str:
    """Which engine it is, whatever address it was reached at: the first letters of its own ID."""
    return str(client.info().get("ID", "")).replace(":", "")[:12]


def killed_for_memory(container: Container) -> bool:
    """Whether the kernel killed a container that has ended, because it took more memory than it may.

    The engine hears of that from another source than of the end, and on a busy machine some seconds later:
    who was killed (code 137), by whomever, is looked at until 10 s after its end. Not for longer: the repair
    of what `docker kill` ended waits for it too. Who looks later than that does not wait.
    """

    def may_be() -> bool:
        state = container.attrs["State"]
        return state.get("ExitCode") == KILLED and not state.get("OOMKilled")

    if may_be() and container.client is not None:
        ended = datetime.fromisoformat(container.attrs["State"]["FinishedAt"])
        ago = (engine_time(container.client) - ended).total_seconds()
        end = time.monotonic() + _MEMORY_SECONDS - max(ago, 0)  # the engine's clock may have been set back
        while may_be() and time.monotonic() < end:
            time.sleep(0.1)
            container.reload()
    return bool(container.attrs["State"].get("OOMKilled"))


def run_in(client: docker.DockerClient, container: Container, command: Sequence[str]) -> tuple[int, str]:
    """Run a command in a running container; returns its exit code and all that it printed.

    Raises docker's APIError if the container does not run, RuntimeUnavailable if nobody says how it ended.
    """
    api = client.api
    exec_id = api.exec_create(container.id, list(command))["Id"]
    # Not docker's exec_start: it loses what comes together with the head of the answer, which on a busy
    # machine may be all of it (docker-py #3332). An answer to an ordinary request ends with the command.
    answer = api.post(
        f"{api.base_url}/v{api.api_version}/exec/{exec_id}/start",
        json={"Detach": False, "Tty": False},
        headers=load_general_config().get("HttpHeaders"),
        timeout=api.timeout,
    )
    try:
        answer.raise_for_status()
    except requests.HTTPError as error:
        create_api_error_from_http_exception(error)  # raises it
    output = b"".join(_frames(answer.content)).decode(errors="replace")
    end = time.monotonic() + _EXIT_SECONDS
    while (found := api.exec_inspect(exec_id))["Running"]:  # its output ends a moment before it does
        if time.monotonic() > end:
            raise RuntimeUnavailable(f"{container.name}: the Docker Engine does not say how a command ended")
        time.sleep(0.01)
    return int(found["ExitCode"]), output


def _frames(data: bytes) -> Iterator[bytes]:
    """The payloads of a stream of both outputs (Docker Engine API, ContainerAttach: stream format)."""
    at = 0
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">4xL", data, at)
        yield data[at + 8 : at + 8 + size]
        at += 8 + size


def pull(
    client: docker.DockerClient,
    image: str,
    auth: Mapping[str, str] | None = None,
    *,
    say: Say = lambda _: None,
) -> Image:
    """The image called `image` (`host/repository@sha256:…`), pulled if the engine does not have it.

    `say` hears how far a pull has come. `auth` is {"username": …, "password": …}; None uses what `docker
    login` stored. Raises RegistryDenied, RegistryNotFound, RegistryUnavailable (retriable), RegistryError for
    anything else such as a full disk.
    """
    try:
        return client.images.get(image)
    except ImageNotFound:
        pass  # the usual case: it is pulled
    try:
        lines = client.api.pull(
            image, stream=True, decode=True, auth_config=dict(auth) if auth is not None else None
        )
        fetched, unpacked = Transfer("fetched", say), Transfer("unpacked", say)
        for line in lines:
            # docker-py's own pull() drops these lines, and the cause with them.
            if "error" in line:
                raise pull_error(image, str(line["error"]))
            detail, status = line.get("progressDetail") or {}, line.get("status")
            if "current" in detail and status in {"Downloading", "Extracting"}:
                seen = fetched if status == "Downloading" else unpacked
                seen.update(str(line.get("id", "")), detail["current"], detail.get("total") or 0)
        return client.images.get(image)
    except (ImageNotFound, NotFound, APIError) as error:
        raise pull_error(image, str(error.explanation or error)) from None


Meanings = tuple[tuple[str, type[RegistryError], str, str], ...]
"""Words of the engine, the error that they mean, what went wrong, what to do; the first match wins."""

# The words of moby and containerd, 20.10 to 28.
_PULL_ERRORS: Meanings = (
    (
        r"no space left",
        RegistryError,
        "{image} cannot be pulled: the engine's disk is full",
        "Free space, for example with `docker image prune`",
    ),
    (
        r"unauthorized|access denied|denied:|forbidden|no basic auth|authentication required",
        RegistryDenied,
        "the registry {host} refuses the engine's pull of {image}",
        "Check the registry block's user name and password",
    ),
    (
        r"server gave http response|certificate|x509",
        RegistryError,
        "the engine does not trust the registry {host}",
        "Give the engine its CA, or name it in `insecure-registries` in /etc/docker/daemon.json",
    ),
    (
        r"connection refused|no such host|time-?out|timed out|\beof\b|connection reset|unreachable",
        RegistryUnavailable,
        "the engine cannot reach the registry {host}",
        "",
    ),
    (
        r"toomanyrequests|\b(429|50[0234])\b",
        RegistryUnavailable,
        "the registry {host} cannot serve {image} now",
        "",
    ),
    (
        r"manifest unknown|not found|no such image|name unknown",
        RegistryNotFound,
        "the registry {host} has no {image}",
        "",
    ),
    (r"", RegistryError, "{image} cannot be pulled", ""),
)


def pull_error(image: str, text: str) -> RegistryError:
    """What the engine's message about a failed pull of `image` means."""
    return meaning(_PULL_ERRORS, text, image=image, host=image.split("/", 1)[0])


def meaning(meanings: Meanings, text: str, **names: str) -> RegistryError:
    """The error for the engine's `text`; `names` go into its first sentence."""
    kind, what, fix = next(
        (kind, what, fix) for words, kind, what, fix in meanings if re.search(words, text.lower())
    )
    return kind(what.format(**names), found=" ".join(text.split())[:300], fix=fix)

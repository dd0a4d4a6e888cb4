"""The smoke test: run the linked image as a runtime would, and ask it what linkspan.toml says a user asks.

It happens before the image becomes a release. What cannot start, cannot load its model or answers nonsense is
refused here, with the answer and the log in the error, and nothing that is live ever sees it.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import docker
import httpx
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from linkspan.config import AppConfig, SmokeSection
from linkspan.engine import pull, reaching
from linkspan.errors import RuntimeUnavailable, SmokeFailed
from linkspan.nouns import Noun
from linkspan.progress import Say
from linkspan.runtimes.docker.images import remove_refused
from linkspan.runtimes.docker.lock import locked
from linkspan.runtimes.docker.plan import CONFINED, TMP
from linkspan.runtimes.docker.replicas import observed
from linkspan.runtimes.readiness import Probe, one_line, readiness

LABEL = "dev.linkspan.smoke"
NETWORK = "linkspan-smoke"
_POLL_SECONDS = 0.05
_LOG_LINES = 15
_BODY = 500


class SmokeResult(Noun):
    """A passed smoke test. Times in seconds: from the container's start until ready, of the request alone."""

    status: int
    seconds_to_ready: float
    seconds_to_answer: float


def smoke(
    client: docker.DockerClient,
    image: str,
    config: AppConfig,
    *,
    auth: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    memory: str = "",
    say: Say,
) -> SmokeResult:
    """Run `image` (a reference by digest), wait until it is ready, send config.smoke, compare, remove it.

    Raises SmokeFailed with the cause, the errors of docker_engine.pull, or RuntimeUnavailable. The container
    has no network but the way in from this machine's loopback. What fails does not stay on the engine.
    """
    with reaching():
        say(f"pulling {image}")
        image_id = str(pull(client, image, auth).id)
        sweep(client)
        try:
            return _try(client, image_id, config, dict(env or {}), memory, say)
        except SmokeFailed:
            remove_refused(client, image, say=say)
            raise


def _try(
    client: docker.DockerClient, image: str, config: AppConfig, env: dict[str, str], memory: str, say: Say
) -> SmokeResult:
    with _running(client, image, config, env, memory) as container:
        started = time.monotonic()
        say(f"smoke test: waiting until {config.serve.ready_path} answers 200")
        with _http(container, config) as http:
            _wait_ready(container, http, config)
            ready = time.monotonic()
            say(f"smoke test: ready after {ready - started:.1f} s; {_request_line(config.smoke)}")
            status = _ask(container, http, config.smoke)
        return SmokeResult(
            status=status,
            seconds_to_ready=round(ready - started, 3),
            seconds_to_answer=round(time.monotonic() - ready, 3),
        )


def sweep(client: docker.DockerClient, *, label: str = LABEL, older_seconds: float = 3600) -> None:
    """Remove the containers of smoke tests that were killed: those older than an hour."""
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        created = datetime.fromisoformat(container.attrs["Created"])
        if (datetime.now(UTC) - created).total_seconds() > older_seconds:
            _remove(container)


@contextmanager
def _running(
    client: docker.DockerClient, image: str, config: AppConfig, env: dict[str, str], memory: str
) -> Iterator[Container]:
    limits: dict[str, Any] = {"mem_limit": memory, "memswap_limit": memory} if memory else {}
    try:
        _network(client)
        container = client.containers.create(
            image,
            **CONFINED,
            **limits,
            tmpfs=TMP,
            name=f"linkspan-smoke-{config.name}-{uuid.uuid4().hex[:8]}",
            labels={LABEL: config.name},
            environment=env,
            network=NETWORK,
            ports={f"{config.serve.port}/tcp": ("127.0.0.1", 0)},
        )
    except APIError as error:
        raise _refused(config, error) from None
    try:
        try:
            container.start()
            container.reload()  # only now is its port known
        except APIError as error:
            raise _refused(config, error) from None
        yield container
    finally:
        _remove(container)


def _refused(config: AppConfig, error: APIError) -> SmokeFailed:
    return SmokeFailed(
        f"the image of {config.name} cannot be started",
        found=" ".join(str(error.explanation or error).split())[:_BODY],
    )


def _network(client: docker.DockerClient) -> None:
    """A bridge without a way out: what an untested image sends to the world is not answered."""
    if client.networks.list(names=[NETWORK]):
        return
    # Docker happily makes two networks of one name.
    with locked(NETWORK, seconds=30, say=lambda _: None):
        if not client.networks.list(names=[NETWORK]):
            client.networks.create(
                NETWORK,
                labels={LABEL: "network"},
                options={
                    "com.docker.network.bridge.enable_ip_masquerade": "false",
                    "com.docker.network.bridge.enable_icc": "false",
                },
            )


@contextmanager
def _http(container: Container, config: AppConfig) -> Iterator[httpx.Client]:
    bindings = (container.ports or {}).get(f"{config.serve.port}/tcp")
    if not bindings:
        container.reload()
        if container.status == "running":
            raise RuntimeUnavailable(f"the Docker Engine gave {container.name} no port on this machine")
        bindings = [{"HostPort": "1"}]  # it ended at once; the first look at it says how
    base = f"http://127.0.0.1:{bindings[0]['HostPort']}"
    # No proxy of the environment may come between.
    with httpx.Client(base_url=base, trust_env=False, headers={"Connection": "close"}) as client:
        yield client


def _wait_ready(container: Container, http: httpx.Client, config: AppConfig) -> None:
    serve = config.serve
    end = time.monotonic() + serve.ready_seconds
    while True:
        container.reload()
        probe = _probe(http, serve.ready_path) if container.status == "running" else None
        verdict = readiness(observed(config.name, container, probe), serve.ready_path)
        if verdict.done:
            return
        late = time.monotonic() > end
        if late or not verdict.retriable:
            when = f"was not ready after {serve.ready_seconds:g} s" if late else "did not become ready"
            raise SmokeFailed(
                f"{config.name} {when} in its smoke test",
                found=verdict.reason,
                fix=_with_log("Run the image by hand to see more", container),
            )
        time.sleep(_POLL_SECONDS)


def _probe(http: httpx.Client, path: str) -> Probe:
    try:
        answer = http.get(path, timeout=5)
    except httpx.HTTPError as error:
        return Probe(error=str(error) or type(error).__name__)
    return Probe(status=answer.status_code, body=answer.text)


def _ask(container: Container, http: httpx.Client, wanted: SmokeSection) -> int:
    try:
        answer = http.request(
            wanted.method,
            wanted.path,
            json=wanted.json_body,
            timeout=wanted.timeout_seconds,
        )
    except httpx.TimeoutException:
        raise SmokeFailed(
            f"the smoke request {_request_line(wanted)} was not answered",
            expected=f"an answer within {wanted.timeout_seconds:g} s",
            fix=_with_log("Raise smoke.timeout_seconds if it may take longer", container),
        ) from None
    except httpx.HTTPError as error:
        raise SmokeFailed(
            f"the smoke request {_request_line(wanted)} got no answer",
            found=str(error) or type(error).__name__,
            fix=_with_log("The app may have crashed on it", container),
        ) from None
    difference = unlike(answer, wanted)
    if difference:
        raise SmokeFailed(
            f"the smoke request {_request_line(wanted)} got the wrong answer: {difference}",
            expected=f"status {wanted.expect_status}"
            + (f" and {wanted.expect_json}" if wanted.expect_json is not None else ""),
            found=f"status {answer.status_code} and {answer.text[:_BODY]}",
            fix=_with_log("Mend the app or the model, or the [smoke] section of linkspan.toml", container),
        )
    return answer.status_code


def unlike(answer: httpx.Response, wanted: SmokeSection) -> str:
    """The first way in which an answer is not as wanted; empty if there is none."""
    if answer.status_code != wanted.expect_status:
        return f"status {answer.status_code}"
    if wanted.expect_json is None:
        return ""
    try:
        found = answer.json()
    except ValueError:
        return "it is not JSON"
    return missing(found, wanted.expect_json)


def missing(found: Any, wanted: Any, where: str = "$") -> str:
    """The first part of `wanted` that the JSON value `found` does not contain; empty if it has all.

    Objects may have further keys, at every depth. Lists are compared item by item and have one length.
    """
    if isinstance(wanted, dict):
        return _missing_in_object(found, wanted, where)
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return f"{where} is no list of {len(wanted)}"
        pairs = enumerate(zip(found, wanted, strict=True))
        return next((said for i, pair in pairs if (said := missing(*pair, f"{where}[{i}]"))), "")
    # In Python True is 1; in JSON it is not.
    if isinstance(found, bool) is not isinstance(wanted, bool) or found != wanted:
        return f"{where} is {one_line(repr(found), 100)}, not {wanted!r}"
    return ""


def _missing_in_object(found: Any, wanted: dict[str, Any], where: str) -> str:
    if not isinstance(found, dict):
        return f"{where} is no object"
    for key, value in wanted.items():
        if key not in found:
            return f"{where}.{key} is missing"
        if difference := missing(found[key], value, f"{where}.{key}"):
            return difference
    return ""


def _request_line(wanted: SmokeSection) -> str:
    return f"{wanted.method} {wanted.path}"


def _log(container: Container) -> str:
    return container.logs(tail=_LOG_LINES).decode(errors="replace").strip()


def _with_log(fix: str, container: Container) -> str:
    log = _log(container)
    return f"{fix}. The app's last output:\n{log}" if log else f"{fix}. The app printed nothing"


def _remove(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return  # somebody else's sweep
    except APIError as error:
        if error.status_code != 409:  # its removal is already in progress
            raise

"""WebSockets through the docker runtime's proxy outlive `request_seconds`; a rollout waits no longer."""

import http.client
import time
from urllib.parse import urlsplit

import docker
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from demo.prober import Prober
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker.runtime import DockerRuntime, DockerRuntimeSettings
from tests.prober import assert_no_failure
from tests.runtimes.harness import DockerHarness, Harness
from tests.runtimes.releases import quiet, rollout, version_of
from tests.services.engine import ImageOf


@pytest.fixture
def harness(docker_client: docker.DockerClient) -> Harness:
    """Docker's alone: a cluster's load balancer is not ours."""
    return DockerHarness(docker_client)


@pytest.fixture
def runtime(docker_client: docker.DockerClient) -> DockerRuntime:
    return DockerRuntime(docker_client, DockerRuntimeSettings())


def opened(runtime: DockerRuntime, service: Service) -> Connection:
    """A WebSocket that says nothing by itself, no pings either."""
    url = runtime.url(service).replace("http://", "ws://")
    return connect(f"{url}/echo", ping_interval=None, open_timeout=240, close_timeout=1)


def echoed(websocket: Connection, text: str) -> bool:
    websocket.send(text)
    return websocket.recv(timeout=120) == text


def test_a_websocket_may_be_idle_longer_than_a_request(
    runtime: DockerRuntime, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1"), request_seconds=4.0), say=quiet)
    with opened(runtime, service) as websocket:
        assert echoed(websocket, "first")
        with pytest.raises(TimeoutError):
            websocket.recv(timeout=12)  # nothing comes; and it does not end
        assert echoed(websocket, "second")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Connection": "Upgrade", "Upgrade": "h2c"},
        {"Connection": "Upgrade", "Upgrade": "websocket"},
    ],
    ids=["plain", "h2c", "no handshake"],
)
def test_a_request_that_is_no_websocket_has_its_time(
    runtime: DockerRuntime, service: Service, image_of: ImageOf, headers: dict[str, str]
) -> None:
    plan = rollout(service, "v1", image_of("v1"), replicas=1, request_seconds=1.0)
    runtime.roll_out(plan, say=quiet)
    connection = http.client.HTTPConnection(urlsplit(runtime.url(service)).netloc, timeout=120)
    connection.request("GET", "/slow/600", headers=headers)
    assert connection.getresponse().status == 504
    connection.close()


def test_an_app_that_speaks_no_websocket_answers_for_itself(
    runtime: DockerRuntime, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1"), replicas=1), say=quiet)
    connection = http.client.HTTPConnection(urlsplit(runtime.url(service)).netloc, timeout=120)
    headers = {"Connection": "Upgrade", "Upgrade": "WebSocket"}
    for _ in range(2):  # the connection stays open, as after any other request
        connection.request("POST", "/?a=%2F", body=b"x" * 2_000_000, headers=headers)
        answer = connection.getresponse()
        assert (answer.status, version_of(answer.read())) == (200, "v1")
    connection.close()


def test_a_rollout_gives_a_websocket_the_time_of_a_request(
    runtime: DockerRuntime, service: Service, image_of: ImageOf
) -> None:
    seconds = {"request_seconds": 10.0}
    runtime.roll_out(rollout(service, "v1", image_of("v1"), **seconds), say=quiet)
    said: list[tuple[float, str]] = []
    with (
        opened(runtime, service) as old,
        Prober(f"{runtime.url(service)}/", version_of) as prober,
    ):
        runtime.roll_out(
            rollout(service, "v2", image_of("v2"), expect=1, **seconds),
            say=lambda line: said.append((time.monotonic(), line)),
        )
        with pytest.raises(ConnectionClosed):
            old.recv(timeout=600)
    assert_no_failure(prober.report)
    (switches,) = (when for when, line in said if "switching nginx" in line)
    (waits,) = (when for when, line in said if "letting the requests" in line)
    (removes,) = (when for when, line in said if "removing what it replaces" in line)
    # nginx counts from the reload, which is between the first two; the rest is a busy machine's.
    assert removes - switches > 10
    assert removes - waits < 10 + 240
    with opened(runtime, service) as new:
        assert echoed(new, "again")


def test_pinning_ends_no_websocket(runtime: DockerRuntime, service: Service, image_of: ImageOf) -> None:
    plan = rollout(service, "v1", image_of("v1"), request_seconds=1.0)
    runtime.roll_out(plan, say=quiet)
    with opened(runtime, service) as websocket:
        pinned = runtime.roll_out(plan.model_copy(update={"expect": 1, "pinned": True}), say=quiet)
        assert pinned.pinned
        assert runtime.live(service) == pinned
        assert runtime.history(service) == [pinned]
        assert not runtime.drift(service, 2)
        with pytest.raises(TimeoutError):
            websocket.recv(timeout=3)
        assert echoed(websocket, "still here")

"""The specification of linkspan/runtimes/base.py: what every runtime does, whatever it runs on."""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import docker
import pytest

from demo.prober import Prober
from linkspan.errors import (
    LinkspanError,
    ReleaseNotFound,
    RolloutConflict,
    RolloutFailed,
    RuntimeUnavailable,
)
from linkspan.nouns import Revision
from linkspan.runtimes.base import Runtime, Service
from tests.prober import assert_no_failure
from tests.runtimes.conftest import MODEL, Mounting
from tests.runtimes.harness import Harness, child_program
from tests.runtimes.releases import FOR_MEMORY, outcomes, quiet, reached, rollout, version_of
from tests.services.engine import ImageOf
from tests.waiting import until


@pytest.fixture
def image_of(harness: Harness, docker_client: docker.DockerClient, image_of: ImageOf) -> ImageOf:
    """The test service's images, where the runtime can pull them."""
    return harness.images(docker_client, image_of)


def ask(runtime: Runtime, service: Service, path: str = "/", method: str = "GET", body: str = "") -> bytes:
    connection = http.client.HTTPConnection(urlsplit(runtime.url(service)).netloc, timeout=120)
    connection.request(method, path, body=body or None)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert answer.status == 200, (answer.status, data)
    return data


def version(runtime: Runtime, service: Service) -> str:
    return version_of(ask(runtime, service))


def serves(runtime: Runtime, harness: Harness, service: Service, name: str) -> None:
    """That version answers: at once, or where kube-proxy hears of it a moment later, soon."""
    if not harness.proxied:
        until(lambda: version(runtime, service) == name, what=f"an answer of {name}")
    assert version(runtime, service) == name


def test_nothing_is_live_before_the_first_release(runtime: Runtime, service: Service) -> None:
    assert runtime.live(service) is None
    assert runtime.history(service) == []
    assert runtime.drift(service, 2)
    with pytest.raises(ReleaseNotFound):
        runtime.url(service)


def test_three_releases_follow_each_other(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    replicas: dict[int, Sequence[str]] = {}
    for number, name in enumerate(["v1", "v2", "v3"], start=1):
        plan = rollout(service, name, image_of(name), expect=number - 1, pinned=number == 2)
        revision = runtime.roll_out(plan, say=quiet)
        assert (revision.number, revision.release, revision.cause) == (number, plan.release, "test")
        assert revision.pinned == (number == 2)
        assert runtime.live(service) == revision
        assert not runtime.drift(service, 2)
        if number == 1:
            reached(runtime, service)
        serves(runtime, harness, service, name)
        assert len(harness.replicas(service)) == 2, "the ones before are gone"
        replicas[number] = harness.replicas(service)
    for number, names in replicas.items():
        assert [runtime.revision_of(service, name) for name in names] == [number, number]
    assert runtime.revision_of(service, "of-somebody-else") is None
    again = harness.open()  # no memory but the platform's
    assert outcomes(again.history(service)) == [
        (3, "v3", "live"),
        (2, "v2", "replaced"),
        (1, "v1", "replaced"),
    ]
    assert [revision.pinned for revision in again.history(service)] == [False, True, False]
    assert again.live(service) == runtime.history(service)[0]
    assert again.url(service) == runtime.url(service)


def test_the_same_release_again_is_no_new_revision(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    plan = rollout(service, "v1", image_of("v1"))
    first = runtime.roll_out(plan, say=quiet)
    before = harness.replicas(service)
    assert runtime.roll_out(plan.model_copy(update={"expect": 1}), say=quiet) == first
    assert harness.replicas(service) == before
    pinned = runtime.roll_out(plan.model_copy(update={"expect": 1, "pinned": True}), say=quiet)
    assert pinned == first.model_copy(update={"pinned": True})
    assert runtime.live(service) == pinned
    assert not runtime.drift(service, 2)
    assert len(runtime.history(service)) == 1


def test_other_replicas_or_environment_are_rolled_out(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1"), replicas=1), say=quiet)
    reached(runtime, service)
    assert runtime.drift(service, 3)
    plan = rollout(service, "v1", image_of("v1"), replicas=3, env={"VERSION": "from env"}, expect=1)
    assert runtime.roll_out(plan, say=quiet).number == 2
    assert not runtime.drift(service, 3)
    serves(runtime, harness, service, "from env")


def test_users_reach_the_app_as_themselves(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1"), replicas=1), say=quiet)
    reached(runtime, service)
    headers = json.loads(ask(runtime, service, "/headers"))
    assert headers["Host"] == urlsplit(runtime.url(service)).netloc
    if harness.proxied:
        assert headers["X-Forwarded-For"]
        assert headers["X-Forwarded-Proto"] == "http"
    assert json.loads(ask(runtime, service, "/", "POST", "x" * 3_000_000))["size"] == 3_000_000


def test_a_model_is_mounted_where_nobody_can_write(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf, mounting: Mounting
) -> None:
    """Another model is another release, and the one before can be put back with its own."""
    one = mounting(
        rollout(service, "v1", image_of("v1")), {"weights": b"one" * 100_000, "sub/words": b"\xc3\xa9"}
    )
    runtime.roll_out(one, say=quiet)
    reached(runtime, service)
    assert ask(runtime, service, f"/file{MODEL}/weights") == b"one" * 100_000
    assert ask(runtime, service, f"/file{MODEL}/sub/words") == b"\xc3\xa9"
    assert ask(runtime, service, f"/write{MODEL}/weights") == b"Read-only file system"
    assert ask(runtime, service, f"/write{MODEL}/more") == b"Read-only file system"
    assert not runtime.drift(service, 2)

    two = mounting(rollout(service, "v2", image_of("v2"), expect=1), {"weights": b"two"})
    assert runtime.roll_out(two, say=quiet).number == 2
    serves(runtime, harness, service, "v2")
    assert ask(runtime, service, f"/file{MODEL}/weights") == b"two"
    assert ask(runtime, service, f"/file{MODEL}/sub/words") == b"No such file or directory"
    assert not runtime.drift(service, 2)

    harness.kill_replica(service)
    if not harness.heals_itself:
        assert runtime.drift(service, 2)
        runtime.roll_out(two.model_copy(update={"expect": 2}), say=quiet)
    until(lambda: len(harness.replicas(service)) == 2)
    until(lambda: not runtime.drift(service, 2))
    assert ask(runtime, service, f"/file{MODEL}/weights") == b"two"

    runtime.roll_out(one.model_copy(update={"expect": 2}), say=quiet)
    serves(runtime, harness, service, "v1")
    assert ask(runtime, service, f"/file{MODEL}/weights") == b"one" * 100_000
    runtime.destroy(service)
    assert harness.resources(service) == []


def test_a_model_that_is_not_in_the_registry_is_told_and_nothing_is_replaced(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf, mounting: Mounting
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    reached(runtime, service)
    there = mounting(rollout(service, "v2", image_of("v2"), expect=1), {"weights": b"2"})
    assert there.mount
    gone = there.mount.image.rpartition("@")[0] + f"@sha256:{'0' * 64}"
    missing = there.model_copy(update={"mount": there.mount.model_copy(update={"image": gone})})
    with pytest.raises((RolloutFailed, RuntimeUnavailable)) as caught:
        runtime.roll_out(missing, say=quiet)
    assert "@sha256:" + "0" * 12 in str(caught.value), caught.value
    serves(runtime, harness, service, "v1")
    assert not runtime.drift(service, 2)


LONG = {"ready_seconds": 1200}
"""How long it may take until it is ready, where waiting cannot help."""
LISTENS = {"ready_seconds": 30}
"""In that time an app listens on a busy machine too, and has answered."""


@pytest.mark.parametrize(
    ("behaviour", "options", "says"),
    [
        ("exits", LONG, "exited with code 3: ImportError: no module named sklearn"),
        ("never", LISTENS, "not ready after 30 s: .* 503"),
        ("deaf", LISTENS, "not ready after 30 s: .*/readyz.*(refused|connect)"),
        ("crashes", LONG, "exited with code 9"),
        ("crashes", {**LONG, "env": {"CRASHES_AFTER": "0.4"}}, "exited with code 9"),
        ("hungry", {**LONG, "memory": "32m"}, FOR_MEMORY),
    ],
)
def test_a_release_that_does_not_become_ready_changes_nothing(
    *,
    runtime: Runtime,
    harness: Harness,
    service: Service,
    image_of: ImageOf,
    behaviour: str,
    options: dict[str, object],
    says: str,
) -> None:
    live = runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    before = harness.replicas(service)
    plan = rollout(service, "v2", image_of("v2", behaviour), expect=1, **options)
    with Prober(reached(runtime, service), version_of) as prober:
        start = time.monotonic()
        with pytest.raises(RolloutFailed, match=says):
            runtime.roll_out(plan, say=quiet)
        assert time.monotonic() - start < 600, "it waited although waiting cannot help"
    assert_no_failure(prober.report)
    assert set(prober.report.versions) == {"v1"}
    assert runtime.live(service) == live
    assert not runtime.drift(service, 2)
    assert harness.replicas(service) == before
    history = runtime.history(service)
    assert outcomes(history) == [(2, "v2", "failed"), (1, "v1", "live")]
    assert history[0].reason
    assert "\n" not in history[0].reason


def test_the_first_release_may_fail(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    with pytest.raises(RolloutFailed):
        runtime.roll_out(rollout(service, "v1", image_of("v1", "exits")), say=quiet)
    assert runtime.live(service) is None
    assert outcomes(runtime.history(service)) == [(1, "v1", "failed")]
    assert runtime.roll_out(rollout(service, "v2", image_of("v2")), say=quiet).number == 2
    reached(runtime, service)
    serves(runtime, harness, service, "v2")


def test_a_pull_that_fails_says_nothing_about_the_release(
    runtime: Runtime, service: Service, image_of: ImageOf
) -> None:
    live = runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    missing = rollout(service, "v2", image_of("v1"), expect=1, ready_seconds=30)
    other = missing.model_copy(
        update={
            "image": f"127.0.0.1:1/digits@sha256:{'a' * 64}",
            "release": missing.release.model_copy(update={"image": f"sha256:{'a' * 64}"}),
        }
    )
    with pytest.raises(LinkspanError) as failed:
        runtime.roll_out(other, say=quiet)
    assert failed.value.retriable, "a registry that is away may come back"
    assert runtime.history(service) == [live]


def test_a_slow_start_is_waited_for(runtime: Runtime, service: Service, image_of: ImageOf) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    with Prober(reached(runtime, service), version_of) as prober:
        runtime.roll_out(rollout(service, "v2", image_of("v2", "slow-start"), expect=1), say=quiet)
        assert prober.wait_for("v2", seconds=600)
    assert_no_failure(prober.report)


def test_a_request_under_way_is_answered_by_what_it_was_sent_to(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    reached(runtime, service)
    started = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def slow() -> str:
            started.set()
            return version_of(ask(runtime, service, "/slow/4"))

        answer = pool.submit(slow)
        started.wait()
        runtime.roll_out(rollout(service, "v2", image_of("v2"), expect=1), say=quiet)
        assert answer.result() == "v1", "what it was sent to was removed before it had answered"
    serves(runtime, harness, service, "v2")
    assert len(harness.replicas(service)) == 2


def test_a_release_over_another_than_expected_is_refused(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    for expect in (0, 1):
        runtime.roll_out(rollout(service, f"v{expect}", image_of(f"v{expect}"), expect=expect), say=quiet)
    before = harness.resources(service)
    for expect in (0, 1, 3):
        with pytest.raises(RolloutConflict, match="found revision 2"):
            runtime.roll_out(rollout(service, "v2", image_of("v2"), expect=expect), say=quiet)
    assert harness.resources(service) == before


def test_of_two_rollouts_at_once_one_is_refused(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    image_of("v2"), image_of("v3")

    def one(name: str) -> Revision | RolloutConflict:
        try:
            return harness.open().roll_out(rollout(service, name, image_of(name), expect=1), say=quiet)
        except RolloutConflict as conflict:
            return conflict

    with Prober(reached(runtime, service), version_of) as prober, ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, ["v2", "v3"]))
    assert_no_failure(prober.report)
    won = [result for result in results if isinstance(result, Revision)]
    assert [type(result).__name__ for result in results if result not in won] == ["RolloutConflict"]
    assert runtime.live(service) == won[0]
    assert len(harness.replicas(service)) == 2


def test_two_services_side_by_side(
    runtime: Runtime, harness: Harness, new_service: Callable[[], Service], image_of: ImageOf
) -> None:
    one, two = new_service(), new_service()
    runtime.roll_out(rollout(one, "v1", image_of("v1"), replicas=1), say=quiet)
    runtime.roll_out(rollout(two, "v2", image_of("v2"), replicas=1), say=quiet)
    assert reached(runtime, one) != reached(runtime, two)
    assert (version(runtime, one), version(runtime, two)) == ("v1", "v2")
    assert runtime.revision_of(two, harness.replicas(one)[0]) is None
    before = harness.resources(two)
    runtime.destroy(one)
    # What a cluster's object owned goes a moment later.
    until(lambda: harness.resources(one) == [], what="the end of all it had")
    assert runtime.live(one) is None
    assert harness.resources(two) == before
    assert version(runtime, two) == "v2"
    runtime.destroy(one)  # again is no error


def test_a_replica_that_was_removed_is_brought_back(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    plan = rollout(service, "v1", image_of("v1"))
    live = runtime.roll_out(plan, say=quiet)
    before = harness.replicas(service)
    with Prober(reached(runtime, service), version_of) as prober:
        harness.kill_replica(service)
        assert harness.heals_itself or runtime.drift(service, 2)
        assert runtime.roll_out(plan.model_copy(update={"expect": 1}), say=quiet) == live
    # A request that the dead replica had already taken is lost with it; none of the others is.
    assert len(prober.report.failures) <= 1, prober.report.failures
    assert not runtime.drift(service, 2)
    assert len(harness.replicas(service)) == 2
    assert harness.heals_itself or harness.replicas(service) == before


def test_a_proxy_that_was_removed_is_brought_back(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    live = runtime.roll_out(rollout(service, "v2", image_of("v2"), expect=1), say=quiet)
    url = runtime.url(service)
    if not harness.remove_proxy(service):
        pytest.skip("this runtime has nothing like it")
    assert runtime.live(service) == live, "what is live must not be forgotten"
    assert len(runtime.history(service)) == 2
    assert runtime.drift(service, 2)
    assert runtime.roll_out(rollout(service, "v2", image_of("v2"), expect=2), say=quiet) == live
    assert not runtime.drift(service, 2)
    if harness.proxied:  # a cluster may choose another node port
        assert runtime.url(service) == url
    reached(runtime, service)
    serves(runtime, harness, service, "v2")


@pytest.mark.parametrize("step", range(7))
def test_a_rollout_killed_at_any_step_leaves_a_release_serving_and_is_finished_by_the_next(
    *,
    runtime: Runtime,
    harness: Harness,
    service: Service,
    image_of: ImageOf,
    step: int,
) -> None:
    if step >= len(harness.steps):
        pytest.skip("this runtime has no such step")
    said, live_after = harness.steps[step]
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    plan = rollout(service, "v2", image_of("v2"), expect=1)
    with Prober(reached(runtime, service), version_of) as prober:
        program = child_program(harness.opener(), plan.model_dump(mode="json"), said)
        killed = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=1200, check=False
        )
        assert killed.returncode == -9, killed.stderr
        live = runtime.live(service)
        assert live is not None
        assert live.number == live_after
        done = runtime.roll_out(plan.model_copy(update={"expect": live.number}), say=quiet)
        assert prober.wait_for("v2", seconds=600)
    assert_no_failure(prober.report)
    assert done.number == 2
    assert runtime.live(service) == done
    assert not runtime.drift(service, 2)
    assert len(harness.replicas(service)) == 2
    assert outcomes(runtime.history(service)) == [(2, "v2", "live"), (1, "v1", "replaced")]


def test_the_first_rollout_may_be_killed_too(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    plan = rollout(service, "v1", image_of("v1"))
    for step in harness.first_steps:
        program = child_program(harness.opener(), plan.model_dump(mode="json"), step)
        killed = subprocess.run([sys.executable, "-c", program], timeout=1200, check=False)
        assert killed.returncode == -9, step
        assert runtime.live(service) is None, step
        assert runtime.history(service) == []
    assert runtime.roll_out(plan, say=quiet).number == 1
    reached(runtime, service)
    serves(runtime, harness, service, "v1")


@pytest.mark.slow
def test_ten_rollouts_in_a_row_fail_no_request(
    *,
    runtime: Runtime,
    harness: Harness,
    service: Service,
    image_of: ImageOf,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not harness.proxied:
        pytest.skip("tests/e2e/test_kubernetes.py has as many, and a rollback")
    runtime.roll_out(rollout(service, "v0", image_of("v0")), say=quiet)
    clients = {"keep-alive": 2, "new connection": 2}
    prober = Prober(reached(runtime, service), version_of, per_second=100, clients=clients).start()  # type: ignore[arg-type]
    seconds = []
    for number in range(1, 11):
        name = f"v{number % 3}"
        start = time.monotonic()
        runtime.roll_out(rollout(service, name, image_of(name), expect=number), say=quiet)
        seconds.append(time.monotonic() - start)
    report = prober.stop()
    with capsys.disabled():
        print(f"\n10 rollouts, {min(seconds):.1f}-{max(seconds):.1f} s each; {report.summary()}")  # noqa: T201
    assert_no_failure(report)
    assert set(report.versions) == {"v0", "v1", "v2"}
    assert report.total > 1000

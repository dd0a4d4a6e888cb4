"""The smoke test on every runtime: passes what serves, says what is wrong with the rest, leaves nothing."""

import random
import time
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from linkspan.config import SmokeSection
from linkspan.errors import RegistryError, SmokeFailed
from linkspan.release.smoke import smoke
from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.readiness import Readiness
from tests.runtimes.conftest import MODEL, Mounting
from tests.runtimes.harness import Harness
from tests.runtimes.releases import FOR_MEMORY, quiet, rollout
from tests.services.engine import ImageOf, build_image
from tests.services.registry import CountingProxy, RunningRegistry
from tests.test_engine import push
from tests.waiting import until


@pytest.fixture
def image_of(harness: Harness, docker_client: docker.DockerClient, image_of: ImageOf) -> ImageOf:
    return harness.images(docker_client, image_of)


def asking(**fields: Any) -> SmokeSection:
    return SmokeSection.model_validate({"path": "/", "expect_json": {"version": "v1"}} | fields)


def test_an_image_that_serves_passes(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    said: list[str] = []
    result = smoke(runtime, rollout(service, "v1", image_of("v1")), asking(), say=said.append)
    assert result.status == 200
    assert 0 < result.seconds_to_ready < 200
    assert any("GET /" in line for line in said)
    until(lambda: harness.trials(service) == [], what="the end of the trial")
    assert runtime.live(service) is None


def test_a_json_body_is_sent(runtime: Runtime, service: Service, image_of: ImageOf) -> None:
    wanted = asking(method="POST", json={"input": "x" * 200_000}, expect_json={"size": 200_012})
    assert smoke(runtime, rollout(service, "v1", image_of("v1")), wanted, say=quiet).status == 200


@pytest.mark.parametrize(
    ("behaviour", "wanted", "says"),
    [
        ("exits", {}, "exited with code 3: ImportError: no module named sklearn"),
        ("good", {"expect_json": {"version": "v2"}}, "$.version is 'v1', not 'v2'"),
        ("good", {"expect_status": 201}, "got the wrong answer: status 200"),
        ("good", {"method": "PUT", "expect_json": None}, "501"),
        ("good", {"path": "/slow/9", "timeout_seconds": 0.3}, "within 0.3 s"),
        ("good", {"path": "/endless/9", "timeout_seconds": 1}, "a whole answer within 1 s"),
        ("good", {"path": "/endless/4000000", "timeout_seconds": 200}, "had not ended after 16 MiB"),
    ],
)
def test_what_is_wrong_is_said(
    *,
    runtime: Runtime,
    harness: Harness,
    service: Service,
    image_of: ImageOf,
    behaviour: str,
    wanted: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises(SmokeFailed) as failed:
        smoke(runtime, rollout(service, "v1", image_of("v1", behaviour)), asking(**wanted), say=quiet)
    assert says in str(failed.value)
    until(lambda: harness.trials(service) == [], what="the end of the trial")


def test_never_ready_says_what_the_app_says(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is over once the app answers: before, another reason would be right."""
    now, verdict = [0.0], harness.trial.verdict

    def late_once_asked(trial: Any, path: str) -> Readiness:
        found: Readiness = verdict(trial, path)
        now[0] = 201.0 if "with 503" in found.reason else 0.0
        return found

    monkeypatch.setattr(harness.trial, "verdict", late_once_asked)
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep)
    monkeypatch.setattr("linkspan.release.smoke.time", clock)
    with pytest.raises(
        SmokeFailed,
        match=r"not ready after 200 s.*answers /readyz with 503: the model cannot be opened: bad magic",
    ):
        smoke(runtime, rollout(service, "v1", image_of("v1", "never")), asking(), say=quiet)
    until(lambda: harness.trials(service) == [], what="the end of the trial")


def test_too_little_memory_is_said(runtime: Runtime, service: Service, image_of: ImageOf) -> None:
    with pytest.raises(SmokeFailed, match=FOR_MEMORY):
        smoke(runtime, rollout(service, "v1", image_of("v1", "hungry"), memory="32m"), asking(), say=quiet)


def test_an_image_that_cannot_be_pulled_is_no_smoke_failure(
    runtime: Runtime, harness: Harness, service: Service, image_of: ImageOf
) -> None:
    missing = image_of("v1").rpartition("@")[0] or "127.0.0.1:1/digits"
    with pytest.raises(RegistryError, match=r"cannot be fetched|cannot reach|has no"):
        smoke(runtime, rollout(service, "v1", f"{missing}@sha256:{'a' * 64}"), asking(), say=quiet)
    until(lambda: harness.trials(service) == [], what="the end of the trial")


def test_it_runs_with_the_model_that_the_release_will_mount(
    runtime: Runtime, service: Service, image_of: ImageOf, mounting: Mounting
) -> None:
    plan = mounting(rollout(service, "v1", image_of("v1")), {"weights": b"heavy" * 1000})
    wanted = asking(path=f"/file{MODEL}/weights", expect_json=None)
    assert smoke(runtime, plan, wanted, say=quiet).status == 200


def test_what_is_tried_is_fetched_once(
    *,
    runtime: Runtime,
    service: Service,
    docker_client: docker.DockerClient,
    registry: RunningRegistry,
    counting_proxy: CountingProxy,
    image_of: ImageOf,
) -> None:
    """And for nobody else: counted at a door of the registry that only who runs releases knows."""
    size, app, base = 3 << 20, service.app, image_of("v1")
    auth = {"username": registry.username, "password": registry.password}
    if "@" in base:  # it is in the registry, and an engine builds on it
        docker_client.images.pull(base, auth_config=auth)
    new = random.Random(app).randbytes(size).hex()
    image = build_image(docker_client, {"Dockerfile": f"FROM {base}\nCOPY new /srv/\n", "new": new}, tag=app)
    reference = push(docker_client, image, f"{counting_proxy.host}/{app}", auth)
    docker_client.images.remove(app)
    counting_proxy.reset()
    smoke(runtime, asked := rollout(service, "v1", reference), asking(), say=quiet)
    assert counting_proxy.received > size
    counting_proxy.reset()
    runtime.roll_out(asked, say=quiet)
    assert counting_proxy.received < 64 << 10

"""The smoke test of an image: passes what serves, and says what is wrong with what does not."""

import time
import uuid
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from docker.errors import ImageNotFound

from linkspan.config import AppConfig
from linkspan.errors import RegistryUnavailable, SmokeFailed
from linkspan.release.smoke import missing, smoke
from linkspan.runtimes.docker.trial import LABEL, Trial, sweep
from linkspan.runtimes.readiness import Readiness
from tests.runtimes.releases import FOR_MEMORY
from tests.services.engine import ImageOf, build_image
from tests.services.registry import RunningRegistry
from tests.skew import DAY, skewed
from tests.test_engine import push


@pytest.fixture
def app() -> str:
    return f"smoke{uuid.uuid4().hex[:8]}"


def config(app: str, *, memory: str = "", **smoke_section: Any) -> AppConfig:
    section: dict[str, Any] = {"path": "/", "expect_json": {"version": "v1"}} | smoke_section
    return AppConfig.model_validate(
        {
            "name": app,
            "model": {"name": "digits"},
            "serve": {"ready_seconds": 200},
            "smoke": section,
        }
    )


def left(client: docker.DockerClient, app: str) -> list[Any]:
    return client.containers.list(all=True, filters={"label": f"{LABEL}={app}"}, ignore_removed=True)


def quiet(_: str) -> None: ...


def test_an_image_that_serves_passes(docker_client: docker.DockerClient, image_of: ImageOf, app: str) -> None:
    said: list[str] = []
    result = smoke(docker_client, image_of("v1"), config(app), say=said.append)
    assert result.status == 200
    assert 0 < result.seconds_to_ready < 200
    assert any("GET /" in line for line in said)
    assert left(docker_client, app) == []


def test_a_json_body_is_sent(docker_client: docker.DockerClient, image_of: ImageOf, app: str) -> None:
    wanted = config(app, method="POST", json={"input": "x"}, expect_json={"size": len('{"input":"x"}')})
    assert smoke(docker_client, image_of("v1"), wanted, say=quiet).status == 200


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
    docker_client: docker.DockerClient,
    image_of: ImageOf,
    app: str,
    behaviour: str,
    wanted: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises(SmokeFailed) as failed:
        smoke(docker_client, image_of("v1", behaviour), config(app, **wanted), say=quiet)
    assert says in str(failed.value)
    assert left(docker_client, app) == []


def test_never_ready_says_what_the_app_says(
    docker_client: docker.DockerClient, image_of: ImageOf, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is over once the app answers: before, another reason would be right."""
    now, verdict = [0.0], Trial.verdict

    def late_once_asked(trial: Trial, path: str) -> Readiness:
        found = verdict(trial, path)
        now[0] = 201.0 if "with 503" in found.reason else 0.0
        return found

    monkeypatch.setattr(Trial, "verdict", late_once_asked)
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep)
    monkeypatch.setattr("linkspan.release.smoke.time", clock)
    with pytest.raises(
        SmokeFailed,
        match=r"not ready after 200 s.*answers /readyz with 503: the model cannot be opened: bad magic",
    ):
        smoke(docker_client, image_of("v1", "never"), config(app), say=quiet)
    assert left(docker_client, app) == []


def test_too_little_memory_is_said(docker_client: docker.DockerClient, image_of: ImageOf, app: str) -> None:
    with pytest.raises(SmokeFailed, match=FOR_MEMORY):
        smoke(docker_client, image_of("v1", "hungry"), config(app), memory="32m", say=quiet)


def test_an_image_that_cannot_be_pulled_is_no_smoke_failure(
    docker_client: docker.DockerClient, app: str
) -> None:
    with pytest.raises(RegistryUnavailable):
        smoke(docker_client, f"127.0.0.1:1/digits@sha256:{'a' * 64}", config(app), say=quiet)


def test_only_what_passes_stays_on_the_engine(
    docker_client: docker.DockerClient, image_of: ImageOf, app: str, registry: RunningRegistry
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    dockerfile = f"FROM {image_of('v1')}\nLABEL of={app}"
    image = build_image(docker_client, {"Dockerfile": dockerfile}, tag=app)
    reference = push(docker_client, image, f"{registry.host}/{app}", auth)
    docker_client.images.remove(app)
    smoke(docker_client, reference, config(app), auth=auth, say=quiet)
    assert docker_client.images.get(reference)
    with pytest.raises(SmokeFailed):
        smoke(docker_client, reference, config(app, expect_status=201), auth=auth, say=quiet)
    with pytest.raises(ImageNotFound):
        docker_client.images.get(reference)


def test_containers_of_killed_smoke_tests_are_swept(
    docker_client: docker.DockerClient, image_of: ImageOf, app: str
) -> None:
    stale = docker_client.containers.create(image_of("v1"), labels={LABEL: app})
    sweep(docker_client)
    assert left(docker_client, app) == [stale], "one that is not an hour old may be in use"
    with skewed(DAY):
        sweep(docker_client)
    assert left(docker_client, app) == [stale], "by the engine's clock, not by that of a machine a day ahead"
    sweep(docker_client, label=f"{LABEL}={app}", older_seconds=0)
    assert left(docker_client, app) == []


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, ""),
        ({"a": {"b": [1, {"c": 2, "d": 3}]}}, {"a": {"b": [1, {"c": 2}]}}, ""),
        (1, 1.0, ""),
        (None, None, ""),
        ({"a": 1}, {"b": 1}, "$.b is missing"),
        ({"a": [1, 2]}, {"a": [1]}, "$.a is no list of 1"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "$.a[1] is 2, not 3"),
        (True, 1, "$ is True, not 1"),
        ([], {}, "$ is no object"),
    ],
)
def test_a_part_of_the_json(found: Any, wanted: Any, says: str) -> None:
    assert missing(found, wanted) == says

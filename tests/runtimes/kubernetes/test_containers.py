"""Containers that do not run in a cluster: every cause, with the words that people will read."""

import pytest

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.readiness import needs_logs
from tests.runtimes.kube_seen import (
    DIGEST,
    IMAGE,
    RUNNING,
    SHORT,
    container,
    event,
    one,
    pod,
    rolling,
    terminated,
    verdict,
    waiting,
)

CRASH_LOOP = waiting("CrashLoopBackOff", "back-off 10s restarting failed container=app pod=app-c_ns(pod-c)")
PULLING = (
    f'rpc error: code = NotFound desc = failed to pull and unpack image "{IMAGE}": '
    f'failed to resolve reference "{IMAGE}": '
)


@pytest.mark.parametrize(
    ("message", "retriable", "says"),
    [
        (PULLING + f"{IMAGE}: not found", False, "not found"),
        (
            PULLING + "unexpected status from HEAD request to https://registry.example/v2/x: 403 Forbidden",
            False,
            "unexpected status from HEAD request to https://registry.example/v2/x: 403 Forbidden",
        ),
        (
            PULLING
            + "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
            False,
            "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
        ),
        (
            PULLING + "pull access denied, repository does not exist or may require authorization",
            False,
            "pull access denied, repository does not exist or may require authorization",
        ),
        (PULLING + "no basic auth credentials", False, "no basic auth credentials"),
        ('Failed to pull image "x": manifest unknown', False, "manifest unknown"),
        (
            PULLING + 'failed to do request: Head "https://r.example/v2/not found": dial tcp: i/o timeout',
            True,
            'failed to do request: Head "https://r.example/v2/not found": dial tcp: i/o timeout',
        ),
        (PULLING + "429 Too Many Requests", True, "429 Too Many Requests"),
        (
            'failed to copy: Get "https://me:pw@store.example/blob?sig=topsecret&se=1": EOF',
            True,
            'failed to copy: Get "https://store.example/blob": EOF',
        ),
    ],
)
@pytest.mark.parametrize("wrapping", ["", f'Back-off pulling image "{IMAGE}": ErrImagePull: '])
def test_an_image_that_cannot_be_pulled(message: str, retriable: bool, says: str, wrapping: str) -> None:
    state = waiting("ImagePullBackOff" if wrapping else "ErrImagePull", wrapping + message)
    assert verdict(rolling(one(state)), stuck=31) == (retriable, f"app-c cannot pull {SHORT}: {says}")


@pytest.mark.parametrize("wrapping", ["", 'Back-off pulling image "r.example/model:1": ErrImagePull: '])
def test_an_image_of_a_volume_is_named(wrapping: str) -> None:
    """The container's own image, which its status names, was pulled."""
    message = PULLING.replace(IMAGE, "r.example/model:1") + "r.example/model:1: not found"
    seen = one(waiting("ImagePullBackOff" if wrapping else "ErrImagePull", wrapping + message))
    seen["spec"]["volumes"] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "model", "image": {"reference": "r.example/model:1"}},
    ]
    assert verdict(rolling(seen), stuck=31) == (False, "app-c cannot pull r.example/model:1: not found")


def test_a_kubelet_may_learn_of_a_new_secret_late() -> None:
    state = waiting("ErrImagePull", PULLING + "no basic auth credentials")
    assert [verdict(rolling(one(state)), stuck=seconds)[0] for seconds in (5, 31)] == [True, False]


def test_other_reasons_of_the_image_manager() -> None:
    bad = waiting("InvalidImageName", "couldn't parse image name: invalid reference format")
    assert verdict(rolling(one(bad))) == (
        False,
        f"app-c cannot pull {SHORT}: couldn't parse image name: invalid reference format",
    )
    never = waiting("ErrImageNeverPull", "the image is not present with pull policy of Never")
    assert verdict(rolling(one(never)))[0] is True
    unsigned = waiting("SignatureValidationFailed", "image pull failed: the signature validation failed")
    assert verdict(rolling(one(unsigned)))[0] is False


def test_a_pull_back_off_without_a_cause_takes_it_from_the_last_attempt() -> None:
    state = waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')
    events = [
        event("app-c", "Failed", f'Failed to pull image "{IMAGE}": {PULLING}{IMAGE}: not found', at=7),
        event("app-c", "Failed", "Error: ImagePullBackOff", at=8),
    ]
    assert verdict(rolling(one(state), events=events)) == (False, f"app-c cannot pull {SHORT}: not found")
    assert verdict(rolling(one(state))) == (True, f"app-c cannot pull {SHORT}: ImagePullBackOff")


def test_a_missing_pull_secret_is_named() -> None:
    state = waiting("ErrImagePull", PULLING + "401 Unauthorized")
    words = (
        "Unable to retrieve some image pull secrets (linkspan-registry); attempting to pull may not succeed."
    )
    seen = rolling(one(state), events=[event("app-c", "FailedToRetrieveImagePullSecret", words)])
    assert verdict(seen)[1].endswith("401 Unauthorized (there is no pull secret linkspan-registry)")


@pytest.mark.parametrize(
    ("seen", "logs", "retriable", "says"),
    [
        (one(terminated(3)), "a\n\nb\n", True, "app-c exited with code 3: a | b"),
        (one(RUNNING, last=terminated(3), restarts=1), "b", True, "app-c exited with code 3: b"),
        (one(terminated(3), restarts=1), "b", False, "app-c exited with code 3: b"),
        (one(RUNNING, last=terminated(3), restarts=2), "b", False, "app-c exited with code 3: b"),
        (one(CRASH_LOOP, last=terminated(3), restarts=1), "b", False, "app-c exited with code 3: b"),
        (
            one(CRASH_LOOP, last=terminated(0, "Completed")),
            "",
            False,
            "app-c exited with code 0 and said nothing",
        ),
        (one(CRASH_LOOP, last=terminated(3)), None, False, "app-c exited with code 3"),
        (one(CRASH_LOOP, last=terminated(3, message="from the file")), None, False, "code 3: from the file"),
        (
            one(CRASH_LOOP, last=terminated(137, "OOMKilled")),
            "b",
            False,
            "app-c ran out of memory and was killed (its limit is 64Mi)",
        ),
        (
            one(
                CRASH_LOOP,
                last=terminated(
                    128,
                    "StartError",
                    "failed to create containerd task: failed to create shim task: OCI runtime create "
                    'failed: unable to start container process: exec: "nope": no such file: unknown',
                ),
            ),
            None,
            False,
            'app-c cannot be started: exec: "nope": no such file: unknown',
        ),
    ],
)
def test_a_crash(seen: KubeObject, logs: str | None, retriable: bool, says: str) -> None:
    found = verdict(rolling(seen, logs=None if logs is None else {"app-c": logs}))
    assert found[0] is retriable
    assert found[1].endswith(says)


def test_only_the_last_lines_are_quoted_and_long_ones_are_cut() -> None:
    logs = "\n".join([*(f"line {n}" for n in range(20)), "x" * 9000])
    _, reason = verdict(rolling(one(terminated(1)), logs={"app-c": logs}))
    assert "line 15" not in reason
    assert "line 16 | line 17" in reason
    assert len(reason) < 400


def killed(probe: str, *, at: int = 8) -> list[KubeObject]:
    words = f"{probe.capitalize()} probe failed: HTTP probe failed with statuscode: 500"
    return [
        event("app-c", "Unhealthy", words, at=7, place="app"),
        event(
            "app-c", "Killing", f"Container app failed {probe} probe, will be restarted", at=at, place="app"
        ),
    ]


@pytest.mark.parametrize("probe", ["liveness", "startup"])
def test_a_container_that_a_probe_killed(probe: str) -> None:
    says = f"app-c was killed: {probe.capitalize()} probe failed: HTTP probe failed with statuscode: 500"
    once = one(RUNNING, last=terminated(137), restarts=1)
    assert verdict(rolling(once, events=killed(probe), logs={"app-c": "x"})) == (True, says)
    again = one(CRASH_LOOP, last=terminated(137), restarts=1)
    assert verdict(rolling(again, events=killed(probe), logs={"app-c": "x"})) == (False, says)


def test_a_kill_before_the_container_began_is_not_its_end() -> None:
    seen = rolling(one(CRASH_LOOP, last=terminated(3)), events=killed("liveness", at=1), logs={"app-c": "b"})
    assert verdict(seen) == (False, "app-c exited with code 3: b")


@pytest.mark.parametrize(
    ("reason", "message", "seconds", "retriable", "says"),
    [
        (
            "CreateContainerConfigError",
            'secret "db" not found',
            31,
            False,
            'cannot be configured: secret "db" not found',
        ),
        (
            "CreateContainerConfigError",
            "couldn't find key url in Secret ns/db",
            31,
            False,
            "key url in Secret ns/db",
        ),
        ("CreateContainerConfigError", 'configmap "db" not found', 29, True, 'configmap "db" not found'),
        (
            "CreateContainerConfigError",
            "failed to sync secret cache: timed out waiting for the condition",
            1,
            True,
            "timed out waiting for the condition",
        ),
        (
            "CreateContainerError",
            "context deadline exceeded",
            29,
            True,
            "cannot be started: context deadline exceeded",
        ),
        ("CreateContainerError", "context deadline exceeded", 31, False, "context deadline exceeded"),
        (
            "RunContainerError",
            "x: unable to start container process: exec: no",
            31,
            False,
            "started: exec: no",
        ),
        ("PostStartHookError", "", 31, False, "cannot be started: PostStartHookError"),
        ("SomethingNew", "of a later kubelet", 99, True, "app-c waits: SomethingNew: of a later kubelet"),
    ],
)
def test_a_container_that_cannot_be_made(
    reason: str, message: str, seconds: float, retriable: bool, says: str
) -> None:
    found = verdict(rolling(one(waiting(reason, message))), seconds)
    assert found[0] is retriable
    assert found[1].startswith("app-c ")
    assert found[1].endswith(says)


def test_init_containers_and_one_of_several_are_named() -> None:
    stuck = container(waiting("PodInitializing"))
    fetch = container(CRASH_LOOP, name="fetch", last=terminated(2), restarts=1)
    seen = rolling(pod("c", inits=[fetch], containers=[stuck]), logs={"app-c": "no disk"})
    assert verdict(seen) == (False, "init container fetch of app-c exited with code 2: no disk")

    unpulled = container(waiting("ErrImagePull", "x: not found"), name="fetch")
    assert verdict(rolling(pod("c", inits=[unpulled], containers=[stuck])))[1].startswith(
        "init container fetch of"
    )

    side = container(CRASH_LOOP, name="side", last=terminated(2), restarts=1)
    seen = rolling(pod("c", containers=[container(RUNNING), side]), logs={"app-c": "no"})
    assert verdict(seen) == (False, "container side of app-c exited with code 2: no")


def test_an_init_container_that_has_done_its_work_is_no_crash() -> None:
    did = container(terminated(0, "Completed"), name="fetch", last=terminated(1), restarts=3)
    seen = rolling(pod("c", inits=[did], containers=[container(RUNNING)]))
    assert verdict(seen)[1].endswith(
        "is not ready since 2026-11-22T19:00:01Z: it runs, but no probe has succeeded"
    )
    assert needs_logs(seen.pods, 2) == []


def test_whose_logs_are_needed() -> None:
    pods = [
        one(CRASH_LOOP, last=terminated(3), restarts=1),
        one(terminated(3)) | {"metadata": pod("d")["metadata"]},
        pod("e", inits=[container(CRASH_LOOP, name="fetch", last=terminated(2), restarts=1)]),
        pod("f", containers=[container(CRASH_LOOP, last=terminated(137, "OOMKilled"), restarts=1)]),
        pod("g", 1, containers=[container(CRASH_LOOP, last=terminated(3), restarts=1)]),
        pod("h", leaving=True, containers=[container(terminated(143))]),
        pod("i"),
    ]
    assert needs_logs(pods, 2) == [("app-c", "app", True), ("app-d", "app", False), ("app-e", "fetch", True)]


def test_no_reason_is_longer_than_a_person_reads() -> None:
    for state in (waiting("ErrImagePull", "x " * 5000), waiting("CreateContainerConfigError", "y " * 5000)):
        _, reason = verdict(rolling(one(state)))
        assert len(reason) < 600
        assert DIGEST not in reason

"""When a rollout in a cluster is done, when its time begins, what it waits for, and which trouble is told."""

import copy
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.readiness import (
    Observed,
    is_preparing,
    needs_logs,
    pulls_fail,
    rollout_readiness,
)
from tests.runtimes.kube_seen import (
    RUNNING,
    container,
    deployment,
    endpoint_slice,
    event,
    finished,
    one,
    pod,
    ready,
    replica_set,
    rolling,
    terminated,
    unscheduled,
    verdict,
    waiting,
)

CREATING = waiting("ContainerCreating")
LOOP = container(waiting("CrashLoopBackOff"), last=terminated(3), restarts=1)
UNPULLED = container(waiting("ErrImagePull", "x: not found"))
SLOW_PULL = container(waiting("ErrImagePull", "i/o timeout"))
UNHEALTHY = event("app-c", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")


def test_done() -> None:
    assert rollout_readiness(finished(), 2, stuck=4) == (True, True, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoints": []},
        {"endpoints": [endpoint_slice("c"), endpoint_slice("d")]},
        {"endpoints": [endpoint_slice("c", "d"), endpoint_slice("d", "c", family="IPv6")]},
        {"endpoints": [endpoint_slice("a", "c", "d", not_ready="a")]},
        # The old pod is on its way out: it counts no more, and gets nothing.
        {"pods": [ready("a", 1, leaving=True), ready("c"), ready("d")]},
        # An autoscaler wants another number of replicas by now.
        {
            "deployment": deployment(wanted=3, updated=3, replicas=3, available=3),
            "pods": [ready("c"), ready("d"), ready("e")],
            "endpoints": [endpoint_slice("c", "d", "e")],
        },
        # What is left of an evicted pod stays listed for long.
        {"pods": [ready("c"), ready("d"), pod("e", phase="Failed", reason="Evicted")]},
        {"events": [UNHEALTHY]},
    ],
)
def test_also_done(changes: dict[str, Any]) -> None:
    assert rollout_readiness(replace(finished(), **changes), 2, stuck=4) == (True, True, "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"deployment": deployment(observedGeneration=4)},
            "controller has not seen revision 2 of Deployment/app",
        ),
        ({"deployment": deployment(updated=1)}, "1 of 2 replicas are of revision 2"),
        ({"deployment": deployment(wanted=3)}, "2 of 3 replicas are of revision 2"),
        ({"deployment": deployment(replicas=4)}, "replicas of older revisions are still there: 2"),
        ({"deployment": deployment(available=1)}, "1 of 2 replicas have been ready for long enough"),
        ({"deployment": deployment(wanted=0, updated=0, replicas=0, available=0)}, "is scaled to 0 replicas"),
        ({"pods": [ready("c")]}, "1 of 2 pods are ready"),
        ({"pods": [ready("c"), pod("d")]}, "1 of 2 pods are ready; app-d is being started"),
        ({"pods": [ready("c"), ready("d", leaving=True)]}, "1 of 2 pods are ready; app-d is being removed"),
        (
            {"pods": [ready("c"), ready("d"), ready("e", leaving=True)]},
            "1 more pods than wanted are still there; app-e is being removed",
        ),
        ({"endpoints": [endpoint_slice("a", "c", "d")]}, "the Service still sends traffic to app-a"),
        ({"endpoints": [endpoint_slice("c")]}, "the Service does not send traffic to app-d yet"),
        ({"endpoints": [endpoint_slice("c", "d", not_ready="c")]}, "does not send traffic to app-c yet"),
        ({"endpoints": [endpoint_slice()]}, "does not send traffic to app-c, app-d yet"),
        (
            {"endpoints": [endpoint_slice("c", "d"), endpoint_slice("c", family="IPv6")]},
            "does not send traffic to app-d yet",
        ),
    ],
)
def test_still_waiting(changes: dict[str, Any], says: str) -> None:
    retriable, reason = verdict(replace(finished(), **changes))
    assert retriable
    assert says in reason


def test_an_evicted_pod_is_no_trouble_once_another_is_ready_in_its_place() -> None:
    remains = pod("e", phase="Failed", reason="Evicted")
    seen = replace(finished(), pods=[*finished().pods, remains], endpoints=[endpoint_slice("a", "c", "d")])
    assert verdict(seen) == (True, "the Service still sends traffic to app-a")


def test_endpoints_without_a_name_are_known_by_their_address() -> None:
    piece = endpoint_slice("c", "d")
    for endpoint in piece["endpoints"]:
        del endpoint["targetRef"], endpoint["conditions"]
    assert rollout_readiness(replace(finished(), endpoints=[piece]), 2, stuck=4).done
    piece["endpoints"].append({"addresses": ["10.9.9.9"]})
    assert verdict(replace(finished(), endpoints=[piece]))[1] == "the Service still sends traffic to 10.9.9.9"


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (None, "the Deployment was deleted by somebody else"),
        (deployment(3), "revision 2 was superseded: Deployment/app carries revision 3"),
        (deployment(1), "revision 2 was superseded: Deployment/app carries revision 1"),
    ],
)
def test_nothing_can_come_of_it(seen: KubeObject | None, says: str) -> None:
    assert verdict(replace(finished(), deployment=seen)) == (False, says)
    crashing = rolling(pod("c", containers=[LOOP]))
    assert verdict(replace(crashing, deployment=seen)) == (False, says)


def test_a_deployment_that_is_being_deleted_or_was_replaced() -> None:
    leaving, other = deployment(), deployment()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T19:00:00Z"
    assert verdict(replace(finished(), deployment=leaving))[1].endswith("is being deleted by somebody else")
    del other["metadata"]["annotations"], other["spec"]["template"]
    assert verdict(replace(finished(), deployment=other))[0] is False


def test_a_deadline_or_a_pause_is_told_last() -> None:
    words = 'ReplicaSet "app-rs2" has timed out progressing.'
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": words}
    seen = rolling(pod("c"), status={"conditions": [late]})
    assert verdict(seen) == (True, f"1 of 2 replicas are of revision 2; app-c is being started; {words}")
    seen = rolling(pod("c", containers=[SLOW_PULL]), status={"conditions": [late]})
    assert "timed out progressing" not in verdict(seen)[1]
    paused = deployment(updated=1)
    paused["spec"]["paused"] = True
    assert "`kubectl rollout resume`" in verdict(replace(finished(), deployment=paused))[1]


def test_what_is_final_is_told_before_what_may_pass() -> None:
    seen = rolling(
        pod("c", containers=[container(RUNNING)]), pod("d", containers=[UNPULLED]), events=[UNHEALTHY]
    )
    assert verdict(seen) == (False, verdict(rolling(pod("d", containers=[UNPULLED])))[1])


# Each of these keeps a pod of its own from being ready, and may pass; the first got furthest.
FURTHEST_FIRST = [
    pod("c", containers=[container(terminated(3))]),
    pod("d", containers=[container(RUNNING)]),
    pod("e", containers=[container(waiting("CreateContainerError", "slow runtime"))]),
    pod("f", containers=[container(waiting("CreateContainerConfigError", "failed to sync secret cache"))]),
    pod("g", containers=[SLOW_PULL]),
    pod("h"),
    unscheduled("i", "0/1 nodes are available: 1 Insufficient cpu."),
    pod("j", phase="Failed", reason="Evicted"),
    pod("k"),
]
THEIR_EVENTS = [
    event("app-d", "Unhealthy", "Readiness probe failed: no"),
    event("app-h", "FailedMount", "MountVolume.SetUp failed"),
]


def test_the_pod_that_got_furthest_speaks_for_all() -> None:
    for first in range(len(FURTHEST_FIRST)):
        pods = FURTHEST_FIRST[first:]
        letter = pods[0]["metadata"]["name"]
        for order in (pods, pods[::-1]):
            retriable, reason = verdict(rolling(*order, events=THEIR_EVENTS))
            assert retriable
            assert letter in reason


def test_the_verdict_does_not_depend_on_the_order_of_things() -> None:
    pods = [pod(letter, containers=[LOOP]) for letter in "fdec"]
    seen = rolling(*pods, logs={"app-c": "first by name"})
    assert verdict(seen) == (False, "app-c exited with code 3: first by name")


def test_the_troubles_of_older_pods_are_not_ours() -> None:
    older = [
        pod("a", 1, containers=[LOOP]),
        pod("b", 1, containers=[UNPULLED]),
        pod("z", 1, phase="Failed", reason="Evicted"),
    ]
    refused = replica_set(1, wanted=3, made=2, refused="exceeded quota: x")
    refusal = event("app-rs1", "FailedCreate", "Error creating: exceeded quota: x", kind="ReplicaSet")
    seen = rolling(pod("c"), events=[event("app-a", "Unhealthy", "old"), refusal])
    seen = replace(seen, pods=[*older, pod("c")], replica_sets=[refused, *seen.replica_sets[1:]])
    assert verdict(seen) == (True, "1 of 2 replicas are of revision 2; app-c is being started")
    assert needs_logs(seen.pods, 2) == []
    assert rollout_readiness(replace(finished(), pods=[*older, *finished().pods]), 2, stuck=4).done


def test_events_of_another_object_with_that_name_are_not_ours() -> None:
    stranger = event("app-c", "Unhealthy", "Readiness probe failed: of last year", uid="pod-of-last-year")
    assert "last year" not in verdict(rolling(one(RUNNING), events=[stranger]))[1]
    nameless = copy.deepcopy(stranger)
    del nameless["involvedObject"]["uid"]
    assert "last year" in verdict(rolling(one(RUNNING), events=[nameless]))[1]


def everything() -> list[Observed]:
    """Observations that between them have every field that is looked at."""
    killed = [
        event("app-c", "Unhealthy", "Liveness probe failed: no", place="app"),
        event("app-c", "Killing", "Container app failed liveness probe, will be restarted", place="app"),
    ]
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}
    init = container(waiting("CrashLoopBackOff"), name="fetch", last=terminated(2), restarts=1)
    return [
        finished(),
        rolling(*FURTHEST_FIRST, events=THEIR_EVENTS),
        rolling(pod("c", containers=[LOOP]), events=killed, logs={"app-c": "x"}),
        rolling(pod("c", inits=[init]), pod("d", containers=[UNPULLED]), unscheduled("e", "full")),
        rolling(refused="exceeded quota: x", status={"conditions": [late]}),
        rolling(events=[event("app-rs2", "FailedCreate", "denied", kind="ReplicaSet")]),
    ]


def paths(of: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where every field in `of` stands."""
    below = of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
    for key, value in below:
        yield (*before, key)
        yield from paths(value, *before, key)


@pytest.mark.parametrize("null", [False, True], ids=["absent", "null"])
@pytest.mark.parametrize(
    "seen", everything(), ids=lambda seen: f"{len(seen.pods)} pods {len(seen.events)} events"
)
def test_no_field_that_is_missing_is_a_failure_of_ours(seen: Observed, null: bool) -> None:
    whole = {f.name: getattr(seen, f.name) for f in fields(seen)}
    tried = 0
    for path in paths(whole):
        if len(path) < 3 and path[0] != "deployment":
            continue  # the observation itself: its lists and their members are there
        spoilt = copy.deepcopy(whole)
        at: Any = spoilt
        for key in path[:-1]:
            at = at[key]
        if null and isinstance(at, dict):
            at[path[-1]] = None
        else:
            del at[path[-1]]
        if "deployment" not in spoilt:
            continue
        found = rollout_readiness(Observed(**spoilt), 2, stuck=40)
        assert found.done or found.reason
        assert all(isinstance(each[0], str) for each in needs_logs(spoilt["pods"], 2))
        tried += 1
    assert tried > 100


@pytest.mark.parametrize(
    ("reasons", "preparing"),
    [
        (["Scheduled"], True),
        (["Scheduled", "Pulling"], True),
        (["Scheduled", "FailedMount"], False),
        (["FailedMount", "Pulling"], True),
        ([], False),
    ],
)
def test_a_pod_is_being_prepared_until_its_newest_event_is_trouble(
    reasons: list[str], preparing: bool
) -> None:
    events = [event("app-c", reason, "", at=at) for at, reason in enumerate(reasons, start=1)]
    assert is_preparing(rolling(one(CREATING), events=events), 2) == preparing


def test_others_and_those_that_failed_to_pull_are_not_being_prepared() -> None:
    pulling = [event("app-c", "Pulling", "")]
    assert not is_preparing(rolling(one(CREATING), events=pulling), 1)
    failed = rolling(one(waiting("ErrImagePull")), events=pulling)
    assert not is_preparing(failed, 2)
    assert pulls_fail(failed, 2)
    assert not pulls_fail(failed, 1)
    assert not pulls_fail(rolling(one(CREATING), events=pulling), 2)

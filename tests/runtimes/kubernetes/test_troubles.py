"""What the cluster does to the pods of a rollout, with the words that people will read."""

import pytest

from linkspan.runtimes.base import KubeObject
from tests.runtimes.kube_seen import (
    RUNNING,
    container,
    event,
    one,
    pod,
    rolling,
    unscheduled,
    verdict,
)

FULL = (
    "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: "
    "0/1 nodes are available: 1 No preemption victims found for incoming pod."
)


def test_a_probe_that_fails() -> None:
    words = "Readiness probe failed: HTTP probe failed with statuscode: 503"
    events = [
        event("app-c", "Unhealthy", words, at=9, place="app"),
        event("app-c", "Unhealthy", "Startup probe failed: connection refused", at=3, place="app"),
    ]
    seen = rolling(one(RUNNING), events=events)
    says = (True, f"app-c is not ready since 2026-11-22T19:00:01Z: {words}")
    assert verdict(seen, 41.6) == verdict(seen, 43.6) == says


def test_a_readiness_gate_of_a_load_balancer() -> None:
    words = 'corresponding condition of pod readiness gate "target-health.elbv2.k8s.aws/x" does not exist.'
    gated = one(RUNNING)
    gated["status"]["conditions"][1] |= {"reason": "ReadinessGatesNotReady", "message": words}
    assert verdict(rolling(gated)) == (True, f"app-c is not ready since 2026-11-22T19:00:01Z: {words}")


def test_a_pod_that_fits_on_no_node() -> None:
    seen = rolling(unscheduled("c", FULL))
    says = "app-c fits on no node: 0/1 nodes are available: 1 Insufficient memory"
    assert verdict(seen, 29) == (True, says)
    assert verdict(seen, 31) == (False, says)


def test_an_autoscaler_is_given_time() -> None:
    more = event("app-c", "TriggeredScaleUp", "pod triggered scale-up: [{pool 1->2 (max: 5)}]", at=3)
    seen = rolling(unscheduled("c", FULL), events=[more])
    assert verdict(seen, 99) == (
        True,
        "app-c fits on no node: 0/1 nodes are available: 1 Insufficient memory (a node is being added)",
    )
    nominated = event("app-c", "Nominated", "Pod should schedule on: nodeclaim/default-x", at=3)
    assert verdict(rolling(unscheduled("c", FULL), events=[nominated]), 99)[0] is True
    no = event("app-c", "NotTriggerScaleUp", "pod didn't trigger scale-up", at=4)
    assert verdict(rolling(unscheduled("c", FULL), events=[more, no]), 99)[0] is False


def test_a_full_node_is_waited_for_while_older_pods_leave_or_will() -> None:
    full = unscheduled("c", FULL)
    assert verdict(rolling(full, pod("z", 1, leaving=True)), 99)[0] is True
    # One of revision 2 has its node: when it is ready an older pod goes, and makes room.
    assert verdict(rolling(full, one(RUNNING) | {"metadata": pod("d")["metadata"]}), 99)[0] is True
    preempting = unscheduled("c", FULL, nominatedNodeName="node-1")
    assert verdict(rolling(preempting), 99)[0] is True


def test_other_words_of_the_scheduler() -> None:
    gated = unscheduled("c", "Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")
    assert verdict(rolling(gated), 99) == (
        True,
        "app-c is not scheduled (SchedulingGated): Scheduling is blocked due to non-empty scheduling gates",
    )


QUOTA = 'pods "app-rs2-x" is forbidden: exceeded quota: small, requested: cpu=1, used: cpu=2, limited: cpu=2'
POLICY = 'pods "app-rs2-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
LIMIT = 'pods "app-rs2-x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'
WEBHOOK = 'admission webhook "policy.example" denied the request: \n\nno unsigned images\n'


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (QUOTA, "exceeded quota: small, requested: cpu=1, used: cpu=2, limited: cpu=2"),
        (POLICY, 'violates PodSecurity "restricted:latest": runAsNonRoot != true'),
        (LIMIT, "maximum memory usage per Container is 1Gi, but limit is 2Gi"),
        (WEBHOOK, 'admission webhook "policy.example" denied the request: no unsigned images'),
    ],
)
def test_pods_that_may_not_be_created(words: str, says: str) -> None:
    expected = (False, f"ReplicaSet/app-rs2 may not create pods: {says}")
    assert verdict(rolling(refused=words), 31) == expected
    assert verdict(rolling(refused=words), 29)[0] is (words == QUOTA), "what has just left may still count"
    told = event("app-rs2", "FailedCreate", f"Error creating: {words}", kind="ReplicaSet")
    assert verdict(rolling(events=[told]), 31) == expected


def test_a_refusal_for_want_of_room_may_pass() -> None:
    assert verdict(rolling(pod("z", 1, leaving=True), refused=QUOTA), 99)[0] is True


ROLES = (
    'replicasets.apps is forbidden: User "system:serviceaccount:kube-system:deployment-controller" cannot '
    'create resource "replicasets" in API group "apps" in the namespace "app-production"'
)


@pytest.mark.parametrize(
    "words",
    [
        'Internal error occurred: failed calling webhook "w.example": connection refused',
        'pods "app-rs2-x" is forbidden: User "system:kube-controller-manager" cannot create resource "pods"',
        ROLES,
    ],
)
def test_a_refusal_of_a_cluster_that_is_not_all_there_may_pass(words: str) -> None:
    assert verdict(rolling(refused=words), 29)[0] is True
    assert verdict(rolling(refused=words), 31)[0] is False


@pytest.mark.parametrize(("seconds", "passes"), [(29, True), (31, False)])
def test_a_replica_set_that_the_cluster_itself_may_not_create_yet(seconds: float, passes: bool) -> None:
    failed = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": ROLES}
    assert verdict(rolling(status={"conditions": [failed]}), seconds)[0] is passes


def test_a_refusal_that_has_passed_is_forgotten() -> None:
    told = event("app-rs2", "FailedCreate", f"Error creating: {QUOTA}", kind="ReplicaSet")
    retriable, reason = verdict(rolling(pod("c"), pod("d"), events=[told]))
    assert retriable
    assert "quota" not in reason


def test_an_event_alone_is_not_final_once_a_pod_was_created() -> None:
    told = event("app-rs2", "FailedCreate", f"Error creating: {POLICY}", kind="ReplicaSet")
    passing, final = verdict(rolling(pod("c"), events=[told])), verdict(rolling(pod("c"), refused=POLICY))
    assert (passing[0], final[0]) == (True, False)
    assert passing[1] == final[1]
    assert "violates PodSecurity" in final[1]


def test_a_replica_set_that_may_not_be_created() -> None:
    words = 'Failed to create new replica set "app-rs2": "app-rs2" is forbidden: exceeded quota: x'
    failed = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": words}
    seen = rolling(status={"conditions": [failed]})
    assert verdict(seen, 31) == (False, f"Deployment/app may not create pods: {words}")


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (
            pod("c", phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "app-c was evicted: The node was low on resource: memory.",
        ),
        (
            pod("c", phase="Failed", reason="Preempting", message="Preempted in order to admit critical pod"),
            "app-c was preempted: Preempted in order to admit critical pod",
        ),
        (
            pod("c", phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
            "app-c was ended by its node (OutOfcpu): Node didn't have enough resource: cpu",
        ),
        (
            pod(
                "c",
                leaving=True,
                conditions=[
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "DeletionByTaintManager",
                        "message": "Taint manager: deleting due to NoExecute taint",
                    }
                ],
            ),
            "app-c lost its node node-1: Taint manager: deleting due to NoExecute taint",
        ),
    ],
)
def test_a_pod_that_was_taken_away(seen: KubeObject, says: str) -> None:
    assert verdict(rolling(seen), 99) == (True, says)


def test_a_pod_whose_node_is_not_ready() -> None:
    seen = rolling(one(RUNNING), events=[event("app-c", "NodeNotReady", "Node is not ready", at=9)])
    assert verdict(seen)[1] == "app-c is on a node that is not ready: node-1"


def test_volumes_that_do_not_mount() -> None:
    words = 'MountVolume.SetUp failed for volume "conf" : configmap "conf" not found'
    events = [
        event("app-c", "FailedMount", words, at=5),
        event("app-c", "FailedMount", "Unable to attach or mount volumes: unmounted volumes=[conf]", at=9),
    ]
    expected = (True, f"app-c cannot mount its volumes: {words}")
    assert verdict(rolling(pod("c"), events=events), 99) == expected
    attach = [event("app-c", "FailedAttachVolume", "Multi-Attach error for volume", at=5)]
    assert verdict(rolling(pod("c"), events=attach))[1].endswith("volumes: Multi-Attach error for volume")
    fetching = pod("c", inits=[container(RUNNING, name="fetch")])
    assert "mount" not in verdict(rolling(fetching, events=events))[1]
    # Once the containers run the volumes are there, whatever was said before.
    assert "mount" not in verdict(rolling(one(RUNNING), events=events))[1]


def test_a_sandbox_that_cannot_be_made() -> None:
    events = [event("app-c", "FailedCreatePodSandBox", "Failed to create pod sandbox: no network", at=5)]
    assert verdict(rolling(pod("c"), events=events)) == (
        True,
        "app-c cannot get a sandbox: Failed to create pod sandbox: no network",
    )

"""Releases on a cluster, good ones and bad ones, beyond what every runtime must do (test_conformance.py)."""

import copy
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from demo.prober import Prober
from linkspan.errors import RolloutConflict, RolloutFailed, RuntimeUnavailable
from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.kubernetes.app_objects import default_objects
from tests.prober import assert_no_failure
from tests.runtimes.harness import KubernetesHarness
from tests.runtimes.releases import outcomes, quiet, reached, rollout, version_of
from tests.services.cluster import RunningCluster
from tests.services.engine import ImageOf
from tests.waiting import until

POLICY = "ValidatingAdmissionPolicy"


def no_forbidden_variable(cluster: RunningCluster, service: Service) -> dict[str, Any]:
    """A policy in the service's namespace that refuses Deployments; it goes with the namespace's test."""
    containers = "object.spec.template.spec.containers"
    expression = f"{containers}.all(c, !has(c.env) || c.env.all(e, e.name != 'FORBIDDEN'))"
    enforce(cluster, service, expression, ["set", "env", "deployment/app", "FORBIDDEN=1"])
    return {"env": {"FORBIDDEN": "1"}}


def no_deployment(cluster: RunningCluster, service: Service) -> dict[str, Any]:
    """One that would refuse what is live too, if it were applied now."""
    enforce(cluster, service, "false", ["annotate", "deployment/app", "any=1"])
    return {}


def enforce(cluster: RunningCluster, service: Service, expression: str, attempt: list[str]) -> None:
    """Refuse Deployments for which an expression of CEL is false; wait until `attempt` is refused."""
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": str(service)}}
    policy = {
        "matchConstraints": {"resourceRules": [{**rule, "resources": ["deployments"]}]},
        "validations": [{"expression": expression, "message": "the house rules forbid it"}],
    }
    binding = {
        "policyName": str(service),
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }
    for kind, spec in {POLICY: policy, f"{POLICY}Binding": binding}.items():
        api = "admissionregistration.k8s.io/v1"
        cluster.apply(
            "default", {"apiVersion": api, "kind": kind, "metadata": {"name": str(service)}, "spec": spec}
        )
    refused = [*attempt, "-n", str(service), "--dry-run=server"]
    until(lambda: "house rules" in cluster.run(*refused, check=False), what="the policy in force")


def quota(cluster: RunningCluster, service: Service) -> dict[str, Any]:
    cluster.run("create", "quota", "small", "-n", str(service), "--hard=pods=2")
    # The cluster counts what is there a moment later, and refuses nothing until then.
    used = "--for=jsonpath={.status.used.pods}=2"
    cluster.run("wait", "-n", str(service), "quota/small", used, "--timeout=600s")
    return {}


def root(cluster: RunningCluster, service: Service) -> dict[str, Any]:
    objects = copy.deepcopy(default_objects())
    deployment = next(each for each in objects if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["securityContext"] = {"runAsUser": 0}
    return {"objects": objects}


def missing(cluster: RunningCluster, service: Service) -> dict[str, Any]:
    return {"digest": f"sha256:{'a' * 64}"}


def large(cluster: RunningCluster, service: Service) -> dict[str, Any]:
    return {"cpu": "64"}


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (missing, "cannot pull .*@sha256:aaaaaaaaaaaa: not found"),
        (large, r"fits on no node: 0/1 nodes are available: 1 Insufficient cpu"),
        (quota, "may not create pods: exceeded quota: small, requested: pods=1, used: pods=2, limited"),
        (root, 'may not create pods: violates PodSecurity "restricted:latest": .*runAsNonRoot'),
        (no_forbidden_variable, "Deployment/app is refused: .*the house rules forbid it"),
        (no_deployment, "Deployment/app is refused: .*the house rules forbid it"),
    ],
)
def test_a_release_that_the_cluster_cannot_run_changes_nothing(
    *,
    cluster: RunningCluster,
    runtime: Runtime,
    harness: KubernetesHarness,
    service: Service,
    image_of: ImageOf,
    harm: Callable[[RunningCluster, Service], dict[str, Any]],
    says: str,
) -> None:
    cluster.run("label", "namespace", str(service), "pod-security.kubernetes.io/enforce=restricted")
    live = runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    before = harness.replicas(service)
    options = harm(cluster, service)
    image = image_of("v2")
    if digest := options.pop("digest", ""):
        image = f"{image.partition('@')[0]}@{digest}"
    plan = rollout(service, "v2", image, expect=1, ready_seconds=1200, **options)
    said: list[str] = []
    try:
        with Prober(reached(runtime, service), version_of) as prober:
            start = time.monotonic()
            with pytest.raises(RolloutFailed, match=says) as failed:
                runtime.roll_out(plan, say=said.append)
            assert time.monotonic() - start < 600, said
    finally:
        names = [f"{kind}/{service}" for kind in (POLICY, f"{POLICY}Binding")]
        cluster.run("delete", *names, "--ignore-not-found")
    assert_no_failure(prober.report)
    assert set(prober.report.versions) == {"v1"}
    assert "\n" not in str(failed.value)
    assert runtime.live(service) == live
    assert not runtime.drift(service, 2)
    assert harness.replicas(service) == before
    history = runtime.history(service)
    assert outcomes(history) == [(2, "v2", "failed"), (1, "v1", "live")]
    assert re.search(says, history[0].reason)


def test_a_first_release_that_is_refused_leaves_its_reason(
    cluster: RunningCluster, runtime: Runtime, service: Service, image_of: ImageOf
) -> None:
    cluster.run("create", "quota", "none", "-n", str(service), "--hard=count/deployments.apps=0")
    attempt = ["create", "deployment", "any", "--image=none", "-n", str(service), "--dry-run=server"]

    def refused() -> bool:
        return "exceeded quota: none" in cluster.run(*attempt, check=False)

    # The API server hears of a quota, and of its end, a moment later.
    until(refused, what="the quota in force")
    plan = rollout(service, "v1", image_of("v1"))
    with pytest.raises(RolloutFailed, match=r"Deployment/app is refused: .*exceeded quota: none"):
        runtime.roll_out(plan, say=quiet)
    assert outcomes(runtime.history(service)) == [(1, "v1", "failed")]
    cluster.run("delete", "quota", "none", "-n", str(service))
    until(lambda: not refused(), what="the end of the quota")
    assert runtime.roll_out(plan, say=quiet).number == 2


@pytest.mark.parametrize("to", ["v0", "v1"], ids=["to the one before", "to what is live"])
def test_a_rollback_does_not_wait_for_the_bad_release_that_is_on_its_way(
    runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf, to: str
) -> None:
    plans = [rollout(service, name, image_of(name), expect=i) for i, name in enumerate(("v0", "v1"))]
    for plan in plans:
        runtime.roll_out(plan, say=quiet)
    bad = rollout(service, "v2", image_of("v2", "never"), expect=2, ready_seconds=1200)
    waits = threading.Event()

    def say(line: str) -> None:
        if "pods are ready" in line or "not ready" in line:
            waits.set()

    with Prober(reached(runtime, service), version_of) as prober, ThreadPoolExecutor(1) as pool:
        first = pool.submit(harness.open().roll_out, bad, say=say)
        assert waits.wait(240)
        start = time.monotonic()
        plan = plans[int(to[1:])].model_copy(update={"expect": 2, "pinned": True})
        done = runtime.roll_out(plan, say=quiet)
        assert time.monotonic() - start < 600
        with pytest.raises(RolloutConflict):
            first.result(timeout=1200)
        assert prober.wait_for(to, seconds=600)
    assert_no_failure(prober.report)
    assert "v2" not in prober.report.versions
    assert runtime.live(service) == done
    assert done.pinned
    assert (done.number, done.release.model.version) == ((4, "v0") if to == "v0" else (2, "v1"))
    assert not runtime.drift(service, 2)
    assert len(harness.replicas(service)) == 2
    assert "failed" not in [revision.outcome for revision in runtime.history(service)]


def test_a_deployment_that_somebody_deletes_meanwhile_is_no_verdict_on_the_release(
    cluster: RunningCluster, runtime: Runtime, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    plan = rollout(service, "v2", image_of("v2"), expect=1)
    deleted: list[str] = []

    def delete_once(line: str) -> None:
        if "waiting until" in line and not deleted:
            deleted.append(cluster.run("delete", "deployment", "app", "-n", str(service)))

    with pytest.raises(RuntimeUnavailable, match="deleted by somebody else"):
        runtime.roll_out(plan, say=delete_once)
    assert outcomes(runtime.history(service)) == [(1, "v1", "live")], "it is back, and v2 is not held"
    assert not runtime.drift(service, 2)
    assert runtime.roll_out(plan, say=quiet).outcome == "live"

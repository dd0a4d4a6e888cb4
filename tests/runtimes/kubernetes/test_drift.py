"""What somebody did to a release's objects by hand: seen in one line, and undone."""

import json
from pathlib import Path
from typing import Any

import pytest

from linkspan.prober import Prober
from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.kube_manifests import default_manifests
from tests.prober import assert_no_failure
from tests.runtimes.harness import KubernetesHarness
from tests.runtimes.kubernetes.passwords import password_in
from tests.runtimes.kubernetes.webhook import webhook
from tests.runtimes.manifests import without_autoscaler
from tests.runtimes.releases import quiet, reached, rollout, version_of, wait_for_port
from tests.services.cluster import RunningCluster
from tests.services.engine import ImageOf
from tests.services.registry import PASSWORD, USER


def test_what_somebody_changed_by_hand_is_noticed_and_restored(
    cluster: RunningCluster, runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    env = {"COLOUR": "blue"}
    plan = rollout(service, "v1", image_of("v1"), env=env, manifests=without_autoscaler())
    live = runtime.roll_out(plan, say=quiet)
    again = plan.model_copy(update={"expect": 1})
    assert not runtime.drift(service, 2)

    def hand(*words: str) -> str:
        cluster.run(*words, "-n", str(service))
        return runtime.drift(service, 2)

    assert "Deployment/app: spec.replicas is 3 instead of 2" in hand("scale", "deploy/app", "--replicas=3")
    assert "env[COLOUR].value is red instead of blue" in hand("set", "env", "deploy/app", "COLOUR=red")
    drift = hand("set", "image", "deploy/app", "app=example.invalid/other:1")
    assert f"containers[app].image is example.invalid/other:1 instead of {plan.image}"[:99] in drift
    assert runtime.live(service) == live, "what is live is what was released"
    assert runtime.roll_out(again, say=quiet) == live
    assert not runtime.drift(service, 2)
    assert len(harness.replicas(service)) == 2

    assert "Deployment/app is missing" in hand("delete", "deployment", "app")
    drift = hand("delete", "service", "app")
    assert "Deployment/app is missing" in drift
    assert "Service/app is missing" in drift
    assert runtime.roll_out(again, say=quiet) == live
    assert not runtime.drift(service, 2)
    assert len(harness.replicas(service)) == 2
    assert runtime.history(service) == [live]

    changed = harness.open({"username": USER, "password": "renewed"})
    changed.refresh(service)
    assert password_in(cluster, service) == "renewed"
    runtime.roll_out(again, say=quiet)
    assert password_in(cluster, service) == PASSWORD
    hand("delete", "secret", "linkspan-registry")
    runtime.refresh(service)
    assert password_in(cluster, service) == PASSWORD


DEPLOYMENT = "deployment/app"
LATE = {"sleep": {"seconds": 1}}
SIDECAR = {"name": "side", "command": ["sleep", "3600"]}
SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}


def of_pods(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"spec": {"template": {"metadata": metadata, "spec": spec}}}


def of_the_app(**fields: Any) -> dict[str, Any]:
    return of_pods({"containers": [{"name": "app", **fields}]})


def test_what_somebody_added_by_hand_is_noticed_and_goes(
    cluster: RunningCluster, runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    image = image_of("v1")
    plan = rollout(service, "v1", image, host="digits.example", manifests=[*default_manifests(), SETTINGS])
    live = runtime.roll_out(plan, say=quiet)
    again = plan.model_copy(update={"expect": 1})
    before = cluster.get(str(service), "deployment", "app")["spec"]

    def patch(what: str, change: dict[str, Any]) -> None:
        cluster.run("patch", what, "-n", str(service), "-p", json.dumps(change))

    # What others may do: none of it is a difference, and none of it is undone.
    cluster.run("scale", "-n", str(service), DEPLOYMENT, "--replicas=3")
    cluster.run("rollout", "restart", "-n", str(service), "deployment/app")
    for kind in ("service", "ingress", "deployment", "serviceaccount"):
        cluster.run("annotate", f"{kind}/app", "-n", str(service), "theirs=1")
        cluster.run("label", f"{kind}/app", "-n", str(service), "theirs=1")
    assert not runtime.drift(service, 2)

    pods, spec = "spec.template", "spec.template.spec"
    app = f"{spec}.containers[app]"
    hands = [
        [
            (DEPLOYMENT, of_the_app(env=[{"name": "DEBUG", "value": "1"}]), f"{app}.env"),
            (DEPLOYMENT, of_the_app(ports=[{"containerPort": 9}]), f"{app}.ports[9/TCP]"),
            (DEPLOYMENT, of_pods({}, labels={"mine": "1"}), f"{pods}.metadata.labels.mine"),
            ("service/app", {"spec": {"ports": [{"name": "more", "port": 81}]}}, "spec.ports[81/TCP]"),
            ("configmap/settings", {"data": {"mine": "1"}}, "data.mine"),
            ("hpa/app", {"spec": {"behavior": {"scaleDown": {"selectPolicy": "Min"}}}}, "spec.behavior"),
        ],
        [
            (DEPLOYMENT, of_pods({"containers": [{**SIDECAR, "image": image}]}), f"{spec}.containers[side]"),
            (DEPLOYMENT, of_pods({"volumes": [{"name": "v", "emptyDir": {}}]}), f"{spec}.volumes[v]"),
            (DEPLOYMENT, of_pods({"tolerations": [{"operator": "Exists"}]}), f"{spec}.tolerations"),
            ("service/app", {"spec": {"sessionAffinity": "ClientIP"}}, "spec.sessionAffinity"),
        ],
        [
            (DEPLOYMENT, of_pods({}, annotations={"mine": "1"}), f"{pods}.metadata.annotations.mine"),
            (DEPLOYMENT, of_the_app(lifecycle={"postStart": LATE}), f"{app}.lifecycle.postStart"),
            (DEPLOYMENT, {"spec": {"paused": True}}, "spec.paused"),
        ],
    ]
    port = cluster.get(str(service), "service", "app")["spec"]["ports"][0]["nodePort"]
    url = f"http://{cluster.node_ip}:{port}"
    wait_for_port(url)
    with Prober(url, version_of) as prober:
        for round_of_hands in hands:
            for what, change, _ in round_of_hands:
                patch(what, change)
            drift = runtime.drift(service, 2)
            for what, _, where in round_of_hands:
                assert f"{where} was set by kubectl-patch" in drift, what
            assert "\n" not in drift
            said: list[str] = []
            assert runtime.roll_out(again, say=said.append) == live
            assert f"revision 1: {drift}" in said
            assert not runtime.drift(service, 2)
            assert len(harness.replicas(service)) == 3, "the autoscaler's"
    assert_no_failure(prober.report)
    after = cluster.get(str(service), "deployment", "app")["spec"]
    assert after["template"]["metadata"]["annotations"].pop("kubectl.kubernetes.io/restartedAt")
    assert after == {**before, "replicas": 3}
    assert cluster.get(str(service), "configmap", "settings")["data"] == {"a": "b"}
    for kind in ("service", "ingress", "deployment", "serviceaccount"):
        metadata = cluster.get(str(service), kind, "app")["metadata"]
        assert metadata["annotations"]["theirs"] == metadata["labels"]["theirs"] == "1"


def test_an_edit_that_an_apply_would_contradict_is_noticed_and_goes(
    cluster: RunningCluster, runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    """The server refuses a Deployment with both ports, so a dry run says nothing."""
    plan = rollout(service, "v1", image_of("v1"), manifests=without_autoscaler())
    live = runtime.roll_out(plan, say=quiet)
    other = {"op": "replace", "path": "/spec/template/spec/containers/0/ports/0/containerPort", "value": 9}
    with Prober(reached(runtime, service), version_of) as prober:
        cluster.run("patch", DEPLOYMENT, "-n", str(service), "--type=json", "-p", json.dumps([other]))
        assert "containers[app].ports was set by kubectl-patch" in runtime.drift(service, 2)
        assert runtime.roll_out(plan.model_copy(update={"expect": 1}), say=quiet) == live
        assert not runtime.drift(service, 2)
    assert_no_failure(prober.report)
    assert len(harness.replicas(service)) == 2


def test_a_new_release_takes_nothing_with_it_that_somebody_added(
    cluster: RunningCluster, runtime: Runtime, service: Service, image_of: ImageOf
) -> None:
    own = without_autoscaler()
    runtime.roll_out(rollout(service, "v1", image_of("v1"), manifests=own), say=quiet)
    cluster.run("set", "env", "-n", str(service), DEPLOYMENT, "DEBUG=1")
    cluster.run("rollout", "pause", "-n", str(service), "deployment/app")
    runtime.roll_out(rollout(service, "v2", image_of("v2"), manifests=own, expect=1), say=quiet)
    assert not runtime.drift(service, 2)
    spec = cluster.get(str(service), "deployment", "app")["spec"]
    assert "paused" not in spec
    assert "env" not in spec["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("dry_run", [True, False], ids=["that knows a dry run", "that knows none"])
def test_what_a_webhook_adds_to_every_write_is_no_drift(
    *,
    cluster: RunningCluster,
    runtime: Runtime,
    service: Service,
    image_of: ImageOf,
    tmp_path: Path,
    dry_run: bool,
) -> None:
    plan = rollout(service, "v1", image_of("v1"), env={"COLOUR": "blue"}, manifests=without_autoscaler())
    again = plan.model_copy(update={"expect": 1})

    def environment() -> dict[str, str]:
        deployment = cluster.get(str(service), "deployment", "app")
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each["value"] for each in container["env"]}

    with webhook(cluster, service, tmp_path, dry_run=dry_run):
        live = runtime.roll_out(plan, say=quiet)
        assert environment() == {"COLOUR": "blue", "INJECTED": "yes"}
        assert not runtime.drift(service, 2)
        cluster.run("annotate", "-n", str(service), DEPLOYMENT, "any=1")  # a write of somebody else's
        assert not runtime.drift(service, 2)
        cluster.run("set", "env", "-n", str(service), DEPLOYMENT, "DEBUG=1")
        drift = runtime.drift(service, 2)
        assert drift.endswith("containers[app].env[DEBUG] was set by kubectl-set"), drift
        assert runtime.roll_out(again, say=quiet) == live
        assert environment() == {"COLOUR": "blue", "INJECTED": "yes"}
        assert not runtime.drift(service, 2)

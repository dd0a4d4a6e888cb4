"""What somebody did to a release's objects by hand: seen in one line, and undone."""

import json
from pathlib import Path

import pytest

from demo.prober import Prober
from linkspan.runtimes.base import Runtime, Service
from linkspan.runtimes.kubernetes.app_objects import default_objects
from tests.prober import assert_no_failure
from tests.runtimes.harness import KubernetesHarness
from tests.runtimes.kubernetes.passwords import password_in
from tests.runtimes.kubernetes.webhook import webhook
from tests.runtimes.objects import config_map, hands, without_autoscaler
from tests.runtimes.releases import quiet, reached, rollout, version_of, wait_for_port
from tests.services.cluster import RunningCluster
from tests.services.engine import ImageOf
from tests.services.registry import PASSWORD, USER


def test_what_somebody_changed_by_hand_is_noticed_and_restored(
    cluster: RunningCluster, runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    env = {"COLOUR": "blue"}
    plan = rollout(service, "v1", image_of("v1"), env=env, objects=without_autoscaler())
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


def test_what_somebody_added_by_hand_is_noticed_and_goes(
    cluster: RunningCluster, runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    image = image_of("v1")
    own = [*default_objects(), config_map("settings")]
    plan = rollout(service, "v1", image, host="digits.example", objects=own)
    live = runtime.roll_out(plan, say=quiet)
    before = cluster.get(str(service), "deployment", "app")["spec"]

    # What others may do: none of it is a difference, and none of it is undone.
    others = [f"{kind}/app" for kind in ("service", "ingress", "deployment", "serviceaccount")]
    cluster.run("scale", "-n", str(service), "deployment/app", "--replicas=3")
    cluster.run("rollout", "restart", "-n", str(service), "deployment/app")
    for what in others:
        cluster.run("annotate", what, "-n", str(service), "theirs=1")
        cluster.run("label", what, "-n", str(service), "theirs=1")
    assert not runtime.drift(service, 2)

    port = cluster.get(str(service), "service", "app")["spec"]["ports"][0]["nodePort"]
    url = f"http://{cluster.node_ip}:{port}"  # nobody knows digits.example
    wait_for_port(url)
    with Prober(url, version_of) as prober:
        for what, change, _ in hands(image):
            cluster.run("patch", what, "-n", str(service), "-p", json.dumps(change))
        drift = runtime.drift(service, 2)
        assert "\n" not in drift
        assert "Deployment/app: " in drift
        assert "Service/app: " in drift
        said: list[str] = []
        assert runtime.roll_out(plan.model_copy(update={"expect": 1}), say=said.append) == live
        assert f"revision 1: {drift}" in said
        assert not runtime.drift(service, 2)
        assert len(harness.replicas(service)) == 3, "the autoscaler's"
    assert_no_failure(prober.report)
    after = cluster.get(str(service), "deployment", "app")["spec"]
    assert after["template"]["metadata"]["annotations"].pop("kubectl.kubernetes.io/restartedAt")
    assert after == {**before, "replicas": 3}
    for what in others:
        metadata = cluster.get(str(service), what)["metadata"]
        assert metadata["annotations"]["theirs"] == metadata["labels"]["theirs"] == "1"


def test_an_edit_that_an_apply_would_contradict_is_noticed_and_goes(
    cluster: RunningCluster, runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    """The server refuses a Deployment with both ports, so a dry run says nothing."""
    plan = rollout(service, "v1", image_of("v1"), objects=without_autoscaler())
    live = runtime.roll_out(plan, say=quiet)
    other = {"op": "replace", "path": "/spec/template/spec/containers/0/ports/0/containerPort", "value": 9}
    with Prober(reached(runtime, service), version_of) as prober:
        cluster.run("patch", "deployment/app", "-n", str(service), "--type=json", "-p", json.dumps([other]))
        assert "containers[app].ports was set by kubectl-patch" in runtime.drift(service, 2)
        assert runtime.roll_out(plan.model_copy(update={"expect": 1}), say=quiet) == live
        assert not runtime.drift(service, 2)
    assert_no_failure(prober.report)
    assert len(harness.replicas(service)) == 2


def test_a_new_release_takes_nothing_with_it_that_somebody_added(
    cluster: RunningCluster, runtime: Runtime, service: Service, image_of: ImageOf
) -> None:
    own = without_autoscaler()
    runtime.roll_out(rollout(service, "v1", image_of("v1"), objects=own), say=quiet)
    cluster.run("set", "env", "-n", str(service), "deployment/app", "DEBUG=1")
    cluster.run("rollout", "pause", "-n", str(service), "deployment/app")
    runtime.roll_out(rollout(service, "v2", image_of("v2"), objects=own, expect=1), say=quiet)
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
    plan = rollout(service, "v1", image_of("v1"), env={"COLOUR": "blue"}, objects=without_autoscaler())
    again = plan.model_copy(update={"expect": 1})

    def environment() -> dict[str, str]:
        deployment = cluster.get(str(service), "deployment", "app")
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each["value"] for each in container["env"]}

    with webhook(cluster, service, tmp_path, dry_run=dry_run):
        live = runtime.roll_out(plan, say=quiet)
        assert environment() == {"COLOUR": "blue", "INJECTED": "yes"}
        assert not runtime.drift(service, 2)
        cluster.run("annotate", "-n", str(service), "deployment/app", "any=1")  # a write of somebody else's
        assert not runtime.drift(service, 2)
        cluster.run("set", "env", "-n", str(service), "deployment/app", "DEBUG=1")
        drift = runtime.drift(service, 2)
        assert drift.endswith("containers[app].env[DEBUG] was set by kubectl-set"), drift
        assert runtime.roll_out(again, say=quiet) == live
        assert environment() == {"COLOUR": "blue", "INJECTED": "yes"}
        assert not runtime.drift(service, 2)

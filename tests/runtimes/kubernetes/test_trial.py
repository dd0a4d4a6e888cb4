"""Smoke tests in a cluster, beyond what every runtime must do (tests/runtimes/test_trial.py)."""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from linkspan.config import SmokeSection
from linkspan.errors import RuntimeDenied, RuntimeUnavailable, SmokeFailed
from linkspan.release.smoke import smoke
from linkspan.runtimes.base import KubeObject, Rollout, Runtime, Service
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.trial_pod import (
    SECONDS,
    fetching_pod,
    missing_first,
    trial_pod,
)
from linkspan.runtimes.kubernetes.tried import Tried
from tests.runtimes.harness import TRIES, KubernetesHarness, child_program
from tests.runtimes.kubernetes.test_own import violations
from tests.runtimes.objects import (
    SMALL,
    app_of,
    config_map,
    parsed,
    pod_of,
    rendered,
    the,
    without_autoscaler,
)
from tests.runtimes.releases import quiet, reached, rollout
from tests.services.cluster import RunningCluster
from tests.services.engine import ImageOf
from tests.waiting import until

WANTED = SmokeSection(path="/")


def with_settings(service: Service, image: str, text: str, **fields: Any) -> Rollout:
    """A rollout of our own objects that reads VERSION from a ConfigMap that goes with them."""
    objects = without_autoscaler()
    reads = {"name": "VERSION", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "text"}}}
    app_of(objects)["env"] = [reads]
    return rollout(service, "v1", image, objects=[*objects, config_map("settings", text)], **fields)


def names(cluster: RunningCluster, service: Service) -> set[str]:
    """All that a trial may have made, but for what belongs to a live release."""
    kinds = "serviceaccounts,configmaps,networkpolicies,services,deployments,pods"
    found = cluster.get(str(service), kinds)["items"]
    return {each["metadata"]["name"] for each in found if "deletionTimestamp" not in each["metadata"]}


def says(text: str) -> SmokeSection:
    return SmokeSection.model_validate({"path": "/", "expect_json": {"version": text}})


def test_a_first_release_has_what_its_pods_need_and_leaves_none_of_it_if_it_is_refused(
    runtime: Runtime, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    before = names(cluster, service)
    asked = with_settings(service, image_of("v1"), "from the map")
    smoke(runtime, asked, says("from the map"), say=quiet)
    assert names(cluster, service) - before == {"app", "settings"}
    assert runtime.live(service) is None
    # What was there before a trial is not that trial's to remove.
    with pytest.raises(SmokeFailed):
        smoke(runtime, asked, says("nothing like it"), say=quiet)
    assert names(cluster, service) - before == {"app", "settings"}
    for kind in ("configmap/settings", "serviceaccount/app", "networkpolicy/app"):
        cluster.run("delete", "-n", str(service), kind)
    with pytest.raises(SmokeFailed):
        smoke(runtime, asked, says("nothing like it"), say=quiet)
    assert names(cluster, service) == before


def test_what_is_live_neither_reads_what_a_trial_reads_nor_gives_it_requests(
    runtime: Runtime, harness: KubernetesHarness, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    image = image_of("v1")
    runtime.roll_out(with_settings(service, image, "old"), say=quiet)
    reached(runtime, service)
    asked = with_settings(service, image, "new", expect=1)
    with runtime.trial(asked, say=quiet) as running:
        until(lambda: running.verdict("/readyz").done, what="a trial that is ready")
        assert running.ask("GET", "/", seconds=60).json()["version"] == "new"
        assert cluster.get(str(service), "configmap", "settings")["data"] == {"text": "old"}
        slices = cluster.get(str(service), "endpointslices")["items"]
        routed = {
            each["targetRef"]["name"]
            for piece in slices
            for each in piece["endpoints"]
            if each["conditions"]["ready"]
        }
        assert routed == set(harness.replicas(service)), "the pods of the release and no other"
        [pod, copy] = sorted(harness.trials(service), key=len)
        assert copy == f"{pod}-0"
    until(lambda: harness.trials(service) == [], what="the end of the pod and its copy")
    assert not runtime.drift(service, 2)


def test_a_pod_that_was_taken_away_is_no_verdict(
    runtime: Runtime, harness: KubernetesHarness, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    asked = rollout(service, "v1", image_of("v1", "never"))

    def take() -> None:
        until(lambda: harness.trials(service), what="a trial")
        cluster.run("delete", "pod", "-n", str(service), "-l", f"{marks.TRIAL}={service}")

    taking = threading.Thread(target=take)
    taking.start()
    with pytest.raises(RuntimeUnavailable, match="removed by somebody else"):
        smoke(runtime, asked, WANTED, say=quiet)
    taking.join()


def test_no_room_is_no_verdict(
    runtime: Runtime,
    harness: KubernetesHarness,
    cluster: RunningCluster,
    service: Service,
    image_of: ImageOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("linkspan.runtimes.kubernetes.troubles.PATIENCE", 0.0)
    with pytest.raises(RuntimeUnavailable, match=r"no room .*Insufficient memory"):
        smoke(runtime, rollout(service, "v1", image_of("v1"), memory="4000g"), WANTED, say=quiet)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    cluster.apply(str(service), {**quota, "spec": {"hard": {"pods": "0"}}})
    # The quota is in force once its controller has counted.
    until(lambda: cluster.get(str(service), "resourcequota", "none").get("status"), what="a quota")
    with pytest.raises(RuntimeUnavailable, match=r"no room .*exceeded quota"):
        smoke(runtime, rollout(service, "v1", image_of("v1")), WANTED, say=quiet)
    assert harness.trials(service) == []


def test_what_the_cluster_forbids_is_refused_by_name(
    runtime: Runtime, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    cluster.run("label", "namespace", str(service), "pod-security.kubernetes.io/enforce=restricted")
    smoke(runtime, rollout(service, "v1", image_of("v1")), WANTED, say=quiet)
    objects = without_autoscaler()
    pod_of(the("Deployment", objects))["hostNetwork"] = True
    with pytest.raises(SmokeFailed, match=r"its pod is refused: violates PodSecurity .*host namespaces"):
        smoke(runtime, rollout(service, "v1", image_of("v1"), objects=objects), WANTED, say=quiet)


def test_other_nodes_fetch_what_is_tried(
    runtime: Runtime,
    harness: KubernetesHarness,
    cluster: RunningCluster,
    service: Service,
    image_of: ImageOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is one node here, so the trial's is said to be another."""
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    monkeypatch.setattr(Tried, "node", property(lambda seen: seen.pod["spec"].get("nodeName") and "other"))
    asked = rollout(service, "v2", image_of("v2"), expect=1)
    said: list[str] = []

    def fetching() -> Sequence[KubeObject]:
        chosen = f"{marks.TRIAL}={service},{marks.ROLE}=fetch"
        found: list[KubeObject] = cluster.get(str(service), "pods", "-l", chosen)["items"]
        return found

    with runtime.trial(asked, say=said.append):
        assert any("1 other nodes begin to fetch" in line for line in said), said
        until(lambda: fetching()[0]["status"]["phase"] == "Failed", what="the end of a pod that only fetches")
        [state] = [each["state"] for each in fetching()[0]["status"]["containerStatuses"]]
        assert state["terminated"]["reason"] == "StartError", "after its image was there"
    runtime.roll_out(asked, say=quiet)
    assert harness.trials(service) == []


def test_a_pod_that_only_fetches_fetches(
    cluster: RunningCluster, namespace: str, service: Service, harness: KubernetesHarness, image_of: ImageOf
) -> None:
    runtime = harness.open()
    with runtime.trial(rollout(service, "v1", image_of("v1")), say=quiet):
        pass  # the password is there now
    asked = rollout(service, "v2", image_of("v2"))
    objects = rendered(without_autoscaler(), secret=True, image=asked.image, release=asked.release)
    [node] = [each["metadata"]["name"] for each in cluster.get(namespace, "nodes")["items"]]
    pod = fetching_pod(objects, "fetches", node)
    pod["metadata"]["namespace"] = str(service)
    cluster.apply(str(service), pod)

    def pulled() -> list[str]:
        events = cluster.get(str(service), "events", "--field-selector=involvedObject.name=fetches")["items"]
        return [each["message"] for each in events if each["reason"] == "Pulled"]

    until(pulled, what="a pull")
    assert pulled()[0].startswith("Successfully pulled")


def test_the_pod_is_the_releases_but_for_what_would_be_in_the_way() -> None:
    objects = rendered(list(default_objects()), ours=True, secret=True, memory="512m")
    template = the("Deployment", objects)["spec"]["template"]
    template["spec"]["affinity"] = {"podAntiAffinity": {"required": []}, "nodeAffinity": {"kept": 1}}
    template["spec"]["containers"][0]["ports"][0]["hostPort"] = 80
    pod = trial_pod(objects, "t", {})
    spec, [app] = pod["spec"], pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    selected = the("NetworkPolicy", objects)["spec"]["podSelector"]["matchLabels"].items()
    assert selected <= labels.items(), "the app's policies hold for it"
    assert not {marks.SERVICE, marks.REVISION} & set(labels), "and it is none of the service's replicas"
    assert spec["readinessGates"], "nobody opens it, so no Service sends a request"
    assert "topologySpreadConstraints" not in spec
    assert spec["affinity"] == {"nodeAffinity": {"kept": 1}}
    assert app["ports"] == [{"name": "http", "containerPort": 8080}]
    assert app["lifecycle"] == {}
    assert not {"startupProbe", "readinessProbe", "livenessProbe"} & set(app)
    assert app["resources"] == template["spec"]["containers"][0]["resources"]
    assert spec["restartPolicy"] == "Never"
    assert template["spec"]["topologySpreadConstraints"], "the release itself is as it was"
    for each in (pod, fetching_pod(objects, "f", "n")):
        assert violations(each["spec"]) == set()
        assert each["spec"]["imagePullSecrets"] == [{"name": marks.PULL_SECRET}]
        assert each["spec"]["activeDeadlineSeconds"] == SECONDS


def test_every_way_to_read_a_copy() -> None:
    [deployment] = parsed(SMALL)
    spec = pod_of(deployment)
    spec["volumes"] = [
        {"name": "a", "configMap": {"name": "m"}},
        {"name": "b", "secret": {"secretName": "s"}},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "m"}}, {"secret": {"name": "s"}}]}},
        {"name": "d", "configMap": {"name": "other"}},
    ]
    web = spec["containers"][1]
    web["envFrom"] = [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}]
    web["env"].append({"name": "B", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    objects = rendered([deployment, config_map("m"), secret])
    copied = {"t-0": the("ConfigMap", objects), "t-1": the("Secret", objects)}
    made = trial_pod(objects, "t", copied)["spec"]
    assert made["volumes"] == [
        {"name": "a", "configMap": {"name": "t-0"}},
        {"name": "b", "secret": {"secretName": "t-1"}},
        {
            "name": "c",
            "projected": {"sources": [{"configMap": {"name": "t-0"}}, {"secret": {"name": "t-1"}}]},
        },
        {"name": "d", "configMap": {"name": "other"}},
    ]
    app = made["containers"][1]
    assert app["envFrom"] == [{"configMapRef": {"name": "t-0"}}, {"secretRef": {"name": "t-1"}}]
    named = {each["name"]: each["valueFrom"] for each in app["env"] if "valueFrom" in each}
    assert named["A"] == {"secretKeyRef": {"name": "t-1", "key": "k"}}
    assert named["B"] == {"configMapKeyRef": {"name": "t-0", "key": "k"}}


def test_while_something_is_live_no_policy_is_made_before_its_time() -> None:
    objects = rendered([*default_objects(), config_map("settings"), *parsed(SECRET_STORE)], host="a.example")
    first = {each["kind"] for each in missing_first(objects, live=False)}
    assert first == {"ServiceAccount", "ConfigMap", "NetworkPolicy", "ExternalSecret"}
    assert {each["kind"] for each in missing_first(objects, live=True)} == first - {"NetworkPolicy"}


SECRET_STORE = "{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: s}}"


def test_a_killed_trial_leaves_nothing_to_the_next(
    runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    asked = rollout(service, "v1", image_of("v1"))
    program = child_program(harness.opener(), asked.model_dump(mode="json"), "until /readyz", TRIES)
    command = [sys.executable, "-c", program]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    [left] = harness.trials(service)
    with runtime.trial(asked, say=quiet):
        assert left not in harness.trials(service)


def test_an_account_with_the_rights_of_earlier_versions_is_told_where_the_new_ones_are(
    cluster: RunningCluster, service: Service, harness: KubernetesHarness, image_of: ImageOf, tmp_path: Path
) -> None:
    role = cluster.get("default", "clusterrole", "linkspan-deployer")
    rules = [each for each in role["rules"] if "pods/portforward" not in each["resources"]]
    namespace = str(service)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "earlier"}}
    earlier = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "earlier"}}
    cluster.apply(namespace, account, {**earlier, "rules": rules})
    binding = ["create", "rolebinding", "earlier", "-n", namespace, "--role=earlier"]
    cluster.run(*binding, f"--serviceaccount={namespace}:earlier")
    rights = {"namespace": namespace, "verb": "create", "group": "", "resource": "pods"}
    cluster.until_may(f"{namespace}:earlier", rights)
    kubeconfig = cluster.kubeconfig_of(namespace, "earlier", tmp_path / "kubeconfig")
    runtime = KubernetesHarness(cluster, harness.registry, kubeconfig).open()
    with pytest.raises(RuntimeDenied, match=r"pods/portforward.*k8s/linkspan"):
        smoke(runtime, rollout(service, "v1", image_of("v1")), WANTED, say=quiet)
    assert harness.trials(service) == []

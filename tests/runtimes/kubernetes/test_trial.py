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
from linkspan.errors import RolloutFailed, RuntimeDenied, RuntimeUnavailable
from linkspan.nouns import Revision
from linkspan.release.smoke import smoke
from linkspan.runtimes.base import KubeObject, Rollout, Runtime, Service
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.trial_pod import (
    SECONDS,
    fetching_pod,
    needed,
    policies,
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


def allow_pods(cluster: RunningCluster, service: Service, number: int) -> None:
    """Let the namespace have so many pods; a quota is in force once its controller has counted."""
    meta, spec = {"name": "pods"}, {"hard": {"pods": str(number)}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": spec}
    cluster.apply(str(service), quota)
    until(lambda: cluster.get(str(service), "resourcequota", "pods").get("status"), what="a quota")


def says(text: str) -> SmokeSection:
    return SmokeSection.model_validate({"path": "/", "expect_json": {"version": text}})


def test_a_first_release_has_what_its_pods_need(
    runtime: Runtime, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    before = names(cluster, service)
    smoke(runtime, with_settings(service, image_of("v1"), "from the map"), says("from the map"), say=quiet)
    until(lambda: names(cluster, service) - before == {"app", "settings"}, what="the end of the trial")
    kinds = cluster.get(str(service), "serviceaccounts,networkpolicies,services,deployments")["items"]
    assert {each["kind"] for each in kinds if each["metadata"]["name"] == "app"} == {"ServiceAccount"}
    assert runtime.live(service) is None


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
        known = {each["targetRef"]["name"] for piece in slices for each in piece["endpoints"]}
        assert known == set(harness.replicas(service)), "the pods of the release and no other, ready or not"
        pods = cluster.get(str(service), "pods", "-l", f"{marks.TRIAL}={service}")["items"]
        conditions = {each["type"]: each["status"] for each in pods[0]["status"]["conditions"]}
        assert conditions["ContainersReady"] == "False", "load balancers that look at pods leave it alone"
        [policy] = [
            each
            for each in cluster.get(str(service), "networkpolicies")["items"]
            if each["metadata"]["name"] != "app"
        ]
        chosen = policy["spec"]["podSelector"]["matchLabels"].items()
        assert chosen <= pods[0]["metadata"]["labels"].items()
        assert len(harness.trials(service)) == 3, "with copies of the ConfigMap and of the NetworkPolicy"
    until(lambda: harness.trials(service) == [], what="the end of the pod and its copies")
    assert not runtime.drift(service, 2)


def test_a_pod_that_was_taken_away_is_no_verdict(
    runtime: Runtime, harness: KubernetesHarness, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    asked = rollout(service, "v1", image_of("v1", "never"))

    def take() -> None:
        chosen = ["pods", "-l", f"{marks.TRIAL}={service}"]
        until(lambda: cluster.get(str(service), *chosen)["items"], what="the pod of a trial")
        cluster.run("delete", *chosen, "-n", str(service))

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
    allow_pods(cluster, service, 0)
    with pytest.raises(RuntimeUnavailable, match=r"no room .*exceeded quota"):
        smoke(runtime, rollout(service, "v1", image_of("v1")), WANTED, say=quiet)
    until(lambda: harness.trials(service) == [], what="the end of the trial")


def test_what_the_cluster_forbids_is_no_verdict(
    runtime: Runtime, harness: KubernetesHarness, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    """Policies may forbid a pod by itself, and not those of a Deployment."""
    cluster.run("label", "namespace", str(service), "pod-security.kubernetes.io/enforce=restricted")
    smoke(runtime, rollout(service, "v1", image_of("v1")), WANTED, say=quiet)
    objects = without_autoscaler()
    pod_of(the("Deployment", objects))["hostNetwork"] = True
    with pytest.raises(RolloutFailed, match=r"its pod is refused: violates PodSecurity .*trial=\"engine\""):
        smoke(runtime, rollout(service, "v1", image_of("v1"), objects=objects), WANTED, say=quiet)
    until(lambda: harness.trials(service) == [], what="the end of what was made for it")


def test_a_rollout_that_fills_a_quota_waits_for_what_was_tried(
    runtime: Runtime, cluster: RunningCluster, service: Service, image_of: ImageOf
) -> None:
    allow_pods(cluster, service, 2)
    asked = rollout(service, "v1", image_of("v1"))
    with runtime.trial(asked, say=quiet):
        rolling = threading.Thread(target=lambda: done.append(runtime.roll_out(asked, say=said.append)))
        said: list[str] = []
        done: list[Revision] = []
        rolling.start()
        until(lambda: any("exceeded quota" in line for line in said), what="a quota that is full")
    rolling.join()
    assert done[0].outcome == "live"


def test_a_sidecar_that_starts_badly_once_is_no_verdict(
    runtime: Runtime, service: Service, image_of: ImageOf
) -> None:
    """As in a rollout: it is started again, and the app waits for it."""
    image = image_of("v1")
    objects = without_autoscaler()
    pod = pod_of(the("Deployment", objects))
    pod["volumes"].append({"name": "once", "emptyDir": {}})
    once = "test -e /once/more || { touch /once/more; exit 1; }; sleep 3600"
    sidecar = {
        **{key: app_of(objects)[key] for key in ("securityContext", "resources")},
        "name": "side",
        "image": image,
        "restartPolicy": "Always",
        "command": ["sh", "-c", once],
        "volumeMounts": [{"name": "once", "mountPath": "/once"}],
    }
    pod["initContainers"] = [sidecar]
    smoke(runtime, rollout(service, "v1", image, objects=objects), WANTED, say=quiet)


def test_what_an_operator_has_yet_to_make_is_waited_for(
    runtime: Runtime,
    cluster: RunningCluster,
    service: Service,
    image_of: ImageOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As many seconds as a busy machine may need for it.
    monkeypatch.setattr("linkspan.runtimes.kubernetes.containers.PATIENCE", 240.0)
    objects = without_autoscaler()
    reads = {"name": "VERSION", "valueFrom": {"secretKeyRef": {"name": "later", "key": "text"}}}
    app_of(objects)["env"] = [reads]
    said: list[str] = []

    def make() -> None:
        until(lambda: any('secret "later" not found' in line for line in said), what="what is missing")
        cluster.run("create", "secret", "generic", "later", "-n", str(service), "--from-literal=text=made")

    making = threading.Thread(target=make)
    making.start()
    asked = rollout(service, "v1", image_of("v1"), objects=objects)
    assert smoke(runtime, asked, says("made"), say=said.append).status == 200
    making.join()


def test_where_pods_cannot_be_tried_an_engine_does(
    harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    runtime = harness.open(trial="engine")
    assert smoke(runtime, rollout(service, "v1", image_of("v1")), WANTED, say=quiet).status == 200
    until(lambda: harness.trials(service) == [], what="the end of the trial")


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
        assert any("other nodes begin to fetch the release: 1" in line for line in said), said
        until(lambda: fetching()[0]["status"]["phase"] == "Failed", what="the end of a pod that only fetches")
        [state] = [each["state"] for each in fetching()[0]["status"]["containerStatuses"]]
        assert state["terminated"]["reason"] == "StartError", "after its image was there"
    runtime.roll_out(asked, say=quiet)
    until(lambda: harness.trials(service) == [], what="the end of the trial")


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
    template["metadata"]["labels"]["azure.workload.identity/use"] = "true"
    template["spec"]["affinity"] = {"podAntiAffinity": {"required": []}, "nodeAffinity": {"kept": 1}}
    template["spec"]["containers"][0]["ports"][0]["hostPort"] = 80
    pod = trial_pod(objects, "t", {})
    spec, [app] = pod["spec"], pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    assert labels == {
        "app.kubernetes.io/managed-by": "linkspan",
        "app.kubernetes.io/name": "app-trial",
        "azure.workload.identity/use": "true",
        marks.TRIAL: "digits-production",
        marks.ROLE: "trial",
    }, "none with the value by which the service's pods are chosen"
    assert app["readinessProbe"]["initialDelaySeconds"] >= SECONDS, "it is never called ready"
    own = template["spec"]["containers"][0]
    assert app["readinessProbe"] == {**own["readinessProbe"], "initialDelaySeconds": SECONDS}
    assert [app[key] for key in ("startupProbe", "livenessProbe", "resources")] == [
        own[key] for key in ("startupProbe", "livenessProbe", "resources")
    ]
    assert "topologySpreadConstraints" not in spec
    assert spec["affinity"] == {"nodeAffinity": {"kept": 1}}
    assert app["ports"] == [{"name": "http", "containerPort": 8080}]
    assert app["lifecycle"] == {}
    assert app["env"] == [{"name": "LINKSPAN_TRIAL", "value": "1"}]
    assert template["spec"]["topologySpreadConstraints"], "the release itself is as it was"
    [policy] = policies([(each, None) for each in objects])
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["ingress"] == the("NetworkPolicy", objects)["spec"]["ingress"]
    for each in (pod, fetching_pod(objects, "f", "n")):
        assert violations(each["spec"]) == set()
        assert each["spec"]["imagePullSecrets"] == [{"name": marks.PULL_SECRET}]
        assert each["spec"]["activeDeadlineSeconds"] == SECONDS


def test_what_an_init_container_does_is_not_cut_short() -> None:
    [deployment] = parsed(SMALL)
    assert "terminationGracePeriodSeconds" not in trial_pod(rendered([deployment]), "t", {})["spec"]
    del pod_of(deployment)["initContainers"]
    assert trial_pod(rendered([deployment]), "t", {})["spec"]["terminationGracePeriodSeconds"] == 1


def test_the_policies_of_a_trial() -> None:
    mine, other = {"matchLabels": {"mine": "1"}}, {"matchLabels": {"cache": "1"}}

    def policy(name: str, selector: KubeObject, *sources: KubeObject) -> KubeObject:
        ingress = [{"from": [{"podSelector": each}], "ports": [{"port": 6379}]} for each in sources]
        spec = {"podSelector": selector, "ingress": ingress}
        meta = {"name": name}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}

    own = [policy("all", {}), policy("app", mine, other), policy("cache", other, mine, other)]
    objects = rendered([*parsed(SMALL), *own, policy("neither", other, other)])
    trial = {"matchLabels": {marks.TRIAL: "digits-production", marks.ROLE: "trial"}}
    there = [(each, each) for each in objects]
    made = {each["metadata"]["name"]: each["spec"] for each in policies(there)}
    assert set(made) == {"all", "app", "cache"}
    assert made["app"] == {"podSelector": trial, "ingress": own[1]["spec"]["ingress"]}
    assert made["all"]["podSelector"] == trial
    assert made["cache"] == {
        "podSelector": other,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": trial}], "ports": [{"port": 6379}]}],
    }, "one rule more for the cache, and none less"
    # One that is not there yet, or holds for others, or for what goes out, would shut out who is live.
    for found in (None, policy("cache", mine), {"spec": {"podSelector": other, "policyTypes": ["Egress"]}}):
        left = policies([(each, found) for each in objects])
        assert [each["metadata"]["name"] for each in left] == ["all", "app"]


def test_a_long_label_stays_one() -> None:
    [deployment] = parsed(SMALL)
    long = {"mine": "x" * 63}
    deployment["spec"]["selector"]["matchLabels"] = deployment["spec"]["template"]["metadata"]["labels"] = (
        long
    )
    assert trial_pod(rendered([deployment]), "t", {})["metadata"]["labels"]["mine"] == "x" * 57 + "-trial"


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


def test_nothing_that_acts_on_what_is_live_is_made_before_its_time() -> None:
    kinds = ("HTTPRoute", "ScaledObject", "AuthorizationPolicy", "LimitRange", "Job")
    acting = [{"apiVersion": "x/v1", "kind": kind, "metadata": {"name": "x"}} for kind in kinds]
    own = [*default_objects(), config_map("settings"), *parsed(SECRET_STORE), *acting]
    made = [each["kind"] for each in needed(rendered(own, host="a.example"))]
    assert made == ["ServiceAccount", "ConfigMap", "ExternalSecret"]


SECRET_STORE = "{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: s}}"


def test_a_killed_trial_leaves_nothing_to_the_next(
    runtime: Runtime, harness: KubernetesHarness, service: Service, image_of: ImageOf
) -> None:
    asked = rollout(service, "v1", image_of("v1"))
    program = child_program(harness.opener(), asked.model_dump(mode="json"), "until /readyz", TRIES)
    command = [sys.executable, "-c", program]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = set(harness.trials(service))
    assert left
    with runtime.trial(asked, say=quiet):
        until(lambda: not left & set(harness.trials(service)), what="the end of the killed one")


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
    until(lambda: harness.trials(service) == [], what="the end of the trial")

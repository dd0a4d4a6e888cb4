"""Linkspan's own manifests: they fit together, pass Pod Security "restricted", and follow linkspan.toml."""

import re
from pathlib import Path
from typing import Any

import kubernetes.client

from linkspan.ledger.labels import objects_json
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.objects import autoscaler_of, called
from tests.installed import install, run
from tests.runtimes.objects import SMALL, a_rollout, parsed, pod_of, rendered, the

ROOT = Path(__file__).parents[3]


def test_our_own_follow_what_the_app_says_about_serving() -> None:
    serving: dict[str, Any] = {
        "port": 9000,
        "ready_path": "/up",
        "request_seconds": 90.5,
        "ready_seconds": 900.2,
    }
    deployment = the("Deployment", rendered(list(default_objects()), ours=True, **serving))
    pod = pod_of(deployment)
    [container] = pod["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9000}]
    assert container["startupProbe"]["httpGet"] == {"path": "/up", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/up", "port": "http"}
    assert container["startupProbe"]["failureThreshold"] == 901
    assert container["livenessProbe"]["tcpSocket"] == {"port": "http"}
    assert pod["terminationGracePeriodSeconds"] == 10 + 91 + 5
    assert deployment["spec"]["progressDeadlineSeconds"] == 961


def test_our_own_are_as_linkspan_toml_has_it_by_default() -> None:
    """So that `kubectl apply -k` and Linkspan apply the same."""
    assert rendered(list(default_objects()), ours=True) == rendered(list(default_objects()))


def test_a_users_own_are_not_touched_by_what_the_app_says_about_serving() -> None:
    container = pod_of(the("Deployment", rendered(parsed(SMALL), port=9000, ready_path="/up")))["containers"][
        1
    ]
    assert container["ports"] == [{"containerPort": 9}]
    assert "readinessProbe" not in container


def test_our_own_rendered_for_the_sample_app() -> None:
    objects = rendered(list(default_objects()), ours=True, host="digits.example", memory="512m", cpu="250m")
    assert [called(each) for each in objects] == [
        "ServiceAccount/app",
        "NetworkPolicy/app",
        "Service/app",
        "PodDisruptionBudget/app",
        "HorizontalPodAutoscaler/app",
        "Ingress/app",
        "Deployment/app",
    ]
    deployment = objects[-1]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        the("Service", objects)["spec"]["selector"],
        the("NetworkPolicy", objects)["spec"]["podSelector"]["matchLabels"],
        the("PodDisruptionBudget", objects)["spec"]["selector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in pod_of(deployment)["topologySpreadConstraints"]),
    ):
        assert selector.items() <= labels.items()
    ports = {each["name"] for each in pod_of(deployment)["containers"][0]["ports"]}
    service = the("Service", objects)["spec"]
    [backend] = [
        each["backend"]["service"] for each in the("Ingress", objects)["spec"]["rules"][0]["http"]["paths"]
    ]
    assert {each["targetPort"] for each in service["ports"]} <= ports
    assert {each["port"] for each in the("NetworkPolicy", objects)["spec"]["ingress"][0]["ports"]} <= ports
    assert backend == {"name": "app", "port": {"name": service["ports"][0]["name"]}}
    assert autoscaler_of(objects, deployment)
    assert pod_of(deployment)["serviceAccountName"] == the("ServiceAccount", objects)["metadata"]["name"]


def test_a_replica_that_leaves_has_time_for_its_longest_request() -> None:
    pod = pod_of(the("Deployment", list(default_objects())))
    leaving = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > leaving + a_rollout().request_seconds
    rolling = the("Deployment", list(default_objects()))["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": "100%"}


def violations(pod: dict[str, Any]) -> set[str]:
    """What Pod Security "restricted" forbids in a pod (kubernetes.io, Pod Security Standards)."""
    found: set[str] = set()
    context = pod.get("securityContext", {})
    found |= {key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)}
    volumes = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
    volumes |= {"projected", "secret"}
    if any(set(volume) - {"name"} - volumes for volume in pod.get("volumes", [])):
        found.add("volumes")
    for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
        own = {**context, **container.get("securityContext", {})}
        capabilities = own.get("capabilities", {})
        rules = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "runAsNonRoot": own.get("runAsNonRoot") is True,
            "runAsUser": own.get("runAsUser") != 0,
            "seccompProfile": own.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "drop": "ALL" in capabilities.get("drop", []),
            "add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
        }
        found |= {rule for rule, kept in rules.items() if not kept}
    return found


def test_our_own_pass_pod_security_restricted() -> None:
    pod = pod_of(the("Deployment", rendered(list(default_objects()), ours=True, secret=True)))
    assert violations(pod) == set()
    # The rules find what is wrong with a pod that says nothing.
    assert violations({"containers": [{}], "hostPID": True, "volumes": [{"name": "x", "hostPath": {}}]}) == {
        "allowPrivilegeEscalation", "runAsNonRoot", "seccompProfile", "drop", "hostPID", "volumes"
    }  # fmt: skip
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/tmp"]
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"]
    assert pod["automountServiceAccountToken"] is False
    assert the("ServiceAccount", list(default_objects()))["automountServiceAccountToken"] is False
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "app" / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    ids = (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"])
    assert ids == (int(user[1]), int(user[2]))


def misfits(value: Any, kind: str, at: str = "") -> list[str]:
    """Where `value` is not what Kubernetes' API calls `kind`, by the types of its client."""
    if found := re.fullmatch(r"(?i:list\[|dict[\[(]str, )(.*)[\])]", kind):
        if not isinstance(value, list if kind.lower().startswith("list") else dict):
            return [f"{at} is no {kind}"]
        inner = enumerate(value) if isinstance(value, list) else value.items()
        return [each for key, one in inner for each in misfits(one, found[1], f"{at}.{key}")]
    plain = {"str": str, "int": int, "bool": bool, "object": object}.get(kind)
    if plain:
        return [] if isinstance(value, plain) else [f"{at} is no {kind}"]
    model = getattr(kubernetes.client, kind)
    types = {model.attribute_map[name]: each for name, each in model.openapi_types.items()}
    wrong = [f"{at}.{key} is unknown" for key in value.keys() - types.keys()]
    for key in value.keys() & types.keys():
        wrong += misfits(value[key], types[key], f"{at}.{key}")
    return wrong


KINDS = {
    "Deployment": "V1Deployment",
    "HorizontalPodAutoscaler": "V2HorizontalPodAutoscaler",
    "Ingress": "V1Ingress",
    "NetworkPolicy": "V1NetworkPolicy",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
    "Service": "V1Service",
    "ServiceAccount": "V1ServiceAccount",
}


def test_every_field_of_our_own_is_in_the_api() -> None:
    """An API server may drop what it does not know without a word."""
    fields: dict[str, Any] = {"host": "x.example", "cpu": "1", "memory": "1g", "env": {"A": "b"}}
    objects = rendered(list(default_objects()), ours=True, secret=True, **fields)
    for each in objects:
        version = KINDS[each["kind"]][:2].lower()
        assert each["apiVersion"].rpartition("/")[2] == version
        assert misfits(each, KINDS[each["kind"]], each["kind"]) == []
    deployment = objects[-1]
    deployment["spec"]["replica"] = 2
    deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["second"] = 1
    deployment["spec"]["minReadySeconds"] = "5"
    assert sorted(misfits(deployment, "V1Deployment")) == [
        ".spec.minReadySeconds is no int",
        ".spec.replica is unknown",
        ".spec.template.spec.containers.0.lifecycle.preStop.sleep.second is unknown",
    ]


def test_our_own_come_with_the_wheel(tmp_path: Path) -> None:
    program = (
        "from linkspan.runtimes.kubernetes import app_objects as it; print(it.__file__);"
        "print(it.objects_json(it.default_objects()))"
    )
    found = run(install(tmp_path), program)
    assert found[0].startswith(str(tmp_path))
    assert found[1] == objects_json(default_objects())

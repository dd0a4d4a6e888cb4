"""From objects to the objects that are applied: every rule, and that nothing else is touched."""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from linkspan.errors import ConfigError
from linkspan.nouns import Mount
from linkspan.runtimes.base import KubeObject, Service
from linkspan.runtimes.kubernetes import marks
from linkspan.runtimes.kubernetes.app_objects import default_objects
from linkspan.runtimes.kubernetes.objects import app_deployment, autoscaler_of, called, identity, in_order
from linkspan.runtimes.kubernetes.render import in_the_way, render
from tests.runtimes.objects import IMAGE, MODEL, RELEASE, SMALL, a_rollout, parsed, pod_of, rendered, the
from tests.values import release

# ----- the image


def test_the_release_takes_the_place_of_the_placeholder_and_of_nothing_else() -> None:
    pod = pod_of(the("Deployment", rendered(parsed(SMALL))))
    assert {each["name"]: each["image"] for each in pod["initContainers"]} == {
        "migrate": IMAGE,
        "wait": "busybox",
    }
    assert {each["name"]: each["image"] for each in pod["containers"]} == {"sidecar": "envoy", "web": IMAGE}


@pytest.mark.parametrize("image", ["linkspan.dev/app", "linkspan.dev/app:v1", "linkspan.dev/app@sha256:00"])
def test_a_tag_of_the_placeholder_makes_no_difference(image: str) -> None:
    text = SMALL.replace("image: linkspan.dev/app:latest", f"image: {image}")
    assert pod_of(the("Deployment", rendered(parsed(text))))["containers"][1]["image"] == IMAGE


def test_no_deployment_for_the_app() -> None:
    with pytest.raises(ConfigError, match=r"exactly one Deployment .* \(found Deployment/web\)"):
        rendered(parsed(SMALL.replace("linkspan.dev/app:", "nginx:")))


# ----- the model's image

MOUNT = Mount(image="registry.example/digits@sha256:" + "5" * 64, content=MODEL.digest, path="/srv/model")


def test_the_models_image_is_mounted_into_what_runs_the_release_and_nothing_else() -> None:
    pod = pod_of(the("Deployment", rendered(parsed(SMALL), mount=MOUNT)))
    assert pod["volumes"][-1] == {
        "name": "linkspan-model",
        "image": {"reference": MOUNT.image, "pullPolicy": "IfNotPresent"},
    }
    place = {"name": "linkspan-model", "mountPath": "/srv/model", "subPath": "srv/model", "readOnly": True}
    found = {
        each["name"]: [mount for mount in each.get("volumeMounts", ()) if mount["name"] == "linkspan-model"]
        for each in [*pod["initContainers"], *pod["containers"]]
    }
    assert found == {"migrate": [place], "wait": [], "sidecar": [], "web": [place]}
    without = pod_of(the("Deployment", rendered(parsed(SMALL))))
    assert "linkspan-model" not in json.dumps(without)


def with_mounts(*places: str, volume: str = "scratch") -> list[KubeObject]:
    """The small app, with volumes of its own."""
    objects = parsed(SMALL)
    pod = pod_of(the("Deployment", objects))
    pod["volumes"] = [{"name": volume, "emptyDir": {}}]
    pod["containers"][1]["volumeMounts"] = [{"name": volume, "mountPath": place} for place in places]
    return objects


def test_what_the_app_mounts_itself_stays() -> None:
    objects = with_mounts("/scratch")
    assert in_the_way(objects, MOUNT.path) == ""
    made = pod_of(the("Deployment", rendered(objects, mount=MOUNT)))
    assert [each["name"] for each in made["volumes"]] == ["scratch", "linkspan-model"]
    assert [each["name"] for each in made["containers"][1]["volumeMounts"]] == ["scratch", "linkspan-model"]


@pytest.mark.parametrize("place", ["/srv/model", "/srv/model/", "/srv/model/cache"])
def test_a_mount_where_nothing_can_be_written_is_in_the_way(place: str) -> None:
    said = f"container web of Deployment/web mounts something at {place}"
    assert in_the_way(with_mounts("/scratch", place), MOUNT.path) == said


@pytest.mark.parametrize("place", ["/srv", "/srv/models", "/", "/srv/model-cache"])
def test_a_mount_beside_the_model_is_not(place: str) -> None:
    assert in_the_way(with_mounts(place), MOUNT.path) == ""


def test_a_volume_of_our_name_is_in_the_way() -> None:
    said = "Deployment/web has a volume linkspan-model of its own"
    assert in_the_way(with_mounts("/scratch", volume="linkspan-model"), MOUNT.path) == said


# ----- what is said on the objects


def test_the_deployment_and_its_pods_say_what_they_are() -> None:
    deployment = the("Deployment", rendered(parsed(SMALL), run="brave-otter"))
    said = {
        "linkspan.dev/revision": "7",
        "linkspan.dev/release": "digits: 0000001 + v12",
        "linkspan.dev/commit": RELEASE.commit.sha,
        "linkspan.dev/commit-author": "Ada",
        "linkspan.dev/commit-subject": "A change",
        "linkspan.dev/model": "digits v12",
        "linkspan.dev/model-digest": MODEL.digest,
        "linkspan.dev/model-metrics": '{"accuracy": 0.97, "f1": 0.5}',
        "linkspan.dev/model-publisher": "bob",
        "linkspan.dev/image": RELEASE.image,
        "linkspan.dev/cause": "a push",
        "linkspan.dev/run": "brave-otter",
        "linkspan.dev/at": "2026-11-22T12:00:00+00:00",
    }
    change = {"kubernetes.io/change-cause": "digits: 0000001 + v12, a push"}
    assert deployment["metadata"]["annotations"] == {"mine": "2", **said, **change}
    template = deployment["spec"]["template"]
    assert template["metadata"]["annotations"] == {"mine": "3", **said}
    assert template["metadata"]["labels"] == {
        "mine": "1",
        "app.kubernetes.io/managed-by": "linkspan",
        "linkspan.dev/service": "digits-production",
        "linkspan.dev/revision": "7",
    }
    # What selects the pods never changes: the API server would refuse it.
    assert deployment["spec"]["selector"] == {"matchLabels": {"mine": "1"}}
    assert marks.REVISION not in deployment["metadata"]["labels"]


def test_what_is_not_known_is_not_said() -> None:
    bare = release(1, "v1")
    said = the("Deployment", rendered(parsed(SMALL), release=bare))["metadata"]["annotations"]
    assert not {marks.RUN, marks.MODEL_METRICS, marks.MODEL_PUBLISHER} & set(said)


def test_times_are_utc() -> None:
    at = datetime(2026, 11, 22, 14, 30, 5, 999, tzinfo=timezone(timedelta(hours=2)))
    objects = render(parsed(SMALL), a_rollout(), namespace="x", revision=1, at=at)
    assert the("Deployment", objects)["metadata"]["annotations"][marks.AT] == "2026-11-22T12:30:05+00:00"


def test_every_object_says_whose_it_is_and_where() -> None:
    extra = [
        {"apiVersion": "x.example/v1", "kind": "Unknown", "metadata": {"name": "a", "labels": None}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b", "namespace": "wrong"}},
    ]
    objects = rendered([*parsed(SMALL), *extra])
    for each in objects:
        assert each["metadata"]["labels"].items() >= {
            "app.kubernetes.io/managed-by": "linkspan", "linkspan.dev/service": "digits-production"
        }.items()  # fmt: skip
    assert {each["kind"]: each["metadata"].get("namespace") for each in objects} == {
        "Deployment": "there", "Unknown": "there", "Namespace": None
    }  # fmt: skip
    assert the("Deployment", objects)["metadata"]["labels"]["mine"] == "1"


def test_a_service_whose_name_is_no_label() -> None:
    service = Service(app="a" * 40, environment="e" * 22)
    assert rendered(parsed(SMALL), service=service)
    with pytest.raises(ConfigError, match=r"expected at most 62 characters together.*found 63"):
        rendered(parsed(SMALL), service=service.model_copy(update={"environment": "e" * 23}))


def test_service_accounts_of_the_folder_are_bound_where_it_runs() -> None:
    subjects: list[dict[str, Any]] = [
        {"kind": "ServiceAccount", "name": "mine"},
        {"kind": "ServiceAccount", "name": "theirs", "namespace": "x"},
        {"kind": "User", "name": "mine"},
    ]
    extra: list[KubeObject] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "mine"}},
        {"apiVersion": "rbac/v1", "kind": "RoleBinding", "metadata": {"name": "b"}, "subjects": subjects},
    ]
    bound = the("RoleBinding", rendered([*parsed(SMALL), *extra]))["subjects"]
    assert [each.get("namespace") for each in bound] == ["there", "x", None]


def test_the_pull_secret_is_named_once() -> None:
    def pulls(text: str, *, secret: bool) -> Any:
        return pod_of(the("Deployment", rendered(parsed(text), secret=secret))).get("imagePullSecrets")

    own = SMALL.replace("      initC", "      imagePullSecrets: [{name: own}]\n      initC")
    both = own.replace("[{name: own}]", "[{name: own}, {name: linkspan-registry}]")
    assert pulls(SMALL, secret=False) is None
    assert pulls(SMALL, secret=True) == [{"name": "linkspan-registry"}]
    assert pulls(own, secret=False) == [{"name": "own"}]
    assert (
        pulls(own, secret=True)
        == pulls(both, secret=True)
        == [{"name": "own"}, {"name": "linkspan-registry"}]
    )


# ----- what linkspan.toml says


def test_env_is_merged_by_name() -> None:
    pod = pod_of(the("Deployment", rendered(parsed(SMALL), env={"A": "ours", "B": "$(KEPT) $HOME $$"})))
    web = pod["containers"][1]["env"]
    assert web == [
        {"name": "KEPT", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "A", "value": "ours"},
        # Kubernetes reads $$ as $ and expands nothing: the value is the one in linkspan.toml.
        {"name": "B", "value": "$$(KEPT) $$HOME $$$$"},
    ]
    assert pod["containers"][0]["env"] == [{"name": "A", "value": "theirs"}]
    assert [each["name"] for each in pod["initContainers"][0]["env"]] == ["A", "B"]
    assert "env" not in pod["initContainers"][1]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"limits": {"cpu": "2", "memory": "1Gi"}}),
        ({"memory": "512m"}, {"limits": {"cpu": "2", "memory": "512Mi"}, "requests": {"memory": "512Mi"}}),
        ({"memory": "2g"}, {"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"memory": "2Gi"}}),
        ({"memory": "9k"}, {"limits": {"cpu": "2", "memory": "9Ki"}, "requests": {"memory": "9Ki"}}),
        ({"cpu": "500m"}, {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
        (
            {"cpu": "1", "memory": "1g"},
            {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
        ),
    ],
)
def test_resources_are_those_of_the_environment(fields: dict[str, Any], expected: object) -> None:
    containers = pod_of(the("Deployment", rendered(parsed(SMALL), **fields)))["containers"]
    assert containers[1]["resources"] == expected
    assert "resources" not in containers[0]


SCALER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: s}
spec: {scaleTargetRef: {kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 4}
"""


@pytest.mark.parametrize(("replicas", "most"), [(2, 4), (4, 4), (9, 9)])
def test_an_autoscaler_never_has_less_than_the_environment_wants(replicas: int, most: int) -> None:
    objects = rendered(parsed(SMALL, SCALER), replicas=replicas)
    spec = the("HorizontalPodAutoscaler", objects)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (replicas, most)
    deployment = the("Deployment", objects)
    assert deployment["spec"]["replicas"] == replicas
    assert autoscaler_of(objects, deployment) is the("HorizontalPodAutoscaler", objects)


def test_an_autoscaler_of_something_else_is_left_alone() -> None:
    for other in (SCALER.replace("name: web", "name: x"), SCALER.replace("kind: Dep", "kind: NoDep")):
        objects = rendered(parsed(SMALL, other), replicas=9)
        assert the("HorizontalPodAutoscaler", objects)["spec"] == parsed(other)[0]["spec"]
        assert autoscaler_of(objects, the("Deployment", objects)) is None
    with pytest.raises(ConfigError, match=r"HorizontalPodAutoscaler/s: spec\.maxReplicas is wrong"):
        rendered(parsed(SMALL, SCALER.replace("maxReplicas: 4", "maxReplicas: lots")))


INGRESS = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  tls: [{secretName: t, hosts: [old.example]}]
  rules: [{host: old.example}, {http: {paths: []}}]
"""


def test_the_host_is_in_every_rule_and_in_tls() -> None:
    ingress = the("Ingress", rendered(parsed(SMALL, INGRESS), host="new.example"))
    assert ingress["spec"] == {
        "tls": [{"secretName": "t", "hosts": ["new.example"]}],
        "rules": [{"host": "new.example"}, {"host": "new.example", "http": {"paths": []}}],
    }


def test_an_ingress_without_any_host_is_left_out() -> None:
    assert the("Ingress", rendered(parsed(SMALL, INGRESS)))["spec"] == parsed(INGRESS)[0]["spec"]
    without = INGRESS.replace("host: old.example", "x: y")
    assert [called(each) for each in rendered(parsed(SMALL, without))] == ["Deployment/web"]
    assert len(rendered(parsed(SMALL, without), host="new.example")) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it[0]["spec"].update(template=[]), "Deployment/web: spec.template is wrong"),
        (lambda it: it[0]["spec"]["template"].update(metadata=1), "/web: spec.template.metadata is wrong"),
        (lambda it: pod_of(it[0]).update(imagePullSecrets={}), "imagePullSecrets is wrong (expected a"),
        (lambda it: pod_of(it[0])["containers"][1].update(env={}), "/web, container web: env is"),
        (lambda it: pod_of(it[0])["containers"][1].update(resources=1), "container web: resources"),
        (lambda it: it[1]["spec"].update(rules={"a": 1}), "Ingress/i: spec.rules is wrong (expected"),
        (lambda it: it[1].update(spec="x"), "Ingress/i: spec is wrong (expected an object, found x)"),
    ],
)  # fmt: skip
def test_another_shape_is_an_error_that_names_the_object(
    change: Callable[[list[KubeObject]], None], said: str
) -> None:
    objects = parsed(SMALL, INGRESS)
    change(objects)
    with pytest.raises(ConfigError) as caught:
        rendered(objects, secret=True, env={"A": "b"}, memory="1g", host="x.example")
    assert said in str(caught.value)


def test_whatever_is_in_a_manifest_is_taken_or_refused_by_name() -> None:
    """The objects are somebody's: no value in them may end in another error than ConfigError."""
    objects = parsed(SMALL, SCALER, INGRESS)
    refusals = 0
    for path in paths(objects):
        for odd in (None, 7, "text", [], ["text"], {}, {"a": 1}):
            changed = copy.deepcopy(objects)
            place: Any = changed
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = odd
            try:
                rendered(changed, secret=True, env={"A": "b"}, memory="1g", cpu="1", host="x.example")
            except ConfigError:
                refusals += 1
    assert refusals > 100


def paths(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands below `spec` in the manifests."""
    if "spec" in at:
        yield at
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, dict | list):
            yield from paths(each, (*at, key))
        elif "spec" in at:
            yield (*at, key)


# ----- order, identity, purity


def test_the_deployment_is_the_last() -> None:
    kinds = ["Deployment", "Ingress", "Widget", "Service", "ConfigMap", "ServiceAccount", "Job", "Namespace"]
    extra = [{"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}} for kind in kinds[1:]]
    redis = copy.deepcopy(parsed(SMALL)[0])
    redis["metadata"]["name"] = "zz"
    redis["spec"]["template"]["spec"] = {"containers": [{"name": "redis", "image": "redis"}]}
    objects = rendered([*parsed(SMALL), redis, *extra], host="x.example")
    assert [called(each) for each in objects] == [
        "Namespace/x",
        "ServiceAccount/x",
        "ConfigMap/x",
        "Service/x",
        "Widget/x",
        "Job/x",
        "Ingress/x",
        "Deployment/zz",
        "Deployment/web",
    ]
    assert app_deployment(objects)["metadata"]["name"] == "web"
    assert in_order(reversed(objects)) == objects


def test_an_object_is_known_by_version_kind_and_name() -> None:
    assert identity(parsed(SMALL)[0]) == ("apps/v1", "Deployment", "web")


@pytest.mark.parametrize("ours", [False, True])
def test_the_same_input_gives_the_same_and_stays_as_it_was(ours: bool) -> None:
    objects = list(default_objects()) if ours else parsed(SMALL, SCALER, INGRESS)
    before = copy.deepcopy(objects)
    fields: dict[str, Any] = {
        "env": {"A": "b"},
        "memory": "1g",
        "cpu": "1",
        "host": "x.example",
        "replicas": 5,
    }
    first = rendered(objects, ours=ours, secret=True, **fields)
    assert objects == before
    assert json.dumps(rendered(objects, ours=ours, secret=True, **fields)) == json.dumps(first)
    # Nor does what is done with the result reach the app's objects.
    the("Deployment", first)["spec"]["template"]["spec"].clear()
    assert objects == before

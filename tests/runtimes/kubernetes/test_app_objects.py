"""An app's own Kubernetes objects: what is read from a folder k8s/, and what is refused by file and line."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from linkspan.errors import ConfigError
from linkspan.ledger.labels import objects_json
from linkspan.runtimes.kubernetes.app_objects import MAX_BYTES, default_objects, load, load_folder
from linkspan.runtimes.kubernetes.objects import called

APP = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
spec:
  template:
    spec:
      containers:
        - name: app
          image: linkspan.dev/app
"""
KUBECTL = pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine")


def an_object(kind: str, name: str, more: str = "") -> str:
    return f"apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n{more}"


def written(app: Path, /, **files: str) -> Path:
    """An app's folder with these files below k8s/; `__` is a slash, and what has no dot ends with .yaml."""
    for name, text in files.items():
        path = app / "k8s" / (name.replace("__", "/") + ("" if "." in name else ".yaml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return app


def names(app: Path) -> list[str]:
    return [called(each) for each in load(app)]


def refused(app: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(app)
    return str(caught.value)


# ----- what is read


def test_no_folder_means_none(tmp_path: Path) -> None:
    assert load(tmp_path) == ()


def test_every_file_below_the_folder_is_read_by_path(tmp_path: Path) -> None:
    written(tmp_path, app=APP, **{"a__z": an_object("ConfigMap", "deep"), "b.yml": an_object("Service", "b")})
    written(
        tmp_path, **{"notes.txt": "not: [yaml", ".hidden": "}", ".ci__x": "}", "empty": "# nothing\n---\n"}
    )
    assert names(tmp_path) == ["ConfigMap/deep", "Deployment/app", "Service/b"]


def test_a_file_may_hold_many_documents_and_lists(tmp_path: Path) -> None:
    listed = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in "ab"],
    }
    typed = {"apiVersion": "v1", "kind": "ServiceList", "items": [{"metadata": {"name": "s"}}]}
    text = "---\n".join([APP, json.dumps(listed) + "\n", "---\n# nothing\n", json.dumps(typed)])
    written(tmp_path, all=text)
    assert names(tmp_path) == ["Deployment/app", "ConfigMap/a", "ConfigMap/b", "Service/s"]
    assert load(tmp_path)[3]["apiVersion"] == "v1"


def test_what_only_a_server_writes_is_dropped(tmp_path: Path) -> None:
    written(
        tmp_path,
        app=APP,
        dumped=an_object(
            "ConfigMap",
            "dumped",
            """\
  uid: 123
  resourceVersion: "7"
  creationTimestamp: null
  managedFields: [{manager: kubectl}]
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: "{}"
    mine: "yes"
data: {a: b}
status: {phase: x}
""",
        ),
    )
    assert load(tmp_path)[1] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "dumped", "annotations": {"mine": "yes"}},
        "data": {"a": "b"},
    }


def test_kinds_of_other_groups_may_have_the_same_name(tmp_path: Path) -> None:
    other = an_object("Service", "x").replace("v1", "serving.knative.dev/v1", 1)
    written(tmp_path, a=APP, b=an_object("Service", "x"), c=other)
    assert len(names(tmp_path)) == 3


def test_secrets_of_others_are_no_secrets(tmp_path: Path) -> None:
    sealed = an_object("Secret", "x").replace("v1", "sealed.example/v1", 1)
    written(tmp_path, a=APP, b=sealed, c=an_object("SealedSecret", "x"))
    assert names(tmp_path)[1:] == ["Secret/x", "SealedSecret/x"]


def test_linkspans_own_come_along() -> None:
    assert sorted(called(each) for each in default_objects()) == [
        "Deployment/app",
        "HorizontalPodAutoscaler/app",
        "Ingress/app",
        "NetworkPolicy/app",
        "PodDisruptionBudget/app",
        "Service/app",
        "ServiceAccount/app",
    ]


def test_the_label_is_the_same_for_the_same_objects(tmp_path: Path) -> None:
    written(tmp_path, app=APP, more=an_object("ConfigMap", "é", "data: {b: '1', a: '2'}"))
    text = objects_json(load(tmp_path))
    written(tmp_path, more=an_object("ConfigMap", "é", "data:\n  a: '2' # said otherwise\n  b: '1'\n"))
    assert objects_json(load(tmp_path)) == text
    assert json.loads(text) == list(load(tmp_path))
    assert "é" in text


# ----- what is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2\n", "line 2: not YAML"),
        ("x: {{ .Values.a }}\n", "line 1: "),
        (APP + "---\n- b\n", "line 12: is no object"),
        ("kind: X\nmetadata: {name: a}\n", "line 1: no Kubernetes object: `apiVersion` is missing"),
        ("name: chart\napiVersion: v2\n", "`kind` is missing. If other files lie there too"),
        ("apiVersion: v1\nkind: Job\nmetadata: {generateName: a}\n", "Job has no metadata.name"),
        (an_object("Job", "7"), "Job has no metadata.name"),
        (an_object("Job", "a", "  annotations: {x: true}\n"), "annotations of Job/a must be text in quotes"),
        ("apiVersion: v1\nkind: List\nitems: [a]\n", "`items` of List must be objects"),
        (
            an_object("Secret", "key"),
            "line 1: Secret/key would be readable in the image's label. Create it in",
        ),
        (APP + "---\n" + APP, "line 12: Deployment/app stands twice (found also in k8s/x.yaml, line 1)"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    error = refused(written(tmp_path, x=text))
    assert error.startswith("k8s/x.yaml, line ")
    assert said in error


def test_a_secret_in_a_list_is_found_too(tmp_path: Path) -> None:
    one = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}}
    for listed in (
        {"kind": "List", "items": [one]},
        {"kind": "SecretList", "items": [{"metadata": {"name": "key"}}]},
    ):
        assert "Secret/key" in refused(written(tmp_path, x=json.dumps({"apiVersion": "v1", **listed})))


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "k8s").mkdir()
    assert "k8s/ holds no manifests" in refused(tmp_path)


def test_twice_the_same_in_two_files(tmp_path: Path) -> None:
    written(tmp_path, base__app=APP, prod__app=APP.replace("apps/v1", "apps/v2"))
    assert (
        "k8s/prod/app.yaml, line 1: Deployment/app stands twice (found also in k8s/base/app.yaml"
        in refused(tmp_path)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (an_object("Service", "x"), "found no Deployment"),
        (APP.replace("linkspan.dev/app", "nginx"), "found Deployment/app"),
        (APP.replace("linkspan.dev/app", "linkspan.dev/apple:1"), "found Deployment/app"),
        (  # a copy of what runs
            APP.replace("linkspan.dev/app", "nginx").replace(
                "  name: app\nspec", "  name: app\n  annotations: {linkspan.dev/image: x}\nspec", 1
            ),
            "found Deployment/app",
        ),
        (APP + "---\n" + APP.replace("name: app\nspec", "name: b\nspec"), "Deployment/app, Deployment/b"),
        (
            APP + "        - {name: two, image: 'linkspan.dev/app:x'}\n",
            "several containers (expected one, found app, two)",
        ),
        (APP.replace("containers", "initContainers"), "exactly one Deployment"),
        (APP.replace("    spec:\n", "    spec: 7\n    x:\n"), "Deployment/app: spec.template.spec is wrong"),
        (APP.replace("- name: app\n          image", "- image"), "Deployment/app: every one of its"),
        (
            APP + "---\n" + an_object("CronJob", "c", "spec: {x: [{image: linkspan.dev/app}]}"),
            "only replaced in Deployment/app (found also in CronJob/c)",
        ),
    ],
)  # fmt: skip
def test_one_container_of_one_deployment_is_the_app(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(written(tmp_path, x=text))


def test_too_large_for_a_label(tmp_path: Path) -> None:
    room = MAX_BYTES - len(
        objects_json(load(written(tmp_path, a=APP, b=an_object("ConfigMap", "b", "x: ''"))))
    )
    written(tmp_path, b=an_object("ConfigMap", "b", f"x: '{'y' * room}'"))
    assert len(objects_json(load(tmp_path))) == MAX_BYTES
    written(tmp_path, b=an_object("ConfigMap", "b", f"x: '{'y' * (room + 1)}'"))
    assert f"expected at most {MAX_BYTES} bytes of JSON, found {MAX_BYTES + 1}" in refused(tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    written(tmp_path, a=APP)
    bad = tmp_path / "k8s" / "b.yaml"
    bad.write_bytes(b"a: 1\nb: \xff\n")
    assert "k8s/b.yaml, line 2: not UTF-8 text" in refused(tmp_path)
    bad.write_bytes(b"# " + b"x" * (1 << 20))
    assert "k8s/b.yaml is too large" in refused(tmp_path)


@pytest.mark.parametrize("linked", ["file", "folder", "k8s"])
def test_a_link_does_not_bring_a_file_of_the_worker(tmp_path: Path, linked: str) -> None:
    elsewhere, app = tmp_path / "elsewhere", tmp_path / "app"
    written(elsewhere, x=an_object("ConfigMap", "x"), kustomization="resources: [x.yaml]")
    if linked == "k8s":
        app.mkdir()
        (app / "k8s").symlink_to(elsewhere / "k8s")
    elif linked == "file":
        written(app, a=APP)
        (app / "k8s" / "x.yaml").symlink_to(elsewhere / "k8s" / "x.yaml")
    else:
        written(app, a=APP, kustomization="resources: [a.yaml, x]")
        (app / "k8s" / "x").symlink_to(elsewhere / "k8s")
    assert "leads out of the app's folder k8s/" in refused(app)


# ----- kustomize


def test_a_kustomization_that_lists_files_needs_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    written(
        tmp_path,
        kustomization="kind: Kustomization\nresources: [z.yaml, base/x]\n",
        z=APP,
        a="left: out",
        base__x__kustomization="resources: [../y.yaml]",
        base__y=an_object("ConfigMap", "y"),
    )
    assert names(tmp_path) == ["Deployment/app", "ConfigMap/y"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"base__kustomization": "{}", "prod__kustomization": "{}"}, "k8s/base/kustomization.yaml is one"),
        ({"kustomization": "{a: 1}", "kustomization.yml": "{a: 1}"}, "both kustomization.yaml and kust"),
        ({"kustomization": "resources: [b.yaml]"}, "lists b.yaml, which is not there"),
        ({"kustomization": "resources: ['https://x.example/y?ref=v1']"}, "which is not there (expected a"),
        ({"kustomization": "resources: b"}, "`resources` must be a list of files and folders"),
        ({"kustomization": "resources: [1]"}, "`resources` must be a list of files and folders"),
        ({"kustomization": "resources: [x]", "x__y": APP}, "lists k8s/x/, which has no kustomization.yaml"),
        ({"kustomization": "resources: [../..]"}, "../.. leads out of"),
        (
            {"kustomization": "resources: [x]", "x__kustomization": "resources: [..]"},
            "k8s/kustomization.yaml lists itself",
        ),
        ({"kustomization": "a: 1\n---\nb: 1\n"}, "must be one document (found 2)"),
        (
            {"kustomization": "resources: [x]", "x__kustomization": "components: [git@x.example:y]"},
            "k8s/x/kustomization.yaml: `components` lists git@x.example:y, which is not there",
        ),
    ],
)  # fmt: skip
def test_a_kustomization_that_is_wrong(tmp_path: Path, files: dict[str, str], said: str) -> None:
    assert said in refused(written(tmp_path, **files))


def test_what_else_kustomize_can_do_needs_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, kustomization="resources: [app.yaml]\nnamePrefix: x-\n", app=APP)
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(tmp_path)
    assert "k8s/kustomization.yaml does more than list `resources`" in error
    assert "Install kubectl" in error


@pytest.mark.parametrize("program", ["kubectl", "kustomize"])
def test_kubectl_or_kustomize_does_it_without_the_users_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    written(tmp_path / "app", kustomization="resources: [app.yaml]\nnamePrefix: x-\n", app=APP)
    stub = tmp_path / program
    stub.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\nenv >{tmp_path}/env\ncat "$2/app.yaml"\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if program == "kubectl" else str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "/somebody's")
    if program == "kustomize":
        stub.write_text(stub.read_text().replace("cat ", "/bin/cat ").replace("env >", "/usr/bin/env >"))
    assert names(tmp_path / "app") == ["Deployment/app"]
    word = {"kubectl": "kustomize", "kustomize": "build"}[program]
    assert (tmp_path / "asked").read_text().strip() == f"{word} {tmp_path}/app/k8s"
    environment = (tmp_path / "env").read_text()
    assert "KUBECONFIG" not in environment
    assert f"HOME={os.environ.get('HOME')}\n" not in environment

    stub.write_text(f"#!/bin/sh\necho 'error: no {tmp_path}/app/k8s/x' >&2\nexit 1\n")
    error = refused(tmp_path / "app")
    assert f"`{program} {word}` refuses k8s/kustomization.yaml (found error: no k8s/x)" in error


@KUBECTL
def test_a_real_kustomization(tmp_path: Path) -> None:
    written(
        tmp_path,
        kustomization="resources: [base]\nnamePrefix: x-\nconfigMapGenerator: [{name: c, literals: [a=b]}]\n",
        base__kustomization="resources: [app.yaml]\n",
        base__app=APP,
    )
    first, second = sorted(names(tmp_path))
    assert first.startswith("ConfigMap/x-c-")
    assert second == "Deployment/x-app"
    written(tmp_path, kustomization="resources: [base]\nsecretGenerator: [{name: c, literals: [a=b]}]\n")
    assert "what kustomize makes of k8s/kustomization.yaml, line " in refused(tmp_path)
    written(tmp_path, kustomization="resources: [base]\nhelmCharts: [{name: c, repo: 'https://x.example'}]\n")
    error = refused(tmp_path)
    assert "`kubectl kustomize` refuses k8s/kustomization.yaml (found " in error
    assert "must specify --enable-helm" in error
    written(tmp_path, kustomization="resources: [base]\npatches: [{path: 'https://x.example/y'}]\n")
    assert "refuses k8s/kustomization.yaml" in refused(tmp_path)


@KUBECTL
def test_our_own_are_what_kubectl_makes_of_them(tmp_path: Path) -> None:
    own = Path(__file__).parents[3] / "k8s" / "app"
    shutil.copytree(own, tmp_path / "k8s")
    listing = tmp_path / "k8s" / "kustomization.yaml"
    listing.write_text(listing.read_text() + "commonAnnotations: {}\n")  # a key that is not plain
    by_kubectl = {called(each): each for each in load(tmp_path)}
    assert by_kubectl == {called(each): each for each in load_folder(own)}

"""What a node fetches of a release, counted at the registry, and what its container then sees."""

import base64
import io
import json
import random
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import docker
import pytest

from linkspan.config import AppConfig
from linkspan.errors import ReleaseError
from linkspan.ledger.labels import code_labels, read_code_image
from linkspan.ledger.modelpack import files_of, read_modelpack
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.models import open_models, publish
from linkspan.models.package import package
from linkspan.registry.client import Registry
from linkspan.release.pair import linked
from linkspan.release.plan import Candidate
from linkspan.release.steps import push_candidate
from linkspan.runtimes.docker.models import mounted, remove_models
from linkspan.runtimes.kubernetes.marks import PLACEHOLDER
from linkspan.runtimes.kubernetes.render import mount
from linkspan.stores.file import FileStoreSettings
from tests.registry.images import COMMIT
from tests.services.cluster import RunningCluster
from tests.services.registry import CountingProxy, RunningRegistry
from tests.waiting import until

FOLDER = "/home/app/model"
SMALL = 64 << 10
MODEL = {"weights.bin": 20 << 20, "tokenizer.json": 200_000, "config.json": 50}
LOOK = f"""
cd {FOLDER}
stat -c '%n %F %a %u %g' /home /home/app {FOLDER}
sha256sum $(find . -type f | sort)
cat /srv/source
"""


class Node(Protocol):
    """Something that fetches an image and runs it."""

    def see(self, candidate: Candidate) -> str:
        """What `LOOK` prints in a container of the candidate."""
        ...


@dataclass
class Engine:
    """The Docker Engine."""

    client: docker.DockerClient
    login: dict[str, str]

    def see(self, candidate: Candidate) -> str:
        image, app = candidate.reference, candidate.release.app
        self.client.images.pull(image, auth_config=self.login)
        with mounted(self.client, app, candidate.mount, self.login, say=lambda _: None) as mounts:
            container = self.client.containers.run(
                image, ["sh", "-ec", LOOK], detach=True, mounts=mounts, network_mode="none"
            )
        try:
            assert container.wait(timeout=600)["StatusCode"] == 0, container.logs()
            return str(container.logs().decode())
        finally:
            container.remove(force=True)


@dataclass
class Kubelet:
    """The node of the cluster: containerd with discard_unpacked_layers, as on EKS and GKE."""

    cluster: RunningCluster
    namespace: str
    proxy: CountingProxy
    login: dict[str, str]

    def see(self, candidate: Candidate) -> str:
        token = base64.b64encode(f"{self.login['username']}:{self.login['password']}".encode()).decode()
        auths = json.dumps({"auths": {self.proxy.host: {"auth": token}}})
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "registry"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(auths.encode()).decode()},
        }
        name = f"look-{uuid.uuid4().hex[:8]}"
        container = {"name": "look", "image": PLACEHOLDER, "command": ["sh", "-ec", LOOK]}
        spec = {
            "restartPolicy": "Never",
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [container],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        if candidate.mount:  # as in the Deployment of a release
            mount({"kind": "Deployment", "spec": {"template": {"spec": spec}}}, candidate.mount)
        container["image"] = candidate.reference
        self.cluster.apply(self.namespace, secret, pod)
        until(lambda: self._phase(name) in {"Succeeded", "Failed"}, what=f"the end of pod {name}")
        assert self._phase(name) == "Succeeded", self.cluster.run("logs", "-n", self.namespace, name)
        return self.cluster.run("logs", "-n", self.namespace, name)

    def _phase(self, name: str) -> str:
        return str(self.cluster.get(self.namespace, "pod", name)["status"].get("phase"))


@dataclass
class Bench:
    """Makes code images and models of one app, links them and counts."""

    app: str
    folder: Path
    client: docker.DockerClient
    registry: Registry
    proxy: CountingProxy
    login: dict[str, str]
    made: int = 0

    @property
    def store(self) -> FileStoreSettings:
        return FileStoreSettings(path=str(self.folder))

    def build(self, dockerfile: str, files: dict[str, bytes], *, path: str = FOLDER) -> CodeImage:
        """Build, push and read a code image."""
        config = AppConfig.model_validate({"name": self.app, "model": {"name": "digits", "path": path}})
        self.made += 1
        name, tag = f"{self.proxy.host}/{self.app}", f"code-{self.made}"
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            for file, data in {"Dockerfile": dockerfile.encode(), **files}.items():
                info = tarfile.TarInfo(file)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        context.seek(0)
        labels = code_labels(self.app, COMMIT, config)
        self.client.images.build(
            fileobj=context, custom_context=True, tag=f"{name}:{tag}", labels=labels, rm=True
        )
        for line in self.client.images.push(name, tag, auth_config=self.login, stream=True, decode=True):
            assert "error" not in line, line
        return read_code_image(self.registry.image(tag))

    def package(self, sizes: dict[str, int], *, path: str = FOLDER) -> PackagedModel:
        """Publish and package a model whose files have these sizes; the same for the same name and size.

        No other test has the same bytes: a node of today keeps what it was given yesterday.
        """
        folder = self.folder / f"trained-{uuid.uuid4().hex}"
        folder.mkdir()
        for name, size in sizes.items():
            (folder / name).write_bytes(random.Random(f"{self.app} {name} {size}").randbytes(size))
        model = publish(self.store.objects(), "digits", folder)
        pinned = open_models(self.store, "digits").get(model.version)
        return package(
            open_models(self.store, "digits"),
            self.registry,
            pinned,
            path,
            say=lambda _: None,
            progress=lambda _: None,
        )

    def release(self, code: CodeImage, model: PackagedModel, *, mounted: bool = False) -> Candidate:
        """Link, or mount, and push."""
        push_candidate(self.registry, code, model, mounted=mounted)
        return linked(self.registry, code, model, mounted=mounted).candidate


@pytest.fixture
def bench(
    tmp_path: Path,
    unique_app: str,
    docker_client: docker.DockerClient,
    registry: RunningRegistry,
    counting_proxy: CountingProxy,
) -> Iterator[Bench]:
    login = {"username": registry.username, "password": registry.password}
    with registry.settings(host=counting_proxy.host).open(unique_app) as client:
        yield Bench(unique_app, tmp_path, docker_client, client, counting_proxy, login)
    remove_models(docker_client, unique_app, keep=(), say=lambda _: None)
    for image in docker_client.images.list(filters={"label": f"dev.linkspan.app={unique_app}"}):
        docker_client.images.remove(str(image.id), force=True)


@pytest.fixture(params=["engine", "kubelet"])
def node(request: pytest.FixtureRequest, bench: Bench) -> Node:
    if request.param == "engine":
        return Engine(bench.client, bench.login)
    cluster: RunningCluster = request.getfixturevalue("cluster")
    return Kubelet(cluster, request.getfixturevalue("namespace"), bench.proxy, bench.login)


def own_layers(registry: Registry, code: CodeImage, before: CodeImage) -> int:
    """Bytes of the layers that an image has and the one before it has not."""
    layers, known = (
        {each["digest"]: each["size"] for each in registry.manifest(image.digest).document["layers"]}
        for image in (code, before)
    )
    return sum(size for digest, size in layers.items() if digest not in known)


def heaviest(registry: Registry, model: PackagedModel) -> str:
    """Digest of the model's biggest layer."""
    _, layers = read_modelpack(registry.image(model.manifest))
    return max(layers, key=lambda layer: layer.size).digest


def sums(registry: Registry, of: PackagedModel) -> list[str]:
    """What sha256sum says of a model's files."""
    files = sorted(files_of(registry, of.model), key=lambda file: file.path)
    return [f"{file.sha256}  ./{file.path}" for file in files]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.needs("docker", "registry", "cluster")
def test_not_a_byte_twice(bench: Bench, node: Node, base_image: str) -> None:
    """A private home directory on the way to the model, one that is everybody's at its end."""
    dockerfile = (
        f"FROM {base_image}\nCOPY libraries /opt/\n"
        "RUN mkdir -p -m 0711 /home/app && mkdir -m 1777 /home/app/model && chown -R 4242:43 /home/app\n"
        "COPY source /srv/\nUSER 4242\n"
    )
    files = {"libraries": random.Random(bench.app).randbytes(3 << 20), "source": b"one"}
    one, model = bench.build(dockerfile, files), bench.package(MODEL)
    directories = [
        "/home directory 755 0 0",
        "/home/app directory 711 4242 43",
        f"{FOLDER} directory 1777 4242 43",
    ]
    proxy = bench.proxy

    first = bench.release(one, model)
    assert node.see(first).splitlines() == [*directories, *sums(bench.registry, model), "one"]

    # Code: its own new layers, and not a byte of the model.
    proxy.reset()
    two = bench.build(dockerfile, {**files, "source": b"two"})
    own = own_layers(bench.registry, two, one)
    second = bench.release(two, model)
    assert proxy.sent <= own + SMALL
    proxy.reset()
    assert node.see(second).splitlines() == [*directories, *sums(bench.registry, model), "two"]
    assert own <= proxy.received <= own + SMALL
    blobs = {each.path.rpartition("/")[2] for each in proxy.exchanges if each.received}
    assert heaviest(bench.registry, model) not in blobs

    # One small file of the model.
    proxy.reset()
    newer = bench.package({**MODEL, "tokenizer.json": 210_000})
    third = bench.release(two, newer)
    assert 210_000 < proxy.sent <= 210_000 + SMALL
    proxy.reset()
    assert node.see(third).splitlines() == [*directories, *sums(bench.registry, newer), "two"]
    assert 210_000 < proxy.received <= 210_000 + SMALL

    # Other weights: what lies above them too, as the rule says.
    proxy.reset()
    other = bench.package({**MODEL, "tokenizer.json": 210_000, "weights.bin": MODEL["weights.bin"] + 1})
    fourth = bench.release(two, other)
    weights = MODEL["weights.bin"] + 1
    assert weights < proxy.sent <= weights + SMALL
    proxy.reset()
    assert node.see(fourth).splitlines() == [*directories, *sums(bench.registry, other), "two"]
    listed = bench.registry.manifest(fourth.release.image).document["layers"]
    [place] = [at for at, each in enumerate(listed) if each["digest"] == heaviest(bench.registry, other)]
    assert weights < proxy.received <= sum(each["size"] for each in listed[place:]) + SMALL

    # Nothing.
    proxy.reset()
    assert bench.release(two, other) == fourth
    assert proxy.sent == 0
    proxy.reset()
    node.see(fourth)
    assert proxy.received < SMALL


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.needs("docker", "registry", "cluster")
def test_a_mounted_model_and_its_code_never_move_each_other(
    bench: Bench, node: Node, base_image: str
) -> None:
    dockerfile = (
        f"FROM {base_image}\nCOPY libraries /opt/\n"
        "RUN mkdir -p -m 0711 /home/app && chown 4242:43 /home/app\nCOPY source /srv/\nUSER 4242\n"
    )
    files = {"libraries": random.Random(bench.app).randbytes(3 << 20), "source": b"one"}
    one, model = bench.build(dockerfile, files), bench.package(MODEL)
    proxy = bench.proxy

    def sees(candidate: Candidate, of: PackagedModel, source: str) -> None:
        """The model's folder is the model's own, all above it the code's."""
        assert node.see(candidate).splitlines() == [
            "/home directory 755 0 0",
            "/home/app directory 711 4242 43",
            f"{FOLDER} directory 755 0 0",
            *sums(bench.registry, of),
            source,
        ]

    sees(bench.release(one, model, mounted=True), model, "one")

    # Code: its own new layers.
    two = bench.build(dockerfile, {**files, "source": b"two"})
    own = own_layers(bench.registry, two, one)
    proxy.reset()
    second = bench.release(two, model, mounted=True)
    assert proxy.sent <= SMALL
    proxy.reset()
    sees(second, model, "two")
    assert own <= proxy.received <= own + SMALL

    # One small file of the model.
    newer = bench.package({**MODEL, "tokenizer.json": 210_000})
    proxy.reset()
    third = bench.release(two, newer, mounted=True)
    assert proxy.sent <= SMALL
    proxy.reset()
    sees(third, newer, "two")
    assert 210_000 < proxy.received <= 210_000 + SMALL

    # Other weights: they and the smaller files, and not a byte of the code.
    other = bench.package({**MODEL, "tokenizer.json": 210_000, "weights.bin": MODEL["weights.bin"] + 1})
    fourth = bench.release(two, other, mounted=True)
    proxy.reset()
    sees(fourth, other, "two")
    assert MODEL["weights.bin"] < proxy.received <= MODEL["weights.bin"] + 210_000 + SMALL
    code = {each["digest"] for each in bench.registry.manifest(two.digest).document["layers"]}
    assert not code & {each.path.rpartition("/")[2] for each in proxy.exchanges if each.received}

    # Nothing.
    proxy.reset()
    assert bench.release(two, other, mounted=True) == fourth
    assert proxy.sent == 0
    proxy.reset()
    node.see(fourth)
    assert proxy.received < SMALL


@pytest.mark.slow
def test_a_model_heavier_than_the_code_lies_below_all_of_it(bench: Bench) -> None:
    """Not even a change of the lowest layer fetches it again."""
    node = bench.client.images

    def code(base: bytes) -> CodeImage:
        dockerfile = 'FROM scratch\nCOPY base /\nCOPY source /\nCMD ["/source"]\n'
        return bench.build(dockerfile, {"base": base, "source": b"s"})

    model = bench.package({"weights.bin": 30 << 20}, path=FOLDER)
    one = code(b"first")
    first = linked(bench.registry, one, model).candidate
    assert [each.half for each in first.strata] == ["model", "code"]
    node.pull(bench.release(one, model).reference, auth_config=bench.login)
    two = code(b"second")
    reference = bench.release(two, model).reference
    bench.proxy.reset()
    node.pull(reference, auth_config=bench.login)
    assert bench.proxy.received < SMALL


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("RUN ln -s /srv/app /app", "/app is a link to /srv/app"),
        ("COPY source /app/model/source", "/app/model/source is there already"),
        ("RUN mkdir -p /app/model && touch /app/model/x\nRUN rm -r /app/model", "a layer deletes /app/model"),
    ],
)
def test_what_the_order_of_layers_would_decide_is_refused_by_name(
    bench: Bench, base_image: str, lines: str, found: str
) -> None:
    code = bench.build(f"FROM {base_image}\n{lines}\n", {"source": b"s"}, path="/app/model")
    model = bench.package({"weights.bin": 100_000}, path="/app/model")
    with pytest.raises(ReleaseError, match="has no room for the model at /app/model") as caught:
        linked(bench.registry, code, model)
    assert found in caught.value.found
    assert "model.path" in caught.value.fix


def test_a_file_where_the_code_has_a_directory_is_refused(bench: Bench, base_image: str) -> None:
    code = bench.build(f"FROM {base_image}\nRUN mkdir -p {FOLDER}/weights.bin\n", {})
    model = bench.package({"weights.bin": 100_000})
    with pytest.raises(ReleaseError, match=r"weights\.bin is a directory, and a file of model digits v1"):
        linked(bench.registry, code, model)

"""With real parts: Docker Engine pulls what was linked, bytes are counted, memory measured, a disk filled."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from linkspan.errors import ModelCorrupt, RegistryFull
from linkspan.ledger.labels import code_labels
from linkspan.ledger.modelpack import modelpack
from linkspan.models import publish
from linkspan.models.layer import layer_chunks, layer_size
from linkspan.nouns import Layer, Model, ModelFile, listing, sha256
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import Image
from linkspan.stores.file import FileStoreSettings
from tests.effort import effort
from tests.registry.images import (
    CODE_LAYER,
    COMMIT,
    CONFIG,
    a_code_image,
    a_model,
    files_with,
    linked,
    read_release,
)
from tests.services.registry import CountingProxy, RunningRegistry, start_registry

CONTENTS = {"model.onnx": b"w" * 300_000, "labels/ünï.txt": b"zero"}


def push_model(registry: Registry, contents: dict[str, bytes], version: str) -> tuple[Model, Layer]:
    files = files_with(contents)
    model = a_model(files, version)

    def open_file(file: ModelFile) -> Iterator[bytes]:
        return iter([contents[file.path]])

    digest, size = registry.push_stream(layer_chunks(files, "/model", open_file), layer_size(files, "/model"))
    layer = Layer(digest=digest, diff_id=digest, size=size, media_type=media.MODEL_LAYER)
    registry.push_blob(listing(files))
    registry.push_image(modelpack(model, files, [layer], "f"), f"model-digits-{version}")
    return model, layer


def build_code_image(docker_client: docker.DockerClient, name: str, text: bytes) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path, data in {"Dockerfile": b'FROM scratch\nCOPY app /app\nCMD ["/app"]\n', "app": text}.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    context.seek(0)
    docker_client.images.build(
        fileobj=context, custom_context=True, tag=name, labels=code_labels("digits", COMMIT, CONFIG), rm=True
    )


@pytest.mark.slow
def test_the_engine_pulls_what_was_linked_and_bytes_are_counted(
    docker_client: docker.DockerClient,
    registry: RunningRegistry,
    counting_proxy: CountingProxy,
    unique_app: str,
) -> None:
    proxy = counting_proxy
    settings = registry.settings("team", proxy.host)
    name, auth = settings.repository(unique_app), settings.docker_auth()
    release = ""
    try:
        build_code_image(docker_client, f"{name}:code-1", b"first")
        for line in docker_client.images.push(name, tag="code-1", auth_config=auth, stream=True, decode=True):
            assert "error" not in line, line
        with settings.open(unique_app) as client:
            model, layer = push_model(client, CONTENTS, "v1")
            code = client.image("code-1")
            candidate = linked(code, model, layer, "/model")
            assert client.push_image(candidate) == candidate.digest

            release = f"{name}@{candidate.digest}"
            pulled = docker_client.images.pull(release, auth_config=auth)
            assert release in pulled.attrs["RepoDigests"]
            assert f"LINKSPAN_COMMIT={COMMIT.sha}" in pulled.attrs["Config"]["Env"]
            assert files_of(docker_client, release, "/model") == CONTENTS
            assert files_of(docker_client, release, "/app") == {"": b"first"}

            client.tag(candidate.digest, "release-1")
            assert read_release(client.image("release-1")).model == model

            # A model-only release: the layer and at most 64 KB.
            proxy.reset()
            newer, newer_layer = push_model(client, {"model.onnx": b"n" * 400_000}, "v2")
            client.push_image(linked(code, newer, newer_layer, "/model"), "release-2")
            assert newer_layer.size < proxy.sent <= newer_layer.size + (64 << 10)

            # A code-only release: not a byte of the model goes either way.
            build_code_image(docker_client, f"{name}:code-2", b"second")
            list(docker_client.images.push(name, tag="code-2", auth_config=auth, stream=True))
            proxy.reset()
            client.push_image(linked(client.image("code-2"), newer, newer_layer, "/model"), "release-3")
            assert not [e for e in proxy.exchanges if newer_layer.digest in e.path and e.method != "HEAD"]
            assert proxy.sent + proxy.received < 64 << 10

            # The same pair again: nothing is sent but the manifest, and not even that if one looks first.
            proxy.reset()
            again = linked(client.image("code-2"), newer, newer_layer, "/model")
            assert client.exists("release-3") == again.digest
            assert proxy.sent == 0
    finally:
        for image in (f"{name}:code-1", f"{name}:code-2", release):
            if image:
                remove(docker_client, image)


def files_of(docker_client: docker.DockerClient, image: str, path: str) -> dict[str, bytes]:
    container = docker_client.containers.create(image)
    try:
        stream, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            top = path.rpartition("/")[2]
            return {
                member.name.removeprefix(top).lstrip("/"): file.read()
                for member in tar
                if member.isfile() and (file := tar.extractfile(member))
            }
    finally:
        container.remove(force=True)


def remove(docker_client: docker.DockerClient, image: str) -> None:
    try:
        docker_client.images.remove(image, force=True)
    except docker.errors.ImageNotFound:
        return  # the test failed before it was made


@pytest.mark.parametrize("kind", [media.OCI_MANIFEST, media.DOCKER_MANIFEST])
def test_the_engine_pulls_both_kinds_of_manifest(
    docker_client: docker.DockerClient, registry: RunningRegistry, unique_app: str, kind: str
) -> None:
    settings = registry.settings()
    name = settings.repository(unique_app)
    with settings.open(unique_app) as client:
        code = code_image_of_one_file(client, kind)
        model, layer = push_model(client, CONTENTS, "v1")
        image = linked(code, model, layer, "/model")
        client.push_image(image)
    release = f"{name}@{image.digest}"
    try:
        pulled = docker_client.images.pull(release, auth_config=settings.docker_auth())
        assert release in pulled.attrs["RepoDigests"]
        assert files_of(docker_client, release, "/model") == CONTENTS
    finally:
        remove(docker_client, release)


def code_image_of_one_file(client: Registry, kind: str) -> Image:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("app"))
    data = tar.getvalue()
    client.push_blob(data)
    return a_code_image(kind, layer=data)


BIG = effort(2, 10)
"""GiB of zeros: a file with holes, which takes no room in the store, and all of it on the wire."""


@pytest.mark.slow
@pytest.mark.needs("registry")
def test_gigabytes_are_packaged_and_linked_in_less_than_150_mb(
    tmp_path: Path, unique_app: str, capsys: pytest.CaptureFixture[str]
) -> None:
    size = BIG << 30
    folder = tmp_path / "trained"
    folder.mkdir()
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(size)
    store = tmp_path / "store"
    store.mkdir()
    publish(FileStoreSettings(path=str(store)).objects(), "digits", folder)
    child, running = start_registry(tmp_path, tmp_path / "storage")
    try:
        with running.settings().open(unique_app) as client:
            client.push_blob(CODE_LAYER)
            client.push_image(a_code_image(), "code-1")
        settings = running.settings().model_dump() | {"password": running.password}
        job = {
            "settings": settings,
            "app": unique_app,
            "code": "code-1",
            "store": str(store),
        }
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tests.registry.big_model"],
            input=json.dumps(job) + "\n",
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        seconds = time.monotonic() - start
        assert done.returncode == 0, done.stderr[-2000:]
        result = json.loads(done.stdout)
        with running.settings().open(unique_app) as client:
            image = client.image(result["digest"])
            heaviest = max(image.manifest.document["layers"], key=lambda layer: layer["size"])
            layer = client.blob_size(heaviest["digest"])
            assert layer is not None
            assert layer > size
    finally:
        child.stop()
        shutil.rmtree(tmp_path / "storage", ignore_errors=True)
        shutil.rmtree(store, ignore_errors=True)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{BIG} GiB packaged and linked in {seconds:.1f} s, {result['peak'] / 1e6:.0f} MB resident\n"
        )
    assert layer <= result["sent"] <= layer + (64 << 10)
    assert result["peak"] < 150e6


@pytest.fixture
def tiny_registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    """A registry on a disk of 6 MB."""
    storage = tmp_path / "storage"
    storage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(storage)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small disk: this needs root")
    try:
        child, running = start_registry(tmp_path, storage)
        try:
            yield running
        finally:
            child.stop()
    finally:
        subprocess.run(["umount", "-l", str(storage)], check=True)


@pytest.mark.needs("registry")
@pytest.mark.parametrize("size", [7_000_000, 100_000_000])
def test_a_full_disk_is_said(tiny_registry: RunningRegistry, tmp_path: Path, size: int) -> None:
    with tiny_registry.settings().open("app") as client:
        small = b"y" * 1_000_000
        kept = client.push_blob(small)
        with pytest.raises(RegistryFull, match=r"registry 127\.0\.0\.1.*Free space"):
            client.push_stream((small for _ in range(size // len(small))), size)
        with pytest.raises(RegistryFull):
            client.push_blob(b"z" * 1_000_000)
        assert client.blob(kept) == small
        # What an administrator would do: Distribution 2.8 does not let a client give up a broken upload.
        for upload in (tmp_path / "storage").glob("**/_uploads/*"):
            shutil.rmtree(upload)
        assert client.push_blob(b"z" * 1_000_000) == sha256(b"z" * 1_000_000)


@pytest.mark.needs("registry")
def test_what_is_not_committed_leaves_none_of_its_bytes(tmp_path: Path) -> None:
    """Whether a file is too short, has another digest, or is refused after all of it has passed."""
    child, running = start_registry(tmp_path, tmp_path / "storage")
    good = b"w" * 300_000
    files = files_with({"model.onnx": good})
    size = layer_size(files, "/model")

    def chunks(data: bytes) -> Iterator[bytes]:
        return layer_chunks(files, "/model", lambda _: iter([data]))

    try:
        with running.settings().open("app") as client:
            for bad in (good[:-1], b"x" * 300_000, good + b"more"):
                with pytest.raises(ModelCorrupt):
                    client.stage(chunks(bad), size)
            client.discard(client.stage(chunks(good), size))
        # What stays are 108 bytes of Distribution's own notes for each session.
        left = sum(path.stat().st_size for path in (tmp_path / "storage").rglob("*") if path.is_file())
        assert left < 1000
    finally:
        child.stop()

"""The builder against the real engine and a real registry, with images of a few bytes on linkspan-base."""

import hashlib
import re
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from linkspan.code import apptests
from linkspan.code import tidy as tidy_module
from linkspan.code.builder import Builder, BuilderSettings, build_key
from linkspan.code.dockerfile import base_images, takes_base
from linkspan.code.output import Lines, Transfer
from linkspan.code.push import push_error
from linkspan.config import AppConfig, read_config
from linkspan.config import TestSection as Tests
from linkspan.engine import pull
from linkspan.errors import (
    AppTestsFailed,
    BuildFailed,
    BuildUnavailable,
    ConfigError,
    RegistryDenied,
    RegistryFull,
    RegistryUnavailable,
)
from linkspan.ledger.labels import code_labels, objects_json
from linkspan.nouns import Commit
from linkspan.processes import free_port
from linkspan.runtimes.kubernetes.app_objects import MAX_BYTES
from tests.services.registry import CountingProxy, RunningRegistry

BASE = "linkspan-base:py311"
COMMIT = Commit(
    sha="a" * 40, tree="b" * 40, author="Ada", subject="First", committed_at=datetime(2026, 1, 1, tzinfo=UTC)
)


def quiet(_: str) -> None:
    """For output that a test does not look at."""


@pytest.fixture(scope="session")
def client(docker_client: docker.DockerClient, base_image: str) -> docker.DockerClient:
    assert base_image == BASE
    return docker_client


@pytest.fixture
def config(unique_app: str) -> AppConfig:
    return read_config(f'name = "{unique_app}"\n[model]\nname = "m"\n', where="linkspan.toml")


@pytest.fixture
def tag(client: docker.DockerClient, unique_app: str) -> Iterator[str]:
    """A tag of this test alone; its image, and whatever else carries the app's label, is removed."""
    yield f"{unique_app}:test"
    for image in client.images.list(filters={"label": f"dev.linkspan.app={unique_app}"}):
        client.api.remove_image(str(image.id), force=True)


@pytest.fixture
def builder(client: docker.DockerClient) -> Iterator[Builder]:
    opened = BuilderSettings(memory="512m").open()
    yield opened
    opened.close()


@pytest.fixture
def folder(client: docker.DockerClient, tmp_path: Path) -> Iterator[Path]:
    app = tmp_path / "app"
    app.mkdir()
    # Layers of its own: tests in parallel must not share, and remove, each other's.
    (app / "unique").write_text(uuid.uuid4().hex)
    write(app, f"FROM {BASE}\nCOPY . /app\nWORKDIR /app\n")
    yield app
    label = f"test={(app / 'unique').read_text()}"
    while left := client.images.list(filters={"label": label}):
        for image in left:
            client.images.remove(str(image.id), force=True)


def write(folder: Path, dockerfile: str) -> None:
    """Write a Dockerfile whose images can be found again, those of steps before a failing one too."""
    label = f"LABEL test={(folder / 'unique').read_text()}"
    text = re.sub(r"^(FROM .*)$", rf"\1\n{label}", dockerfile, count=1, flags=re.MULTILINE)
    (folder / "Dockerfile").write_text(text)


def output(client: docker.DockerClient, image: str, command: list[str]) -> str:
    # Not `run` in one call: what it follows may end before the engine has written the output down.
    container = client.containers.run(image, command, detach=True, network_mode="none")
    try:
        assert container.wait()["StatusCode"] == 0
        return str(container.logs().decode())
    finally:
        container.remove(force=True)


# --- pure: Dockerfiles, keys, lines ---


@pytest.mark.parametrize(
    ("text", "args", "images"),
    [
        ("FROM python:3.11", {}, ["python:3.11"]),
        ("# syntax=docker/dockerfile:1\nARG BASE=python:3.11-slim\nFROM ${BASE}\n", {}, ["python:3.11-slim"]),
        ("ARG BASE=python:3.11-slim\nFROM $BASE\n", {"BASE": "mine:1"}, ["mine:1"]),
        ("ARG V\nFROM python:${V:-3.11}\n", {}, ["python:3.11"]),
        ("ARG V\nFROM python${V:+:$V}\n", {}, ["python"]),
        ("ARG V=3\nARG I='python:'$V\nFROM python:$V\n", {}, ["python:3"]),
        (
            "FROM a AS x\nFROM b\nCOPY --from=x / /\nCOPY --from=0 / /\nCOPY --chown=1 --from=c:1 / /",
            {},
            ["a", "b", "c:1"],
        ),
        ("from a as Build\nfrom build\n", {}, ["a"]),
        ("FROM --platform=linux/amd64 a AS x\nFROM a\nFROM scratch\n", {}, ["a"]),
        ("FROM \\\n# a comment between\n  a \\\n  AS x\n", {}, ["a"]),
        ("# escape=`\nFROM `\n a\n", {}, ["a"]),
        ("FROM a\nARG BASE=b\nRUN FROM c\n", {}, ["a"]),
        ("FROM reg.example.com:5000/x@sha256:" + "0" * 64, {}, ["reg.example.com:5000/x@sha256:" + "0" * 64]),
    ],
)
def test_the_base_images_of_a_dockerfile(text: str, args: dict[str, str], images: list[str]) -> None:
    assert base_images(text, args) == images


def test_a_base_that_cannot_be_known() -> None:
    with pytest.raises(ConfigError, match=r"line 3: FROM \$\{BASE\} names no image"):
        base_images("ARG BASE\n\nFROM ${BASE}\n", {})
    with pytest.raises(ConfigError, match="no FROM"):
        base_images("RUN true\n", {})


def test_whether_a_dockerfile_takes_another_base() -> None:
    assert takes_base("ARG BASE=x\nFROM ${BASE}\n")
    assert not takes_base("FROM x\nARG BASE\n")
    assert not takes_base("ARG BASE=x\nFROM ${BASEMENT}\n")


def test_the_key_depends_on_everything_that_decides() -> None:
    key = build_key("t", ["a", "b"], ["x=1", "y=2"], "linux/amd64")
    assert key == build_key("t", ["a", "b"], ["y=2", "x=1"], "linux/amd64")
    others = [
        build_key("u", ["a", "b"], ["x=1", "y=2"], "linux/amd64"),
        build_key("t", ["b", "a"], ["x=1", "y=2"], "linux/amd64"),
        build_key("t", ["ab"], ["x=1", "y=2"], "linux/amd64"),
        build_key("t", ["a", "b"], ["x=1"], "linux/amd64"),
        build_key("t", ["a", "b"], ["x=1", "y=2"], "linux/arm64"),
    ]
    assert len({key, *others}) == 6


def test_lines_are_whole_and_plain() -> None:
    said: list[str] = []
    lines = Lines(said.append, remember=3)
    text = "one\ntw\x1b[91mo\x1b[0m\r\n 10%\r100%\n\nÄther\x07\nlast".encode()
    for index in range(len(text)):
        lines.feed(text[index : index + 1])
    assert said == ["one", "two", " 10%", "100%", "Äther"]
    lines.close()
    assert said[-1] == "last"
    assert lines.tail == "100%\nÄther\nlast"
    lines.feed("x" * 100_000)
    assert len(said[-1]) < 3000


def test_a_flood_is_cut_and_its_end_is_said() -> None:
    said: list[str] = []
    lines = Lines(said.append, remember=2, most=3)
    lines.feed("".join(f"{number}\n" for number in range(1000)))
    lines.close()
    assert said[:3] == ["0", "1", "2"]
    assert "enough" in said[3]
    assert said[4:] == ["1000 lines, of which these are the last:", "998", "999"]


def test_progress_is_thinned() -> None:
    said: list[str] = []
    transfer = Transfer("pushed", said.append, every=3600)
    for done in range(1000):
        transfer.update("a", done, 1000)
    transfer.update("b", 5, 0)
    assert transfer.bytes == 1004
    assert said == []
    Transfer("pushed", said.append, every=0).update("a", 1_500_000, 3_000_000)
    assert said == ["pushed 1.5 MB of 3.0 MB"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("unauthorized: authentication required", RegistryDenied),
        ("denied: requested access to the resource is denied", RegistryDenied),
        ("received unexpected HTTP status: 507 Insufficient Storage", RegistryFull),
        ('Get "http://h/v2/": dial tcp 127.0.0.1:1: connect: connection refused', RegistryUnavailable),
        ("dial tcp: lookup h on 1.1.1.1:53: no such host", RegistryUnavailable),
        ("received unexpected HTTP status: 500 Internal Server Error", RegistryUnavailable),
        ("toomanyrequests: slow down", RegistryUnavailable),
    ],
)
def test_what_the_engine_says_about_a_push(text: str, kind: type[Exception]) -> None:
    error = push_error("h.example.com/team/app", text)
    assert type(error) is kind
    assert "h.example.com" in str(error)


@pytest.mark.parametrize(
    "settings",
    [
        {"build_args": ["=x"]},
        {"build_args": ["NAME"]},
        {"memory": "lots"},
        {"ca_bundle": "/nowhere/ca.pem"},
        {"ca_bundle": "/etc/passwd"},
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BuilderSettings.model_validate(settings).open()


# --- building ---


def test_an_image_is_built_with_its_labels(
    client: docker.DockerClient, builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    (folder / "hello.txt").write_text("hello")
    said: list[str] = []
    image_id = builder.build(folder, commit=COMMIT, config=config, tag=tag, say=said.append)
    image = client.images.get(tag)
    assert image.id == image_id
    expected = code_labels(config.name, COMMIT, config)
    assert {name: image.labels[name] for name in expected} == expected
    assert output(client, tag, ["cat", "/app/hello.txt"]) == "hello"
    assert any(line.startswith("Step 2/") for line in said)
    assert not any("Running in" in line for line in said)


def test_the_largest_manifests_fit_into_a_label(
    client: docker.DockerClient, builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    """Also if every byte needs the most room on its way to the engine."""
    bare = len(objects_json([{"x": ""}]))
    manifests = [{"x": '"' * ((MAX_BYTES - bare) // 2)}]
    assert MAX_BYTES - len(objects_json(manifests)) < 2
    builder.build(folder, commit=COMMIT, config=config, objects=manifests, tag=tag, say=quiet)
    assert client.images.get(tag).labels["dev.linkspan.manifests"] == objects_json(manifests)


def test_the_same_folder_is_taken_from_the_cache(
    builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    first = builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    said: list[str] = []
    assert builder.build(folder, commit=COMMIT, config=config, tag=tag, say=said.append) == first
    assert any("Using cache" in line for line in said)


def test_output_comes_line_by_line_while_it_builds(
    builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    write(folder, f"FROM {BASE}\nCOPY unique /\nRUN echo first; sleep 2; printf 'sec'; printf 'ond\\n'\n")
    said: dict[str, float] = {}

    def say(line: str) -> None:
        said[line] = time.monotonic()

    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=say)
    assert said["second"] - said["first"] > 1


def test_dockerignore_is_honoured(
    client: docker.DockerClient, builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    (folder / ".dockerignore").write_text("# not these\n*.log\nsecret/\n!keep.log\n")
    (folder / "secret").mkdir()
    for name in ("a.log", "keep.log", "secret/key", "b.txt"):
        (folder / name).write_text("x")
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    names = output(client, tag, ["ls", "/app"]).split()
    assert {"keep.log", "b.txt"} <= set(names)
    assert not {"a.log", "secret"} & set(names)


def test_a_failing_step_is_named_with_its_output(
    client: docker.DockerClient, builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    write(folder, f"FROM {BASE}\nCOPY unique /\nRUN seq 1 40; echo 'the reason' >&2; exit 3\n")
    before = {container.id for container in client.containers.list(all=True)}
    with pytest.raises(BuildFailed) as caught:
        builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    message = str(caught.value)
    assert re.search(r"at Step \d/\d+ : RUN seq", message)
    assert "the reason" in message
    assert "non-zero code: 3" in message
    assert "\n20\n" not in message, "only the last lines"
    assert not caught.value.retriable
    unique = (folder / "unique").read_text()
    left = [c for c in client.containers.list(all=True, ignore_removed=True) if c.id not in before]
    assert not [container for container in left if unique in str(container.attrs)]
    with pytest.raises(ImageNotFound):
        client.images.get(tag)


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        (f"FROM {BASE}\nFOO bar\n", "unknown instruction: FOO"),
        (f"FROM {BASE}\nRUN --mount=type=cache,target=/x true\n", "without BuildKit"),
        (f"FROM {BASE}\nCOPY nothing /x\n", r"at Step \d/\d : COPY nothing"),
        ("FROM 127.0.0.1:1/not-there:1\n", "base image 127.0.0.1:1/not-there:1 is not here"),
    ],
)
def test_dockerfiles_that_do_not_build(
    builder: Builder, folder: Path, config: AppConfig, tag: str, dockerfile: str, message: str
) -> None:
    write(folder, dockerfile)
    with pytest.raises((BuildFailed, BuildUnavailable), match=message):
        builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)


def test_a_base_image_that_its_registry_has_not(
    builder: Builder, folder: Path, config: AppConfig, tag: str, registry: RunningRegistry
) -> None:
    write(folder, f"FROM {registry.host}/nothing:1\n")
    with pytest.raises(BuildFailed, match="cannot be pulled"):
        builder.key(folder, COMMIT, say=quiet)


def test_a_missing_dockerfile_is_named(
    builder: Builder, folder: Path, config: AppConfig, tag: str, tmp_path: Path
) -> None:
    (folder / "Dockerfile").unlink()
    with pytest.raises(ConfigError, match=r"no Dockerfile.*found unique"):
        builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    (folder / "Dockerfile").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="no Dockerfile"):
        builder.key(folder, COMMIT, say=quiet)


def test_a_build_that_takes_too_long_is_stopped(
    client: docker.DockerClient, folder: Path, config: AppConfig, tag: str
) -> None:
    unique = (folder / "unique").read_text()
    for number, command in enumerate(
        (f": {unique}; sleep 600", f": {unique}; while :; do echo x; sleep 0.1; done")
    ):
        write(folder, f"FROM {BASE}\nRUN {command}\n")
        builder = BuilderSettings(timeout_seconds=2).open()
        with pytest.raises(BuildFailed, match=r"longer than 2 s, at Step \d/\d : RUN"):
            builder.build(folder, commit=COMMIT, config=config, tag=f"{tag}{number}", say=quiet)

        def running() -> bool:
            return any(
                unique in str(c.attrs["Config"]["Cmd"]) for c in client.containers.list(ignore_removed=True)
            )

        end = time.monotonic() + 30
        while running() and time.monotonic() < end:
            time.sleep(0.1)
        assert not running()


def test_memory_is_limited(folder: Path, config: AppConfig, tag: str) -> None:
    write(folder, f"FROM {BASE}\nRUN python -c 'bytearray(300_000_000)'\n")
    with pytest.raises(BuildFailed, match="more memory than the builder's setting allows"):
        BuilderSettings(memory="64m").open().build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)


def test_the_key_of_a_folder(
    client: docker.DockerClient, builder: Builder, folder: Path, unique_app: str
) -> None:
    base = f"{unique_app}:base"
    client.images.get(BASE).tag(base)
    try:
        write(folder, f"ARG BASE={base}\nFROM ${{BASE}}\n")
        key = builder.key(folder, COMMIT, say=quiet)
        assert builder.key(folder, COMMIT.model_copy(update={"sha": "c" * 40}), say=quiet) == key
        assert builder.key(folder, COMMIT.model_copy(update={"tree": "c" * 40}), say=quiet) != key
        assert BuilderSettings(build_args=["X=1"]).open().key(folder, COMMIT, say=quiet) != key
        bundle = folder / "ca.pem"
        bundle.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
        assert BuilderSettings(ca_bundle=str(bundle)).open().key(folder, COMMIT, say=quiet) != key
        container = client.containers.create(BASE, "true")
        container.commit(unique_app, "base")  # another image under the same name
        container.remove()
        assert builder.key(folder, COMMIT, say=quiet) != key
    finally:
        client.images.remove(base, force=True)


def test_a_base_that_cannot_be_refreshed_is_taken_as_it_is(builder: Builder, folder: Path) -> None:
    key = builder.key(folder, COMMIT, say=quiet)
    said: list[str] = []
    refreshed = builder.key(folder, COMMIT, refresh=True, say=said.append)
    assert refreshed == key
    assert any("could not be refreshed" in line for line in said)


def test_a_newer_base_is_pulled_when_asked(
    client: docker.DockerClient, builder: Builder, folder: Path, registry: RunningRegistry, unique_app: str
) -> None:
    base = f"{registry.host}/{unique_app}"
    client.login(registry.username, registry.password, registry=registry.host, reauth=True)
    auth = {"username": registry.username, "password": registry.password}
    small = [f"FROM scratch\nLABEL n={number}-{unique_app}\nCMD x\n" for number in (1, 2)]
    ids = []
    try:
        for text in small:
            write(folder, text)
            image, _ = client.images.build(path=str(folder), tag=f"{base}:latest", rm=True)
            ids.append(str(image.id))
        for image_id in reversed(ids):  # the registry ends up with the first, the engine with the second
            builder.push(image_id, base, "latest", auth, say=quiet)
        client.api.tag(ids[1], base, "latest", force=True)
        write(folder, f"FROM {base}\n")
        own = Builder(client, BuilderSettings(), {}, b"")
        key = own.key(folder, COMMIT, say=quiet)
        assert own.key(folder, COMMIT, refresh=True, say=quiet) != key
        assert client.images.get(f"{base}:latest").id == ids[0]
    finally:
        for image_id in ids:
            client.images.remove(image_id, force=True)


def test_a_ca_bundle_is_in_the_base(
    client: docker.DockerClient, folder: Path, config: AppConfig, tag: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text(f"-----BEGIN CERTIFICATE-----\n{uuid.uuid4()}\n-----END CERTIFICATE-----\n")
    write(folder, f"ARG BASE={BASE}\nFROM ${{BASE}}\nCOPY unique /\n")
    builder = BuilderSettings(ca_bundle=str(bundle)).open()
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    assert output(client, tag, ["sh", "-c", "cat $PIP_CERT"]) == bundle.read_text()
    base_id = str(client.images.get(BASE).id)
    derived = hashlib.sha256(base_id.encode() + bundle.read_bytes()).hexdigest()[:20]
    write(folder, f"FROM {BASE}\nCOPY unique /\n")
    try:
        with pytest.raises(ConfigError, match="cannot take another base"):
            builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    finally:
        client.images.remove(tag, force=True)
        client.images.remove(f"linkspan-base-with-ca:{derived}")


def test_our_nameless_images_are_removed_and_no_others(
    client: docker.DockerClient,
    builder: Builder,
    folder: Path,
    config: AppConfig,
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    (folder / "more").write_text("x")
    second = builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    assert client.images.get(first)  # young: it could be a neighbour's
    monkeypatch.setattr(tidy_module, "STALE", -1.0)
    other, _ = client.images.build(
        path=str(folder), labels={"dev.linkspan.app": f"{config.name}-other"}, rm=True
    )
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    with pytest.raises(ImageNotFound):
        client.images.get(first)
    assert client.images.get(second)
    client.images.remove(str(other.id))


def test_only_the_newest_code_images_are_kept(
    client: docker.DockerClient,
    builder: Builder,
    folder: Path,
    config: AppConfig,
    registry: RunningRegistry,
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tidy_module, "KEEP", 2)
    write(folder, "FROM scratch\nCOPY . /\n")
    auth = {"username": registry.username, "password": registry.password}
    images = []
    for number in range(3):
        (folder / "number").write_text(str(number))
        key = f"code-{number:032x}"
        ours = f"linkspan/{config.name}:{key}"
        images.append(builder.build(folder, commit=COMMIT, config=config, tag=ours, say=quiet))
        builder.push(images[-1], f"{registry.host}/{config.name}", key, auth, say=quiet)
        time.sleep(1.1)  # the engine's lists know whole seconds only

    def tags() -> list[str]:
        found = client.images.list(filters={"label": f"dev.linkspan.app={config.name}"})
        return sorted(name for image in found for name in image.tags)

    newest = [f"{where}/{config.name}:code-{n:032x}" for where in (registry.host, "linkspan") for n in (1, 2)]
    assert tags() == sorted(newest)
    with pytest.raises(ImageNotFound):
        client.images.get(images[0])
    said: list[str] = []
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=said.append)
    assert sum("Using cache" in line for line in said) >= 3


def test_what_was_pulled_to_run_is_not_tidied_away(
    client: docker.DockerClient,
    builder: Builder,
    folder: Path,
    config: AppConfig,
    registry: RunningRegistry,
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    write(folder, "FROM scratch\nCOPY . /\n")
    first = builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    repository = f"{registry.host}/{config.name}"
    digest = builder.push(first, repository, "code-1", auth, say=quiet)
    for name in (tag, f"{repository}:code-1"):
        client.images.remove(name)
    release = pull(client, f"{repository}@{digest}", auth)
    assert release.tags == []
    monkeypatch.setattr(tidy_module, "STALE", -1.0)
    (folder / "more").write_text("x")
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    assert client.images.get(f"{repository}@{digest}").id == release.id


# --- an engine that is not there ---


def test_an_engine_that_is_not_there(folder: Path) -> None:
    with pytest.raises(BuildUnavailable):
        BuilderSettings(base_url=f"tcp://127.0.0.1:{free_port()}").open()


class Tunnel:
    """A way to the engine that can be cut."""

    def __init__(self) -> None:
        tunnel = self
        self._sockets: list[socket.socket] = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                engine = socket.socket(socket.AF_UNIX)
                engine.connect("/var/run/docker.sock")
                tunnel._sockets += [self.request, engine]
                back = threading.Thread(target=copy, args=(engine, self.request), daemon=True)
                back.start()
                copy(self.request, engine)
                back.join()

        def copy(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def cut(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def test_an_engine_that_goes_away(
    client: docker.DockerClient, builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    tunnel = Tunnel()
    write(folder, f"FROM {BASE}\nCOPY unique /\nRUN echo begun; sleep 60\n")

    def cut(line: str) -> None:
        if line == "begun":
            tunnel.cut()

    with pytest.raises(BuildUnavailable):
        BuilderSettings(base_url=tunnel.url).open().build(
            folder, commit=COMMIT, config=config, tag=tag, say=cut
        )
    write(folder, f"FROM {BASE}\nCOPY unique /\n")
    image = builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    tunnel = Tunnel()
    test = Tests(command=("sh", "-c", f": {config.name}; echo begun; sleep 3"), timeout_seconds=20)
    try:
        with pytest.raises(BuildUnavailable):
            BuilderSettings(base_url=tunnel.url).open().test(image, test, say=cut)
    finally:
        for container in client.containers.list(all=True, filters={"ancestor": image}, ignore_removed=True):
            container.remove(force=True)


# --- the app's tests ---


@pytest.fixture
def image(builder: Builder, folder: Path, config: AppConfig, tag: str) -> str:
    # An ENTRYPOINT must not get in the way of the tests.
    write(folder, f'FROM {BASE}\nCOPY . /app\nWORKDIR /app\nUSER 1000\nENTRYPOINT ["false"]\n')
    return builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)


def no_containers_of(client: docker.DockerClient, image: str) -> bool:
    return not client.containers.list(all=True, filters={"ancestor": image}, ignore_removed=True)


def test_tests_that_pass(client: docker.DockerClient, builder: Builder, image: str) -> None:
    said: list[str] = []
    builder.test(image, Tests(command=("sh", "-c", "echo one; echo two >&2; touch /tmp/x")), say=said.append)
    assert {"one", "two", "the app's tests passed"} <= set(said)
    assert no_containers_of(client, image)


def test_tests_that_fail(client: docker.DockerClient, builder: Builder, image: str) -> None:
    with pytest.raises(
        AppTestsFailed, match=r"(?s)the app's tests failed.*assert 1 == 2.*exit code 0, found 5"
    ):
        builder.test(image, Tests(command=("sh", "-c", "echo assert 1 == 2; exit 5")), say=quiet)
    assert no_containers_of(client, image)


def test_tests_that_print_without_end(
    client: docker.DockerClient, builder: Builder, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apptests, "_MOST_OUTPUT", 1 << 20)
    with pytest.raises(AppTestsFailed, match=r"(?s)print without end.*forever.*at most 1 MB"):
        builder.test(image, Tests(command=("yes", "forever"), timeout_seconds=60), say=quiet)
    assert no_containers_of(client, image)


def test_tests_that_hang(client: docker.DockerClient, builder: Builder, image: str) -> None:
    test = Tests(command=("sh", "-c", "trap '' TERM; echo begun; sleep 600"), timeout_seconds=1)
    start = time.monotonic()
    with pytest.raises(AppTestsFailed, match=r"(?s)did not end within 1 s.*begun"):
        builder.test(image, test, say=quiet)
    assert time.monotonic() - start < 20
    assert no_containers_of(client, image)


def test_tests_that_are_not_there(client: docker.DockerClient, builder: Builder, image: str) -> None:
    with pytest.raises(AppTestsFailed, match="must be in the image"):
        builder.test(image, Tests(command=("pytset",)), say=quiet)
    assert no_containers_of(client, image)
    said: list[str] = []
    builder.test(image, Tests(), say=said.append)
    assert said == ["linkspan.toml has no test.command: nothing was tested"]
    with pytest.raises(BuildFailed, match="not in the engine any more"):
        builder.test(f"sha256:{'0' * 64}", Tests(command=("true",)), say=quiet)


def test_tests_that_take_too_much(client: docker.DockerClient, image: str) -> None:
    greedy = Tests(command=("python", "-c", "bytearray(300_000_000)"))
    with pytest.raises(AppTestsFailed, match="more memory than it may"):
        BuilderSettings(memory="64m").open().test(image, greedy, say=quiet)
    assert no_containers_of(client, image)


def test_tests_can_reach_nothing_and_change_nothing(builder: Builder, image: str) -> None:
    program = """
import os, socket
for path in ("/app/x", "/x", "/var/tmp/x"):
    try:
        open(path, "w")
    except OSError as error:
        print("refused", path)
open("/tmp/x", "w"); open(os.path.expanduser("~/y"), "w")
print("uid", os.getuid())
print("interfaces", [name for _, name in socket.if_nameindex() if name != "lo"])
print([line for line in open("/proc/self/status") if line.startswith("CapBnd")])
"""
    said: list[str] = []
    builder.test(image, Tests(command=("python", "-c", program)), say=said.append)
    text = "\n".join(said)
    assert len([line for line in said if line.startswith("refused")]) == 3
    assert "uid 1000" in text
    assert "CapBnd:\\t0000000000000000" in text
    assert "eth" not in text


def test_containers_of_killed_workers_are_swept(
    client: docker.DockerClient, builder: Builder, image: str
) -> None:
    def left(until: float) -> str:
        labels = {"dev.linkspan.role": "test", "dev.linkspan.until": str(int(until))}
        container = client.containers.create(image, labels=labels)
        return str(container.id)

    old, running = left(time.time() - 5), left(time.time() + 600)
    try:
        builder.test(image, Tests(command=("true",)), say=quiet)
        there = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
        assert old not in there
        assert running in there
    finally:
        client.api.remove_container(running, force=True)


# --- pushing ---


def test_push(
    client: docker.DockerClient, builder: Builder, image: str, registry: RunningRegistry, unique_app: str
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    said: list[str] = []
    digest = builder.push(image, f"{registry.host}/{unique_app}", "code-1", auth, say=said.append)
    assert registry.settings().open(unique_app).exists("code-1") == digest
    assert builder.pushed
    assert registry.host in said[-1]
    pushed = builder.pushed
    assert builder.push(image, f"{registry.host}/{unique_app}", "code-1", auth, say=quiet) == digest
    assert builder.pushed == pushed, "what is there already does not move"


def test_push_with_a_wrong_password(
    builder: Builder, image: str, registry: RunningRegistry, unique_app: str
) -> None:
    auth = {"username": registry.username, "password": "wrong-s3cret"}
    with pytest.raises(RegistryDenied) as caught:
        builder.push(image, f"{registry.host}/{unique_app}", "code-1", auth, say=quiet)
    assert "wrong-s3cret" not in str(caught.value) + repr(caught.value)
    assert registry.host in str(caught.value)


def test_push_to_nowhere(builder: Builder, image: str) -> None:
    with pytest.raises(RegistryUnavailable):
        builder.push(image, f"127.0.0.1:{free_port()}/x", "code-1", say=quiet)
    with pytest.raises(BuildFailed, match="not in the engine any more"):
        builder.push(f"sha256:{'0' * 64}", "127.0.0.1:1/x", "code-1", say=quiet)


def test_push_to_a_full_registry_fails_soon(
    builder: Builder, image: str, registry: RunningRegistry, unique_app: str, full_registry: str
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    start = time.monotonic()
    with pytest.raises(RegistryFull, match="space"):
        builder.push(image, f"{full_registry}/{unique_app}", "code-1", auth, say=quiet)
    assert time.monotonic() - start < 30, "the engine alone would try for most of a minute"


@pytest.fixture
def full_registry(registry: RunningRegistry) -> Iterator[str]:
    """The registry behind a proxy that answers uploads as Distribution 2.8 does on a full disk (measured)."""
    import http.client
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    body = (
        b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem",'
        b'"Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}'
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.command in {"POST", "PATCH", "PUT"} and "Authorization" in self.headers:
                self.answer(500, {"Content-Type": "application/json"}, body)
                self.close_connection = True
                return
            upstream = http.client.HTTPConnection(registry.host)
            upstream.request(self.command, self.path, headers=dict(self.headers.items()))
            response = upstream.getresponse()
            self.answer(response.status, dict(response.getheaders()), response.read())
            upstream.close()

        do_POST = do_PUT = do_PATCH = do_HEAD = do_GET  # noqa: N815

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_push_moves_the_base_only_once(
    builder: Builder, image: str, registry: RunningRegistry, counting_proxy: CountingProxy, unique_app: str
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    repository = f"{counting_proxy.host}/{unique_app}"
    builder.push(image, repository, "code-1", auth, say=quiet)
    first = counting_proxy.sent
    counting_proxy.reset()
    builder.push(image, repository, "code-2", auth, say=quiet)
    assert first > 10_000_000
    assert counting_proxy.sent < 20_000

"""The builder against the real engine, with images of a few bytes on linkspan-base."""

import re
import socket
import socketserver
import threading
from pathlib import Path
from types import SimpleNamespace

import docker
import pytest
from docker.errors import ImageNotFound

from linkspan.code.builder import Builder, BuilderSettings, build_key
from linkspan.config import AppConfig
from linkspan.config import TestSection as Tests
from linkspan.errors import (
    BuildFailed,
    BuildUnavailable,
    ConfigError,
)
from linkspan.ledger.labels import code_labels, objects_json
from linkspan.processes import free_port
from linkspan.runtimes.kubernetes.app_objects import MAX_BYTES
from tests.code.apps import BASE, COMMIT, output, quiet, write
from tests.services.registry import RunningRegistry
from tests.waiting import until


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


def nothing_runs(client: docker.DockerClient, unique: str) -> None:
    """What builds of a folder began to run ends soon after they did."""

    def running() -> bool:
        commands = [c.attrs["Config"]["Cmd"] for c in client.containers.list(ignore_removed=True)]
        return unique in str(commands)

    until(lambda: not running(), what="the end of what the build ran")


class HeardEnough(Exception):
    """A test knows what it wanted to."""


def test_output_comes_line_by_line_while_it_builds(
    client: docker.DockerClient, builder: Builder, folder: Path, config: AppConfig, tag: str
) -> None:
    unique = (folder / "unique").read_text()
    write(folder, f"FROM {BASE}\nRUN : {unique}; echo first; sleep 3600\n")

    def say(line: str) -> None:
        if line == "first":
            raise HeardEnough

    with pytest.raises(HeardEnough):
        builder.build(folder, commit=COMMIT, config=config, tag=tag, say=say)
    nothing_runs(client, unique)
    write(folder, f"FROM {BASE}\nCOPY unique /\nRUN printf 'sec'; printf 'ond\\n'\n")
    said: list[str] = []
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=said.append)
    assert "second" in said


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
    before = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
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


@pytest.mark.parametrize(
    ("command", "seconds"), [("sleep 3600", 30), ("while :; do echo x; sleep 0.1; done", 3000)]
)
def test_a_build_that_takes_too_long_is_stopped(
    *,
    client: docker.DockerClient,
    folder: Path,
    config: AppConfig,
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    seconds: int,
) -> None:
    """The engine is silent for so long, or talks until the time is over: by a clock that only that moves."""
    unique, now = (folder / "unique").read_text(), [0.0]

    def say(line: str) -> None:
        now[0] += 1000 if line == "x" else 0

    monkeypatch.setattr("linkspan.code.builder.time", SimpleNamespace(monotonic=lambda: now[0]))
    write(folder, f"FROM {BASE}\nRUN : {unique}; {command}\n")
    builder = BuilderSettings(timeout_seconds=seconds).open()
    with pytest.raises(BuildFailed, match=rf"longer than {seconds} s, at Step \d/\d : RUN"):
        builder.build(folder, commit=COMMIT, config=config, tag=tag, say=say)
    nothing_runs(client, unique)


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
    test = Tests(command=("sh", "-c", f": {config.name}; echo begun; sleep 3"), timeout_seconds=200)
    try:
        with pytest.raises(BuildUnavailable):
            BuilderSettings(base_url=tunnel.url).open().test(image, test, say=cut)
    finally:
        for container in client.containers.list(all=True, filters={"ancestor": image}, ignore_removed=True):
            container.remove(force=True)

"""The images that builds need on the real engine, and which of those they leave stay there."""

import hashlib
import time
import uuid
from pathlib import Path

import docker
import pytest
import requests
from docker.errors import ImageNotFound

from linkspan.code import local_images
from linkspan.code.builder import Builder, BuilderSettings
from linkspan.config import AppConfig
from linkspan.engine import pull
from linkspan.errors import (
    BuildFailed,
    ConfigError,
)
from tests.code.apps import BASE, COMMIT, output, quiet, write
from tests.services.registry import RunningRegistry
from tests.skew import DAY, skewed


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
    with skewed(DAY):
        second = builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    assert client.images.get(first)  # young: it could be a neighbour's
    monkeypatch.setattr(local_images, "STALE", -1.0)
    other, _ = client.images.build(
        path=str(folder), labels={"dev.linkspan.app": f"{config.name}-other"}, rm=True
    )
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    with pytest.raises(ImageNotFound):
        client.images.get(first)
    assert client.images.get(second)
    client.images.remove(str(other.id))


def test_tidying_does_not_decide_how_a_build_ends(
    builder: Builder, folder: Path, config: AppConfig, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: docker.DockerClient) -> None:
        raise requests.Timeout

    monkeypatch.setattr(local_images, "engine_time", silent)
    write(folder, f"FROM {BASE}\nCOPY nothing /x\n")
    with pytest.raises(BuildFailed):
        builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)


def test_only_the_newest_code_images_are_kept(
    client: docker.DockerClient,
    builder: Builder,
    folder: Path,
    config: AppConfig,
    registry: RunningRegistry,
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_images, "KEEP", 2)
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
    monkeypatch.setattr(local_images, "STALE", -1.0)
    (folder / "more").write_text("x")
    builder.build(folder, commit=COMMIT, config=config, tag=tag, say=quiet)
    assert client.images.get(f"{repository}@{digest}").id == release.id

"""What every registry must do for us: the same tests against the fake and both of CNCF Distribution."""

import json
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from linkspan.errors import DigestMismatch, ModelCorrupt, RegistryDenied, RegistryNotFound
from linkspan.ledger.verdicts import pardon, reject, rejection
from linkspan.nouns import sha256
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import Image, Manifest, canonical, descriptor
from linkspan.registry.settings import RegistrySettings
from tests.registry.fake import PASSWORD
from tests.registry.images import DOCKER_CONFIG, OCI_CONFIG


@pytest.fixture
def repo(settings: RegistrySettings, unique_app: str) -> Iterator[Registry]:
    with settings.open(unique_app) as client:
        yield client


def an_image(repo: Registry, kind: str = media.OCI_MANIFEST, size_error: int = 0) -> Image:
    layer = b"layer of " + repo.repository.encode()
    repo.push_blob(layer)
    config = canonical({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    entry = {"mediaType": media.OCI_LAYER, "digest": sha256(layer), "size": len(layer) + size_error}
    config_type = OCI_CONFIG if kind == media.OCI_MANIFEST else DOCKER_CONFIG
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": descriptor(config_type, config),
        "layers": [entry],
    }
    return Image(Manifest(canonical(document), kind), config)


def test_check_passes_and_leaves_nothing(repo: Registry) -> None:
    repo.check()
    assert repo.tags() == []


def test_a_wrong_password_is_denied_and_not_told(
    settings: RegistrySettings, request: pytest.FixtureRequest
) -> None:
    if "none" in request.node.name:
        pytest.skip("this registry asks nobody")
    wrong = settings.model_copy(update={"password": SecretStr("wrong-s3cret")})
    with wrong.open("some-app") as client, pytest.raises(RegistryDenied) as caught:
        client.check()
    text = str(caught.value)
    assert settings.host in text
    assert settings.username in text
    assert "wrong-s3cret" not in text + repr(caught.value) + repr(wrong)


def test_a_small_blob_is_sent_once(repo: Registry) -> None:
    data = b"small and " + repo.repository.encode()
    assert repo.blob_size(sha256(data)) is None
    digest = repo.push_blob(data)
    before = repo.sent
    assert before == len(data)
    assert repo.push_blob(data) == digest == sha256(data)
    assert repo.sent == before
    assert repo.blob_size(digest) == len(data)
    assert repo.blob(digest) == data


def test_a_stream_goes_in_one_pass(repo: Registry) -> None:
    chunks = [bytes([n]) * 70_000 for n in range(50)]
    seen: list[int] = []
    digest, size = repo.push_stream(iter(chunks), 3_500_000, progress=seen.append)
    assert (digest, size) == (sha256(b"".join(chunks)), 3_500_000)
    assert sum(seen) == repo.sent == 3_500_000
    assert sha256(repo.blob(digest)) == digest
    assert repo.received >= 3_500_000


def test_a_producer_that_fails_leaves_nothing(repo: Registry) -> None:
    def producer() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ModelCorrupt("model file 'a'")

    with pytest.raises(ModelCorrupt, match="model file 'a'"):
        repo.push_stream(producer(), 200_000)
    # The client and its connections are still good.
    repo.push_blob(b"next")


@pytest.mark.parametrize("given", [99_999, 100_001])
def test_a_stream_of_another_length_is_refused(repo: Registry, given: int) -> None:
    with pytest.raises(DigestMismatch, match="expected 100000 bytes"):
        repo.push_stream(iter([b"x" * given]), 100_000)
    assert repo.blob_size(sha256(b"x" * given)) is None


def test_what_is_staged_is_there_once_it_is_committed(repo: Registry) -> None:
    kept, given_up = (word + repo.repository.encode() for word in (b"kept ", b"given up "))
    one, other = (repo.stage(iter([data]), len(data)) for data in (kept, given_up))
    assert (one.digest, one.size) == (sha256(kept), len(kept))
    assert repo.blob_size(one.digest) is None
    repo.discard(other)
    repo.commit(one)
    assert repo.blob(one.digest) == kept
    assert repo.blob_size(other.digest) is None


def test_a_blob_of_any_size_is_read_in_chunks_and_checked(repo: Registry) -> None:
    data = bytes(range(256)) * 20_000
    digest, _ = repo.push_stream(iter([data]), len(data))
    with repo.reading(digest) as chunks:
        assert b"".join(chunks) == data
    with pytest.raises(RegistryNotFound, match="reading blob"), repo.reading(sha256(b"missing")) as chunks:
        next(chunks)


@pytest.mark.parametrize("kind", [media.OCI_MANIFEST, media.DOCKER_MANIFEST])
def test_an_image_comes_back_to_the_bit(repo: Registry, kind: str) -> None:
    image = an_image(repo, kind)
    assert repo.exists(image.digest) is None
    assert repo.push_image(image) == image.digest
    assert repo.tags() == []
    repo.tag(image.digest, "code-1")
    assert repo.tags() == ["code-1"]
    assert repo.exists("code-1") == repo.exists(image.digest) == image.digest
    assert repo.image("code-1") == repo.image(image.digest) == image
    assert repo.image("code-1").manifest.media_type == kind


def test_a_wrong_layer_size_is_found_before_the_push(repo: Registry) -> None:
    image = an_image(repo, size_error=1)
    with pytest.raises(DigestMismatch, match=r"expected .* bytes, found"):
        repo.push_image(image)
    assert repo.exists(image.digest) is None


def test_an_image_without_its_layer_is_refused(repo: Registry) -> None:
    document = an_image(repo).manifest.document
    document["layers"][0]["digest"] = sha256(b"never pushed")
    config = an_image(repo).config
    with pytest.raises(RegistryNotFound, match="layer sha256"):
        repo.push_image(Image(Manifest(canonical(document), media.OCI_MANIFEST), config))
    with pytest.raises(RegistryNotFound):
        repo.push_manifest(canonical(document), media.OCI_MANIFEST)


def test_an_index_is_read_by_platform(repo: Registry) -> None:
    image = an_image(repo)
    repo.push_image(image)
    entry = {
        "mediaType": media.OCI_MANIFEST,
        "digest": image.digest,
        "size": len(image.manifest.data),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = canonical({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [entry]})
    repo.push_manifest(index, media.OCI_INDEX, "multi")
    assert repo.image("multi") == image
    assert repo.exists("multi") == sha256(index)
    with pytest.raises(RegistryNotFound, match="linux/amd64"):
        repo.manifest("multi", platform="linux/arm64")


def test_what_is_not_there(repo: Registry) -> None:
    assert repo.tags() == []
    assert repo.exists("nothing") is None
    for call in (lambda: repo.manifest("nothing"), lambda: repo.blob(sha256(b"nothing"))):
        with pytest.raises(RegistryNotFound, match=repo.repository):
            call()


def test_delete(repo: Registry) -> None:
    image = an_image(repo)
    repo.push_image(image, "old")
    assert repo.delete_manifest(image.digest)
    assert repo.exists("old") is None


def test_a_verdict_and_its_pardon(repo: Registry) -> None:
    assert rejection(repo, "release x") is None
    pardon(repo, "release x")
    given = reject(repo, "release x", "digits: 1 + 2", "smoke failed: " + "ö" * 5000)
    assert len(given.reason.encode()) <= 2048
    assert given.reason.startswith("smoke failed")
    assert rejection(repo, "release x") == given
    assert rejection(repo, "release y") is None
    reject(repo, "release x", "again", "worse")
    found = rejection(repo, "release x")
    assert found is not None
    assert found.what == "again"
    pardon(repo, "release x")
    assert rejection(repo, "release x") is None
    pardon(repo, "release x")


def test_the_password_is_in_no_repr(settings: RegistrySettings, repo: Registry) -> None:
    for thing in (settings, settings.rule(), settings.rule().credentials(), repo):
        assert PASSWORD not in repr(thing)
        assert json.dumps(repr(thing)).find("s3cret") == -1

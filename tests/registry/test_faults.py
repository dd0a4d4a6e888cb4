"""What real registries do wrong, one by one, and what our client makes of it."""

import time

import pytest

from linkspan.errors import (
    DigestMismatch,
    RegistryDenied,
    RegistryError,
    RegistryFull,
    RegistryNotFound,
    RegistryUnavailable,
)
from linkspan.ledger.verdicts import pardon, reject, rejection
from linkspan.nouns import sha256
from linkspan.processes import free_port
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import canonical
from tests.registry.fake import FakeRegistry
from tests.registry.fixtures import OpenFake

_FULL_TEXT = (
    b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":"write /x: no space left on device"}]}'
)
_FULL_NUMBER = (
    b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":'
    b'{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}'
)
_HARBOR_QUOTA = (
    b'{"errors":[{"code":"DENIED","message":"adding 1.0 GiB of storage resource, which when updated to '
    b'current usage of 9 GiB will exceed the configured upper limit of 10.0 GiB"}]}'
)


def push(client: Registry, size: int = 300_000) -> str:
    return client.push_stream(iter([b"a" * size]), size)[0]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_answers_are_tried_again(fake: FakeRegistry, open_fake: OpenFake, status: int) -> None:
    fake.fail("HEAD", "blobs", status, times=2)
    fake.fail("POST", "uploads", status, times=2)
    client = open_fake()
    assert client.push_blob(b"data") == sha256(b"data")
    assert fake.count("HEAD") == 3


def test_after_three_attempts_it_is_unavailable(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("GET", "manifests", 503, b"upstream is away", times=9)
    with pytest.raises(RegistryUnavailable, match="503 upstream is away") as caught:
        open_fake().manifest("x")
    assert caught.value.retriable
    assert fake.count("GET") == 3


@pytest.mark.parametrize(("seconds", "slept"), [("3", [3.0]), ("600", [])])
def test_retry_after_is_obeyed_or_left_to_the_caller(
    fake: FakeRegistry, seconds: str, slept: list[float]
) -> None:
    fake.fail("GET", "tags", 429, headers={"Retry-After": seconds}, times=1)
    waits: list[float] = []
    client = Registry(fake.host, "team/app", sleep=waits.append)
    if slept:
        assert client.tags() == []
    else:
        with pytest.raises(RegistryUnavailable):
            client.tags()
    assert waits == slept


def test_a_registry_that_is_not_there() -> None:
    client = Registry(f"127.0.0.1:{free_port()}", "team/app", sleep=lambda _: None)
    with pytest.raises(RegistryUnavailable, match="connection failed"):
        client.check()


def test_a_connection_dropped_in_the_middle_of_an_upload(fake: FakeRegistry, open_fake: OpenFake) -> None:
    """A registry that can go on with it: test_resume.py."""
    fake.ways.resumes = False
    fake.cut(1000)
    client = open_fake()
    with pytest.raises(RegistryUnavailable) as caught:
        push(client, 30_000_000)
    assert caught.value.retriable
    assert fake.uploads == {}, "the sessions were given up"
    assert push(client) == sha256(b"a" * 300_000)


@pytest.mark.parametrize("body", [_FULL_TEXT, _FULL_NUMBER, _HARBOR_QUOTA])
@pytest.mark.parametrize(
    ("method", "pattern"), [("POST", "uploads"), ("PATCH", "uploads"), ("PUT", "uploads")]
)
def test_a_full_registry_says_so(
    fake: FakeRegistry, open_fake: OpenFake, method: str, pattern: str, body: bytes
) -> None:
    fake.fail(method, pattern, 412 if b"DENIED" in body else 500, body, times=9)
    with pytest.raises(RegistryFull, match=fake.host) as caught:
        push(open_fake())
    assert not caught.value.retriable
    assert fake.uploads == {}


def test_507_is_full_too(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("PUT", "uploads", 507)
    with pytest.raises(RegistryFull):
        open_fake().push_blob(b"data")


def test_a_full_registry_that_hangs_up_in_the_middle_is_asked_again(
    fake: FakeRegistry, open_fake: OpenFake
) -> None:
    def full_from_now_on(_: object) -> bool:
        fake.fail("POST", "uploads", 500, _FULL_NUMBER, times=9)
        return False

    fake._add("PATCH", "uploads", 1, full_from_now_on)
    fake.hang_up("PATCH", "uploads", after=1000, times=99)
    with pytest.raises(RegistryFull):
        push(open_fake(), 30_000_000)


def test_wrong_digest(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("PUT", "uploads", 400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no match"}]}')
    with pytest.raises(DigestMismatch, match="DIGEST_INVALID"):
        push(open_fake())
    assert fake.uploads == {}


@pytest.mark.parametrize("checks", [True, False])
def test_a_registry_that_loses_bytes_is_found_out(
    fake: FakeRegistry, open_fake: OpenFake, checks: bool
) -> None:
    fake.ways.keeps, fake.ways.checks_digest = 1000, checks
    with pytest.raises(DigestMismatch):
        push(open_fake())


def test_no_content_range_so_nobody_can_be_picky_about_it(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.longest_chunk = 1000
    push(open_fake())
    [patch] = [seen for seen in fake.seen if seen.method == "PATCH"]
    assert "content-range" not in patch.headers
    assert patch.headers["content-length"] == "300000"
    assert "transfer-encoding" not in patch.headers


def test_a_416_ends_the_upload(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("PATCH", "uploads", 416)
    with pytest.raises(RegistryError, match="416"):
        push(open_fake())
    assert fake.uploads == {}


def test_a_lost_answer_to_the_last_put_is_no_failure(fake: FakeRegistry, open_fake: OpenFake) -> None:
    def store_and_hang_up(handler: object) -> bool:
        fake.blobs["team/app", sha256(b"a" * 300_000)] = b"a" * 300_000
        return False

    fake._add("PUT", "uploads", 1, store_and_hang_up)
    fake.hang_up("PUT", "uploads")
    assert push(open_fake()) == sha256(b"a" * 300_000)


def test_relative_locations_keep_their_query(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.relative_locations = True
    push(open_fake())
    [put] = [seen for seen in fake.seen if seen.method == "PUT"]
    assert "_state=some%2Fstate%3D" in put.path


def test_tags_on_many_pages(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.page = 2
    client = open_fake()
    body = canonical({"schemaVersion": 2, "mediaType": media.OCI_MANIFEST})
    for number in range(7):
        client.push_manifest(body, media.OCI_MANIFEST, f"v{number}")
    assert client.tags() == [f"v{number}" for number in range(7)]
    assert fake.count("GET", "tags") == 4


def test_a_manifest_that_is_not_what_was_asked_for(fake: FakeRegistry, open_fake: OpenFake) -> None:
    body = canonical({"schemaVersion": 2, "mediaType": media.OCI_MANIFEST})
    fake.manifests["team/app", sha256(b"another")] = body, media.OCI_MANIFEST
    with pytest.raises(DigestMismatch):
        open_fake().manifest(sha256(b"another"))


def test_no_digest_header(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.digest_header = False
    client = open_fake()
    body = canonical({"schemaVersion": 2, "mediaType": media.OCI_MANIFEST})
    client.push_manifest(body, media.OCI_MANIFEST, "v1")
    assert client.exists("v1") == sha256(body)


def test_a_truncated_download(fake: FakeRegistry, open_fake: OpenFake) -> None:
    client = open_fake()
    digest = client.push_blob(b"whole")
    fake.fail("GET", "blobs", 200, b"who", headers={"Content-Length": "5"}, times=9)
    with pytest.raises(RegistryUnavailable):
        client.blob(digest)


def test_a_blob_of_other_bytes(fake: FakeRegistry, open_fake: OpenFake) -> None:
    client = open_fake()
    digest = client.push_blob(b"right")
    fake.blobs["team/app", digest] = b"wrong"
    with pytest.raises(DigestMismatch):
        client.blob(digest)


def test_a_blob_that_is_too_long_is_not_read(fake: FakeRegistry, open_fake: OpenFake) -> None:
    client = open_fake()
    digest = client.push_blob(b"a" * 5000)
    with pytest.raises(RegistryError, match="at most 1000 bytes"):
        client.blob(digest, cap=1000)


def test_a_manifest_that_is_no_json(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("GET", "manifests", 200, b"<html>Welcome to the hotel's Wi-Fi")
    with pytest.raises(RegistryError, match="not a JSON object"):
        open_fake().manifest("v1")


def test_a_repository_that_must_be_created_first(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("POST", "uploads", 404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}')
    with pytest.raises(RegistryNotFound, match="create team/app"):
        push(open_fake())


def test_403_names_the_user(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("POST", "uploads", 403, b'{"errors":[{"code":"DENIED","message":"read only"}]}')
    with pytest.raises(RegistryDenied, match=r"DENIED read only.*user 'ann'"):
        push(open_fake())


def test_a_pardon_where_nothing_is_deleted(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.deletes = False
    client = open_fake()
    reject(client, "k", "what", "why")
    pardon(client, "k")
    assert rejection(client, "k") is None
    reject(client, "k", "what", "again")
    assert rejection(client, "k") is not None


def test_the_real_client_sleeps_little(fake: FakeRegistry) -> None:
    fake.fail("GET", "tags", 503, times=1)
    start = time.monotonic()
    assert Registry(fake.host, "team/app").tags() == []
    assert time.monotonic() - start < 240

"""What S3 says when it refuses, which moto cannot be made to say."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from linkspan.errors import (
    ConfigError,
    LinkspanError,
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from linkspan.stores.s3 import S3Objects, S3StoreSettings
from tests.services.moto import Moto
from tests.stores.scripted import Answer, scripted

SECRET = "open-sesame"


def _store(port: int, attempts: int = 1, **fields: object) -> S3Objects:
    settings = S3StoreSettings.model_validate(
        {
            "bucket": "models",
            "endpoint_url": f"http://127.0.0.1:{port}",
            "access_key_id": "AKIDEXAMPLE",
            "secret_access_key": SECRET,
            **fields,
        }
    )
    return S3Objects(settings, attempts=attempts)


def _error(code: str, status: int) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>because</Message></Error>"
    return Answer(status, body, {"Content-Type": "application/xml"})


@pytest.mark.parametrize(
    ("code", "status", "kind", "says"),
    [
        ("InvalidAccessKeyId", 403, StoreDenied, "access key ID"),
        ("SignatureDoesNotMatch", 403, StoreDenied, "secret access key"),
        ("ExpiredToken", 400, StoreDenied, "session has expired"),
        ("InvalidToken", 400, StoreDenied, "session token"),
        ("AccessDenied", 403, StoreDenied, "s3:ListBucket"),
        ("RequestTimeTooSkewed", 403, StoreDenied, "clock"),
        ("AuthorizationHeaderMalformed", 400, StoreDenied, "region"),
        ("NoSuchBucket", 404, ObjectNotFound, "bucket models is not there"),
        ("SlowDown", 503, StoreUnavailable, "SlowDown|503"),
        ("InternalError", 500, StoreUnavailable, "InternalError|500"),
        ("RequestTimeout", 400, StoreUnavailable, "RequestTimeout"),
        ("TooManyRequests", 429, StoreUnavailable, "TooManyRequests|429"),
        ("InvalidBucketName", 400, StoreError, "InvalidBucketName"),
    ],
)
def test_refusals_say_what_to_do(code: str, status: int, kind: type[LinkspanError], says: str) -> None:
    # To HEAD there is no body, so the code is only in the answer to the listing.
    with scripted(lambda method, path, headers: _error(code, status)) as server:
        store = _store(server.port)
        for call in (lambda: list(store.list("")), lambda: store.head("key"), lambda: store.put("key", b"x")):
            with pytest.raises(kind, match=says) as caught:
                call()
            assert type(caught.value) is kind
            assert SECRET not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize("conflicts", [1, 99])
def test_a_conflict_starts_over(conflicts: int) -> None:
    puts: list[str] = []

    def answer(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        if method == "PUT":
            puts.append(path)
            assert headers["If-None-Match"] == "*"
            if len(puts) <= conflicts:
                return _error("ConditionalRequestConflict", 409)
            return Answer(200, headers={"ETag": '"one"'})
        if method == "HEAD" and len(puts) > conflicts:
            return Answer(200, headers={"ETag": '"one"', "Content-Length": "4"})
        return _error("NoSuchKey", 404) if method == "HEAD" else Answer(200, "<ListBucketResult/>")

    with scripted(answer) as server:
        store = _store(server.port)
        if conflicts == 1:
            assert store.put("key", b"data").pin == 'etag:"one"'
            assert len(puts) == 2
        else:
            with pytest.raises(StoreUnavailable, match="concurrent upload"):
                store.put("key", b"data")


def test_an_endpoint_without_conditional_create_is_refused() -> None:
    def answer(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        if method == "PUT":
            return _error("NotImplemented", 501)
        return _error("NoSuchKey", 404) if method == "HEAD" else Answer(200, "<ListBucketResult/>")

    with scripted(answer) as server, pytest.raises(StoreError, match="conditionally") as caught:
        _store(server.port).put("key", b"data")
    assert not caught.value.retriable


def test_an_endpoint_that_ignores_the_condition_does_not_overwrite() -> None:
    def answer(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        return Answer(200, headers={"ETag": '"one"', "Content-Length": "4" if method == "HEAD" else "0"})

    with scripted(answer) as server:
        with pytest.raises(ObjectExists):
            _store(server.port).put("key", b"data")
        assert not [request for request in server.seen if request.startswith("PUT")]


def test_an_upload_that_fails_leaves_no_parts(moto_s3: Moto, tmp_path: Path) -> None:
    moto_s3.create_bucket("parts")
    store = S3Objects(
        S3StoreSettings(
            bucket="parts",
            endpoint_url=moto_s3.endpoint,
            access_key_id=moto_s3.access_key_id,
            secret_access_key=SecretStr(moto_s3.secret_access_key),
        ),
        part=5 << 20,
    )
    source = tmp_path / "big"
    source.write_bytes(bytes(11 << 20))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put("big", source, progress=interrupt)

    assert "Uploads" not in moto_s3.client().list_multipart_uploads(Bucket="parts")
    assert list(store.list("")) == []


def test_a_bucket_whose_versioning_was_suspended_is_pinned_by_etag(moto_s3: Moto) -> None:
    moto_s3.create_bucket("suspended")
    client = moto_s3.client()
    client.put_object(Bucket="suspended", Key="key", Body=b"old")
    client.put_bucket_versioning(Bucket="suspended", VersioningConfiguration={"Status": "Enabled"})
    store = S3StoreSettings(
        bucket="suspended",
        endpoint_url=moto_s3.endpoint,
        access_key_id=moto_s3.access_key_id,
        secret_access_key=SecretStr(moto_s3.secret_access_key),
    ).objects()
    assert store.head("key").pin.startswith("etag:")


def test_the_standard_chain_is_used_without_keys(moto_s3: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    moto_s3.create_bucket("chain")
    settings = S3StoreSettings(bucket="chain", endpoint_url=moto_s3.endpoint)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreDenied, match="no credentials found"):
        list(settings.objects().list(""))

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_access_key)
    assert list(settings.objects().list("")) == []


def test_half_a_key_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="half of a key"):
        S3StoreSettings(bucket="models", access_key_id="AKIDEXAMPLE").objects()


def test_an_address_without_a_scheme_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="models"):
        list(_store(1, endpoint_url="localhost").list(""))


def test_the_secret_is_not_shown() -> None:
    settings = S3StoreSettings(
        bucket="models", access_key_id="AKIDEXAMPLE", secret_access_key=SecretStr(SECRET)
    )
    assert SECRET not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()

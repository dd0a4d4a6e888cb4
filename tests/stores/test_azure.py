"""What Azure says when it refuses, and the ways to sign in."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from linkspan.errors import (
    ConfigError,
    LinkspanError,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from linkspan.stores.azure import AzureObjects, AzureStoreSettings
from tests.services.azurite import ACCOUNT, KEY, Azurite
from tests.stores.scripted import Answer, scripted

SAS = "sv=2024-01-01&sp=rlcw&sig=open-sesame"


def _store(port: int) -> AzureObjects:
    settings = AzureStoreSettings(
        container="models", account_url=f"http://127.0.0.1:{port}/{ACCOUNT}", sas_token=SecretStr("?" + SAS)
    )
    return AzureObjects(settings, attempts=1)


@pytest.mark.parametrize(
    ("code", "status", "kind", "says"),
    [
        ("AuthenticationFailed", 403, StoreDenied, "expired"),
        ("AuthorizationPermissionMismatch", 403, StoreDenied, "Storage Blob Data Contributor"),
        ("AuthorizationFailure", 403, StoreDenied, "firewall"),
        ("NoAuthenticationInformation", 401, StoreDenied, "sign in"),
        ("KeyBasedAuthenticationNotPermitted", 403, StoreDenied, "identity"),
        ("ContainerNotFound", 404, ObjectNotFound, "container models is not there"),
        ("ContainerBeingDeleted", 409, ObjectNotFound, "container models is not there"),
        ("ServerBusy", 503, StoreUnavailable, "ServerBusy"),
        ("InternalError", 500, StoreUnavailable, "InternalError"),
        ("OperationTimedOut", 500, StoreUnavailable, "OperationTimedOut"),
        ("TooManyRequests", 429, StoreUnavailable, "TooManyRequests"),
        ("InvalidResourceName", 400, StoreError, "container name"),
    ],
)
def test_refusals_say_what_to_do(code: str, status: int, kind: type[LinkspanError], says: str) -> None:
    def answer(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        assert "sig=open-sesame" in path, "the SAS must be sent"
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>because</Message></Error>"
        return Answer(status, body, {"x-ms-error-code": code, "Content-Type": "application/xml"})

    with scripted(answer) as server:
        for call in (lambda s: list(s.list("")), lambda s: s.head("key"), lambda s: s.put("key", b"x")):
            with pytest.raises(kind, match=says) as caught:
                call(_store(server.port))
            assert type(caught.value) is kind
            assert "sesame" not in repr(caught.value) + str(caught.value)


def test_the_signature_is_not_told_when_nobody_answers() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        _store(1).head("key")
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "?" not in _store(1).url


def test_a_sas_token_signs_in_until_it_expires(azurite: Azurite) -> None:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    container = f"sas-{uuid.uuid4().hex[:12]}"
    azurite.create_container(container)

    def store(expires: datetime, rights: str) -> AzureObjects:
        token = generate_container_sas(
            ACCOUNT,
            container,
            account_key=KEY,
            permission=ContainerSasPermissions.from_string(rights),
            expiry=expires,
        )
        settings = AzureStoreSettings(
            container=container, account_url=azurite.account_url, sas_token=SecretStr(token)
        )
        return AzureObjects(settings, attempts=1)

    now = datetime.now(UTC)
    put = store(now + timedelta(hours=1), "rlcw").put("key", b"data")
    assert b"".join(store(now + timedelta(hours=1), "rl").read(put)) == b"data"
    with pytest.raises(StoreDenied, match="rights"):
        store(now + timedelta(hours=1), "rl").put("other", b"data")
    with pytest.raises(StoreDenied, match="expired"):
        store(now - timedelta(hours=1), "rlcw").head("key")


def test_two_uploads_of_one_blob_never_mix_their_blocks(azurite: Azurite) -> None:
    """Both stage all of their blocks before one commits."""
    container = f"mix-{uuid.uuid4().hex[:12]}"
    azurite.create_container(container)
    settings = AzureStoreSettings(
        container=container, connection_string=SecretStr(azurite.connection_string())
    )
    first, second = (AzureObjects(settings, block=1000) for _ in range(2))
    inner: list[int] = []

    def interleave(_: int) -> None:
        # In the middle of the first upload, another one comes and completes.
        if not inner:
            inner.append(second.put("key", b"2" * 3500).size)

    with pytest.raises(LinkspanError):
        first.put("key", b"1" * 3500, progress=interleave)

    assert inner == [3500]
    assert b"".join(first.read(first.head("key"))) == b"2" * 3500


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "neither"),
        ({"account_url": "https://a.blob.core.windows.net", "connection_string": "x"}, "both"),
        ({"account_url": f"https://a.blob.core.windows.net?{SAS}"}, "SAS token"),
    ],
)
def test_contradicting_settings_are_a_mistake(fields: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        AzureStoreSettings.model_validate({"container": "models", **fields}).objects()
    assert "sesame" not in str(caught.value)


def test_a_connection_string_that_is_none_is_not_told() -> None:
    store = AzureStoreSettings(container="models", connection_string=SecretStr("open sesame")).objects()
    with pytest.raises(ConfigError, match="connection string cannot be read") as caught:
        list(store.list(""))
    assert "sesame" not in str(caught.value)


def test_without_a_key_the_default_identity_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity exists here; what counts is that it was looked for and that the error says so."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    settings = AzureStoreSettings(container="models", account_url="https://a.blob.core.windows.net")
    with pytest.raises(StoreDenied) as caught:
        AzureObjects(settings, attempts=1).head("key")
    assert caught.value.fix
    assert "\n" not in str(caught.value)

"""Logins: challenges, tokens that end, realms that are not to be trusted, redirects, ECR and ACR."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from linkspan.errors import ConfigError, RegistryDenied, RegistryUnavailable
from linkspan.nouns import sha256
from linkspan.registry.auth import ACR_USER, Acr, Ecr
from linkspan.registry.client import Registry
from linkspan.registry.settings import RegistrySettings
from linkspan.registry.token import Challenge, parse_challenges, trusted
from tests.registry.fake import USER, FakeRegistry
from tests.registry.fixtures import OpenFake


@pytest.mark.parametrize(
    ("headers", "challenges"),
    [
        (['Basic realm="x"'], [Challenge("basic", {"realm": "x"})]),
        (["Basic"], [Challenge("basic", {})]),
        (
            ['Bearer realm="https://a/t?x=1",service="s",scope="repository:a/b:pull,push"'],
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a/t?x=1", "service": "s", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (
            ['BASIC realm="a \\"b\\", c", bearer Realm=https://a/t , service=s'],
            [
                Challenge("basic", {"realm": 'a "b", c'}),
                Challenge("bearer", {"realm": "https://a/t", "service": "s"}),
            ],
        ),
        (["Negotiate", 'Basic realm="x"'], [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"})]),
        ([], []),
    ],
)
def test_challenges(headers: list[str], challenges: list[Challenge]) -> None:
    assert parse_challenges(headers) == challenges


@pytest.mark.parametrize(
    ("registry", "realm", "good"),
    [
        ("https://ghcr.io", "https://ghcr.io/token", True),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("https://registry.example.com", "https://auth.example.com/t", True),
        ("https://registry.example.com", "https://example.com/t", True),
        ("https://registry.example.com", "http://auth.example.com/t", False),
        ("https://registry.example.com", "https://evilexample.com/t", False),
        ("https://registry.example.com", "https://example.com.evil.io/t", False),
        ("https://registry.example.com", "https://evil.io/?registry.example.com", False),
        ("https://registry.example.com", "https://registry.example.com@evil.io/", False),
        ("https://example.com", "https://evil.com/t", False),
        ("https://team.azurecr.io", "https://team.azurecr.io/oauth2/token", True),
        ("https://team.azurecr.io", "https://evil.azurecr.io/oauth2/token", False),
        ("https://registry.co.uk", "https://evil.co.uk/t", False),
        ("https://10.1.2.3", "https://9.1.2.3/t", False),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", True),
        ("http://127.0.0.1:5000", "http://127.0.0.2/t", False),
        ("https://r.io", "https://allowed.net/t", True),
        ("https://r.io", "not a url", False),
    ],
)
def test_which_realm_gets_the_password(registry: str, realm: str, good: bool) -> None:
    assert trusted(httpx.URL(realm), httpx.URL(registry), ["allowed.net:443"]) is good


def test_an_evil_realm_gets_nothing(fake: FakeRegistry, open_fake: OpenFake) -> None:
    with FakeRegistry() as evil:
        fake.ways.auth, fake.ways.realm = "token", f"http://localhost:{evil.host.partition(':')[2]}/token"
        with pytest.raises(RegistryDenied, match=r"localhost.*trusted_realms"):
            open_fake().check()
        assert evil.seen == []
        # Allowed by the user: asked, with the password, and here it knows nobody of the fake's.
        fake.tokens = evil.tokens
        open_fake(trusted_realms=["localhost"]).check()
        assert evil.seen[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("field", ["token", "access_token"])
@pytest.mark.parametrize("expires_in", [300, None, 40])
def test_tokens(fake: FakeRegistry, open_fake: OpenFake, field: str, expires_in: int | None) -> None:
    fake.ways.auth, fake.ways.token_field, fake.ways.expires_in = "token", field, expires_in
    client = open_fake()
    client._transport._authorizer._clock = lambda: 1000.0  # no token ends, however slow the machine is
    client.push_blob(b"data")
    client.push_blob(b"data")
    [asked] = [seen.path for seen in fake.seen if seen.path.startswith("/token")]
    assert "scope=repository%3Ateam%2Fapp%3Apull%2Cpush" in asked
    assert "service=fake" in asked


def test_a_token_is_renewed_before_it_ends(fake: FakeRegistry) -> None:
    from linkspan.registry.auth import Password
    from linkspan.registry.token import Authorizer
    from tests.registry.fake import PASSWORD

    now = [1000.0]
    fake.ways.expires_in = None  # means 60 s
    with httpx.Client(timeout=600) as http:
        rule = Password(USER, SecretStr(PASSWORD))
        authorizer = Authorizer(http, httpx.URL(f"http://{fake.host}"), rule, clock=lambda: now[0])
        assert authorizer.header("a") is None
        challenge = f'Bearer realm="http://{fake.host}/token",service="fake"'
        authorizer.challenged(httpx.Headers({"WWW-Authenticate": challenge}), "a")
        first = authorizer.header("a")
        now[0] += 29
        assert authorizer.header("a") == first
        now[0] += 2
        assert authorizer.header("a") != first
        assert authorizer.header("b") != authorizer.header("a"), "a token is good for its scope only"


def test_a_token_that_ends_in_the_middle_of_an_upload(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.auth = "token"
    fake.forget_tokens_on("PATCH", "uploads")
    client = open_fake()
    digest, _ = client.push_stream(iter([b"a" * 300_000]), 300_000)
    assert digest == sha256(b"a" * 300_000)
    assert fake.count("PATCH") == 1, "the bytes went once"
    assert fake.count("GET", "token") == 2


def test_a_token_that_ends_before_the_bytes_is_renewed(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.auth = "token"
    fake.forget_tokens_on("POST", "uploads")
    digest, _ = open_fake().push_stream(iter([b"a" * 300_000]), 300_000)
    assert digest == sha256(b"a" * 300_000)
    assert fake.count("GET", "token") == 2


@pytest.mark.parametrize(
    ("status", "error"), [(401, RegistryDenied), (403, RegistryDenied), (503, RegistryUnavailable)]
)
def test_a_token_server_that_refuses(
    fake: FakeRegistry, open_fake: OpenFake, status: int, error: type[Exception]
) -> None:
    fake.ways.auth, fake.ways.token_status = "token", status
    with pytest.raises(error, match="token server"):
        open_fake().check()


def test_no_password_where_one_is_wanted(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.auth = "basic"
    with pytest.raises(RegistryDenied, match="wants a user name and a password"):
        open_fake(username="", password=None).check()


def test_the_password_does_not_follow_a_redirect(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.ways.auth = "basic"
    client = open_fake()
    digest = client.push_blob(b"data")
    with FakeRegistry() as storage:
        storage.blobs["elsewhere", digest] = b"data"
        storage.fail("GET", "bucket", 200, b"data", times=9)
        fake.ways.blobs_at = f"http://{storage.host}/bucket"
        assert client.blob(digest) == b"data"
        assert len(storage.seen) == 1
        assert all("authorization" not in seen.headers for seen in storage.seen)


def test_redirects_end(fake: FakeRegistry, open_fake: OpenFake) -> None:
    fake.fail("GET", "blobs", 307, headers={"Location": "/v2/team/app/blobs/x"}, times=99)
    with pytest.raises(Exception, match="redirects without end"):
        open_fake().blob(sha256(b"x"))


def test_acr(fake: FakeRegistry) -> None:
    fake.ways.auth, fake.ways.token_field, fake.ways.realm = (
        "token",
        "access_token",
        f"http://{fake.host}/oauth2/token",
    )
    asked: list[str] = []

    def entra(scope: str) -> str:
        asked.append(scope)
        return "entra-token"

    rule = Acr(f"http://{fake.host}", entra_token=entra)
    with Registry(fake.host, "team/app", rule) as client:
        client.push_blob(b"data")
    assert asked == ["https://containerregistry.azure.net/.default"]
    exchange = next(seen for seen in fake.seen if seen.path == "/oauth2/exchange")
    assert b"grant_type=access_token" in exchange.body
    token = next(seen for seen in fake.seen if seen.path == "/oauth2/token")
    assert token.method == "POST"
    assert b"grant_type=refresh_token" in token.body
    credentials = rule.credentials()
    assert credentials is not None
    assert credentials.username == ACR_USER
    assert "acr-refresh" not in repr(credentials)


def test_acr_refuses(fake: FakeRegistry) -> None:
    with pytest.raises(RegistryDenied, match="AcrPull") as caught:
        Acr(f"http://{fake.host}", entra_token=lambda _: "strangers-token").credentials()
    assert "strangers-token" not in str(caught.value)


def test_acr_renews_when_its_token_says_so(fake: FakeRegistry) -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": 5000}).encode()).decode().rstrip("=")

    now, asked = [1000.0], []
    fake.ways.refresh_token = f"header.{payload}.signature"

    def entra(scope: str) -> str:
        asked.append(scope)
        return "entra-token"

    rule = Acr(f"http://{fake.host}", entra_token=entra, clock=lambda: now[0])
    for moment, exchanges in ((1000.0, 1), (4000.0, 1), (4500.0, 2)):
        now[0] = moment
        rule.credentials()
        assert len(asked) == exchanges


class _EcrClient:
    """What boto3's client gives, by its documentation: GetAuthorizationToken."""

    def __init__(self, until: datetime) -> None:
        self.calls = 0
        self._until = until

    def get_authorization_token(self) -> dict[str, object]:
        self.calls += 1
        token = base64.b64encode(f"AWS:password-{self.calls}".encode()).decode()
        return {"authorizationData": [{"authorizationToken": token, "expiresAt": self._until}]}


def test_ecr_is_asked_again_only_when_the_password_ends() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    client, regions, now = _EcrClient(start + timedelta(hours=12)), [], [start.timestamp()]

    def make(region: str | None) -> _EcrClient:
        regions.append(region)
        return client

    rule = Ecr("123456789012.dkr.ecr.eu-west-1.amazonaws.com", client=make, clock=lambda: now[0])
    for _ in range(3):
        credentials = rule.credentials()
    assert credentials is not None
    assert (credentials.username, credentials.password.get_secret_value()) == ("AWS", "password-1")
    assert (client.calls, regions) == (1, ["eu-west-1"])
    now[0] += 12 * 3600 - 60
    credentials = rule.credentials()
    assert credentials is not None
    assert credentials.password.get_secret_value() == "password-2"


def test_ecr_by_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        settings = RegistrySettings(host="123456789012.dkr.ecr.eu-west-1.amazonaws.com", auth="ecr")
        auth = settings.docker_auth()
    assert auth is not None
    assert auth["username"] == "AWS"
    assert auth["password"]


def test_ecr_without_an_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(RegistryDenied, match="ecr:GetAuthorizationToken"):
        Ecr("123456789012.dkr.ecr.eu-west-1.amazonaws.com").credentials()


def test_settings_name_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="no password"):
        RegistrySettings(host="r.io", username="ann").open("app")
    with pytest.raises(ConfigError, match="host"):
        RegistrySettings(host="https://r.io").open("app")
    with pytest.raises(ConfigError, match="prefix"):
        RegistrySettings(host="r.io", prefix="Team").open("app")


@pytest.mark.parametrize(
    ("host", "prefix", "name", "url"),
    [
        ("r.io", "team", "r.io/team/app", "https://r.io"),
        ("localhost:5000", "", "localhost:5000/app", "http://localhost:5000"),
        ("registry-1.docker.io", "ann", "docker.io/ann/app", "https://registry-1.docker.io"),
        ("docker.io", "ann", "docker.io/ann/app", "https://registry-1.docker.io"),
    ],
)
def test_settings_to_names(host: str, prefix: str, name: str, url: str) -> None:
    settings = RegistrySettings(host=host, prefix=prefix)
    assert settings.repository("app") == name
    assert settings.docker_auth() is None
    with settings.open("app") as client:
        assert client.name == name
        assert re.fullmatch(re.escape(url), str(client._transport.base))

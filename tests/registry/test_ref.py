"""References: what people write, what it means, and that writing it out loses nothing."""

import pytest

from linkspan.errors import ConfigError
from linkspan.registry.ref import ImageRef, api_host, hostname, is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("ann/app", "docker.io/ann/app:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("registry-1.docker.io/ann/app:1", "docker.io/ann/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ("[::1]:5000/app:v1", "[::1]:5000/app:v1"),
        ("team.azurecr.io/digits@" + DIGEST, "team.azurecr.io/digits@" + DIGEST),
        ("ghcr.io/o/r:v1@" + DIGEST, "ghcr.io/o/r:v1@" + DIGEST),
        ("r.io/a__b/c-d.e:A_b.C-d", "r.io/a__b/c-d.e:A_b.C-d"),
    ],
)
def test_parse_and_print(text: str, canonical: str) -> None:
    ref = ImageRef.parse(text)
    assert str(ref) == canonical
    assert ImageRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":latest",
        "r.io/App",
        "r.io/app:",
        "r.io/app:-x",
        "r.io/app:" + "x" * 129,
        "r.io/app@sha256:abc",
        "r.io/app@md5:" + "a" * 32,
        "r.io//app",
        "r.io/app/",
        "https://r.io/app",
        "r.io/a..b",
        "r.io:port/app",
        "r.io/app:v1\n",
        "r.io/" + "a" * 256,
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an image reference"):
        ImageRef.parse(text)


def test_the_digest_wins() -> None:
    ref = ImageRef.parse("r.io/app:v1@" + DIGEST)
    assert ref.reference == DIGEST
    assert str(ImageRef.parse("r.io/app:v1").at(DIGEST)) == "r.io/app@" + DIGEST


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.8.9.1:80", True),
        ("[::1]:5000", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_hosts() -> None:
    assert hostname("Registry.Example.com:5000") == "registry.example.com"
    assert api_host("docker.io") == "registry-1.docker.io"
    assert api_host("ghcr.io") == "ghcr.io"

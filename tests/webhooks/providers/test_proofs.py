"""Proofs of who sent a request, against what the specifications say."""

import base64
import hashlib
import hmac
import json

import pytest

from linkspan.webhooks.providers.proofs import TOLERANCE_SECONDS, check_hmac, same
from linkspan.webhooks.providers.register import provider
from tests.webhooks.providers import git_samples as p
from tests.webhooks.providers import makers as m
from tests.webhooks.samples import NOW, SECRET, post, read, refused, settings, with_header


def test_githubs_own_test_vector() -> None:
    """GitHub, "Validating webhook deliveries", "Testing the webhook payload validation"."""
    source = settings("github", secret="It's a Secret to Everybody")
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = post(b"Hello, World!", {"x-hub-signature-256": f"sha256={digest}"})
    check_hmac(request, source, "x-hub-signature-256", "sha256=")
    provider("github").verify(request, source)


def test_the_standard_webhooks_scheme_is_spelled_out() -> None:
    """Section "Signature scheme": HMAC-SHA256 over `msg_id.timestamp.payload`, in base64; by hand here."""
    key = bytes(range(24))
    source = settings("signed", secret="whsec_" + base64.b64encode(key).decode())
    body, when = b'{"type":"model","name":"digits"}', int(NOW.timestamp())
    signed = b"msg_2KWPBgLl.%d.%s" % (when, body)
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    headers = {
        "webhook-id": "msg_2KWPBgLl",
        "webhook-timestamp": str(when),
        "content-type": "application/json",
    }
    [hint] = read(post(body, headers | {"webhook-signature": f"v1,{signature}"}), source).hints
    assert (hint.key, hint.text) == ("msg_2KWPBgLl", "model digits")


@pytest.mark.parametrize("age", [0, TOLERANCE_SECONDS - 1, 1 - TOLERANCE_SECONDS])
def test_five_minutes_are_forgiven(age: float) -> None:
    assert read(m.standard(p.COMMIT, p.signed, age=age), p.signed).hints


@pytest.mark.parametrize(
    ("age", "said"),
    [(301, "301 s ago"), (86_400, "86400 s ago"), (-301, "301 s in the future"), (10**9, "ago")],
)
def test_six_are_not(age: float, said: str) -> None:
    words = refused(m.standard(p.COMMIT, p.signed, age=age), p.signed)
    assert said in words
    assert "one of the two clocks is wrong" in words


def test_a_signature_of_the_old_secret_beside_the_new_one() -> None:
    request = m.standard(p.COMMIT, p.signed)
    right = request.header("webhook-signature")
    for value in (f"v1,b2xk {right}", f"{right} v1,b2xk", f"v1a,xyz {right} v2,abc"):
        assert read(with_header(request, "webhook-signature", value), p.signed).hints
    for value in (f"{right},{right}", f"v1,b2xk{right}", "v1,b2xk v1,bmV3", right.replace("v1,", "v1, ")):
        assert refused(with_header(request, "webhook-signature", value), p.signed)


@pytest.mark.parametrize("identity", ["", "a.b", "ä", "a b", "x" * 151, "a\n"])
def test_an_id_that_could_be_read_in_two_ways(identity: str) -> None:
    assert "is no ID" in refused(m.standard(p.COMMIT, p.signed, identity=identity), p.signed)


@pytest.mark.parametrize("timestamp", ["", "1e9", "-5", "+5", " 5", "5.0", "٣", "9" * 12, "1_000"])
def test_a_time_that_is_no_number(timestamp: str) -> None:
    body = p.COMMIT
    signed = f"msg_1.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(bytes(range(32)), signed, "sha256")).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}
    assert "is no time" in refused(post(body, m.JSON | headers), p.signed)


@pytest.mark.parametrize("secret", ["whsec_" + "!" * 40, "whsec_c2hvcnRzaG9ydA==", "whsec_ÄÄÄÄÄÄÄÄÄÄÄÄÄ"])
def test_a_secret_that_was_copied_in_part_is_named_and_not_shown(secret: str) -> None:
    words = refused(m.standard(p.COMMIT, p.signed), settings("signed", secret=secret))
    assert "begins with whsec_ but is none" in words
    assert secret not in words


def test_a_secret_that_is_no_whsec_is_taken_as_it_is() -> None:
    """For who signs with `openssl dgst -hmac "$SECRET"`."""
    source = settings("signed", repository="team/digits")
    key, when = SECRET.encode(), str(int(NOW.timestamp()))
    signature = base64.b64encode(hmac.digest(key, f"m1.{when}.".encode() + p.COMMIT, "sha256")).decode()
    headers = {"webhook-id": "m1", "webhook-timestamp": when, "webhook-signature": f"v1,{signature}"}
    assert read(post(p.COMMIT, m.JSON | headers), source).hints


def test_basic_is_a_scheme_in_any_case() -> None:
    request = m.basic(p.AZURE_PUSH, p.azure)
    for scheme in ("basic", "BASIC"):
        value = request.header("authorization").replace("Basic", scheme)
        assert read(with_header(request, "authorization", value), p.azure).hints


def test_no_refusal_holds_the_secret_or_the_proof() -> None:
    for sample in p.SAMPLES:
        other = sample.settings.model_copy(
            update={"secret": settings("x", secret="the secret of the block").secret}
        )
        words = refused(sample.valid, other)
        assert "the secret of the block" not in words
        assert sample.valid.header(sample.proof)[-20:] not in words
        assert sample.settings.secret.get_secret_value() not in words


def test_nothing_is_parsed_before_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("parsed before it was verified")

    monkeypatch.setattr(json, "loads", parsed)
    monkeypatch.setattr("linkspan.webhooks.providers.github.parse_qsl", parsed)
    for sample in p.SAMPLES:
        sample.provider.verify(sample.valid, sample.settings)


def test_texts_are_compared_whatever_they_hold() -> None:
    assert same("é\ud800", "é\ud800")
    assert not same("é", "e")
    assert not same("", "x")

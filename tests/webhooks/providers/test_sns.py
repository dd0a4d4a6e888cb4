"""SNS: whom it believes, where it fetches, and what it does to a subscription."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from linkspan.errors import WebhookRefused, WebhookUnchecked
from linkspan.webhooks.base import Request, WebhookSettings
from linkspan.webhooks.providers.certificates import fetch_certificate
from linkspan.webhooks.providers.sns import (
    Sns,
    Topic,
    confirm_subscription,
    is_certificate_url,
    topic_of,
)
from tests.webhooks import aws, sns_signer
from tests.webhooks.providers.listener import Answer, listening, plain
from tests.webhooks.sns_signer import NOW, SETTINGS, control, message, request, signed

BODY = aws.text_of(aws.record())


class World:
    """What SNS would be asked: certificates by URL, and subscriptions that were confirmed."""

    def __init__(self, certificate: bytes | None = None) -> None:
        self.certificate = certificate or sns_signer.certificate()
        self.fetched: list[str] = []
        self.confirmed: list[tuple[Topic, str]] = []
        self.sns = Sns(fetch=self.fetch, confirm=lambda topic, token: self.confirmed.append((topic, token)))

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        return self.certificate

    def hints(self, what: Request, settings: WebhookSettings = SETTINGS) -> list[str]:
        self.sns.verify(what, settings)
        return [hint.text for hint in self.sns.read(what, settings).hints]


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_signature_versions_are_believed(version: str) -> None:
    what = request(signed(message(BODY, SignatureVersion=version)))
    assert World().hints(what) == ["s3://models/digits/v12/model.json"]


def test_a_message_without_a_subject_is_signed_without_one() -> None:
    document = message(BODY)
    del document["Subject"]
    assert World().hints(request(signed(document)))


def test_text_is_signed_as_it_is_not_as_json_writes_it() -> None:
    body = aws.text_of(aws.record(key="digits/m%C3%BCller%22%0A/a+b.json"))
    document = signed(message(body + "\n \u00e9\u20ac\U0001f600"[:2], Subject='"quoted"\t\u00e9\U0001f600'))
    assert World().hints(request(document)) == ['s3://models/digits/müller" /a b.json']


# What a stranger might change; each must start nothing.
def _changed(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: signed(message(BODY)) | changes


FORGED: dict[str, Callable[[], dict[str, Any]]] = {
    "other message": _changed(Message=aws.text_of(aws.record(key="digits/v13/model.json"))),
    "other time": _changed(Timestamp="2026-11-22T10:11:13.500Z"),
    "other ID": _changed(MessageId="22b80b92-fdea-4c2c-8f9d-bdfb0c7bf325"),
    "other type": _changed(Type="SubscriptionConfirmation", Token="t", SubscribeURL="https://example.com"),
    "subject removed": lambda: {k: v for k, v in signed(message(BODY)).items() if k != "Subject"},
    "subject added": lambda: (
        signed({k: v for k, v in message(BODY).items() if k != "Subject"}) | {"Subject": "x"}
    ),
    "other algorithm": _changed(SignatureVersion="1"),
    "unknown algorithm": _changed(SignatureVersion="3"),
    "no algorithm": _changed(SignatureVersion=""),
    "no signature": _changed(Signature=""),
    "signature missing": lambda: message(BODY),
    "signature no base64": _changed(Signature="%%%"),
    "signature of zeros": _changed(Signature=base64.b64encode(bytes(256)).decode()),
    "signature too short": _changed(Signature=base64.b64encode(b"short").decode()),
    "signed by a stranger": lambda: signed(message(BODY), with_key=sns_signer.other_key()),
    "other topic, rightly signed": lambda: signed(message(BODY, TopicArn=sns_signer.TOPIC + "2")),
    "other account, rightly signed": lambda: signed(
        message(BODY, TopicArn=sns_signer.TOPIC.replace("123456789012", "210987654321"))
    ),
    "no certificate": _changed(SigningCertURL=""),
    "type unknown": lambda: signed(message(BODY, Type="Notification2")),
    "a number for a text": _changed(Message=12),
    "too old": lambda: signed(message(BODY, Timestamp="2026-11-21T10:00:00.000Z")),
    "from the future": lambda: signed(message(BODY, Timestamp="2026-11-23T10:30:00.000Z")),
    "no time": lambda: signed(message(BODY, Timestamp="yesterday")),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_not_signed_so_is_refused(name: str) -> None:
    with pytest.raises(WebhookRefused):
        World().sns.verify(request(FORGED[name]()), SETTINGS)


@pytest.mark.parametrize("secret", ["", "another secret of that size"])
def test_a_stranger_makes_us_fetch_nothing(secret: str) -> None:
    world = World()
    with pytest.raises(WebhookRefused) as refused:
        world.sns.verify(request(signed(message(BODY)), secret=secret), SETTINGS)
    assert not world.fetched
    assert sns_signer.SECRET not in str(refused.value)


def test_a_retry_an_hour_later_and_a_clock_that_is_hours_wrong_are_believed() -> None:
    for hours in (-23, 1, 23):
        what = request(signed(message(BODY)), received=NOW + timedelta(hours=hours))
        assert World().hints(what)


def test_a_message_told_again_is_the_same_news() -> None:
    world = World()
    first = request(signed(message(BODY)))
    again = request(signed(message(BODY, MessageId="b9b80b92-fdea-4c2c-8f9d-bdfb0c7bf324")))
    other = request(signed(message(aws.text_of(aws.record(key="digits/v13/model.json")))))
    keys = [world.sns.read(each, SETTINGS).hints[0].key for each in (first, first, again, other)]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_a_certificate_is_fetched_once() -> None:
    world = World()
    for _ in range(3):
        world.hints(request(signed(message(BODY))))
    assert world.fetched == [sns_signer.URL]


def test_only_so_many_certificates_are_kept() -> None:
    world = World()
    for number in range(40):
        url = sns_signer.URL.replace("0123456789abcdef.pem", f"{number:016x}.pem")
        world.hints(request(signed(message(BODY, SigningCertURL=url))))
    assert len(world.sns._certificates._known) == 16
    world.hints(request(signed(message(BODY, SigningCertURL=url))))
    assert len(world.fetched) == 40


@pytest.mark.parametrize(("days_ago", "days"), [(400, 365), (-3, 365)])
def test_a_certificate_that_is_over_or_not_yet_valid_is_refused(days_ago: int, days: int) -> None:
    world = World(sns_signer.certificate(days_ago, days))
    with pytest.raises(WebhookRefused, match="not valid now"):
        world.hints(request(signed(message(BODY))))


def _no_rsa() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("found", [b"", b"<html>", sns_signer.certificate()[:200], _no_rsa()])
def test_what_is_no_certificate_of_rsa_is_refused_and_not_kept(found: bytes) -> None:
    world = World(found or b" ")
    for _ in range(2):
        with pytest.raises(WebhookRefused):
            world.hints(request(signed(message(BODY))))
    assert len(world.fetched) == 2


HOST = f"https://sns.{sns_signer.REGION}.amazonaws.com"
ELSEWHERE = [
    f"http://sns.{sns_signer.REGION}.amazonaws.com/{sns_signer.FILE}",
    f"https://sns.us-east-1.amazonaws.com/{sns_signer.FILE}",
    # Buckets called `sns`, at the older addresses of S3.
    f"https://sns.s3.amazonaws.com/{sns_signer.FILE}",
    f"https://sns.s3-{sns_signer.REGION}.amazonaws.com/{sns_signer.FILE}",
    f"https://sns.s3-us-west-2.amazonaws.com/{sns_signer.FILE}",
    f"{HOST}.evil.example/{sns_signer.FILE}",
    f"{HOST}.cn/{sns_signer.FILE}",
    f"{HOST}@evil.example/{sns_signer.FILE}",
    f"https://evil.example@sns.{sns_signer.REGION}.amazonaws.com/{sns_signer.FILE}",
    f"https://evil.example/{HOST}/{sns_signer.FILE}",
    f"{HOST}:444/{sns_signer.FILE}",
    f"{HOST}:/{sns_signer.FILE}",
    f"{HOST}/{sns_signer.FILE}?x=.pem",
    f"{HOST}/{sns_signer.FILE}#.pem",
    f"{HOST}/{sns_signer.FILE}\n",
    f"{HOST}/{sns_signer.FILE}/",
    f"{HOST}/a/../{sns_signer.FILE}",
    f"{HOST}//{sns_signer.FILE}",
    f"{HOST}/%2e%2e.pem",
    f"{HOST}/?Action=GetEndpoint.pem",
    f"{HOST}/.pem",
    f"{HOST}/{sns_signer.FILE.upper()}",
    f" {HOST}/{sns_signer.FILE}",
    f"https:\\\\sns.{sns_signer.REGION}.amazonaws.com/{sns_signer.FILE}",
    HOST.upper() + f"/{sns_signer.FILE}",
    HOST.replace("sns", "\u0455ns") + f"/{sns_signer.FILE}",
    HOST,
    "",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_certificate_from_elsewhere_is_not_even_asked_for(address: str) -> None:
    world = World()
    with pytest.raises(WebhookRefused):
        world.sns.verify(request(signed(message(BODY, SigningCertURL=address))), SETTINGS)
    assert not world.fetched


@pytest.mark.parametrize(
    ("arn", "host"),
    [
        ("arn:aws:sns:us-west-2:123456789012:models", "sns.us-west-2.amazonaws.com"),
        ("arn:aws-cn:sns:cn-north-1:123456789012:models", "sns.cn-north-1.amazonaws.com.cn"),
        ("arn:aws-us-gov:sns:us-gov-west-1:123456789012:m.fifo", "sns.us-gov-west-1.amazonaws.com"),
    ],
)
def test_a_topic_says_where_its_certificates_are(arn: str, host: str) -> None:
    topic = topic_of(SETTINGS.model_copy(update={"topic": arn}))
    assert is_certificate_url(f"https://{host}/{sns_signer.FILE}", topic)


@pytest.mark.parametrize(
    "arn", ["", "models", "arn:aws:sqs:us-west-2:123456789012:models", "arn:aws:sns:::m"]
)
def test_a_source_without_a_topic_believes_nobody(arn: str) -> None:
    with pytest.raises(WebhookRefused, match="names no topic"):
        World().sns.verify(request(signed(message(BODY))), SETTINGS.model_copy(update={"topic": arn}))


def test_raw_delivery_is_refused_and_says_what_to_change() -> None:
    raw = request(aws.record())
    with pytest.raises(WebhookRefused, match="Turn raw message delivery off"):
        World().sns.verify(raw, SETTINGS)


def test_a_subscription_is_confirmed_by_its_token_once_it_is_believed() -> None:
    world = World()
    what = request(signed(control("SubscriptionConfirmation")))
    world.sns.verify(what, SETTINGS)
    assert not world.confirmed
    reading = world.sns.read(what, SETTINGS)
    assert world.confirmed == [(topic_of(SETTINGS), control("x")["Token"])]
    assert not reading.hints
    assert "is confirmed" in reading.ignored


def test_a_forged_subscription_is_not_believed() -> None:
    for changes in ({"Token": "another"}, {"SubscribeURL": "https://evil.example/"}, {"Token": None}):
        with pytest.raises(WebhookRefused):
            World().sns.verify(request(signed(control("SubscriptionConfirmation")) | changes), SETTINGS)


def test_the_end_of_a_subscription_is_not_undone() -> None:
    world = World()
    what = request(signed(control("UnsubscribeConfirmation")))
    world.sns.verify(what, SETTINGS)
    reading = world.sns.read(what, SETTINGS)
    assert not world.confirmed
    assert not reading.hints
    assert "unsubscribed" in reading.ignored


def test_s3_may_test_the_topic() -> None:
    test = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2026-11-22T10:11:12Z",
        "Bucket": "models",
    }
    assert World().hints(request(signed(message(aws.text_of(test))))) == []


@pytest.mark.parametrize("body", ["hello", "[]", "{}", '{"Records": {}}', "[" * 5000, '{"Records": [{}]}'])
def test_a_topic_that_tells_of_other_things_is_refused(body: str) -> None:
    world = World()
    what = request(signed(message(body)))
    world.sns.verify(what, SETTINGS)
    with pytest.raises(WebhookRefused):
        world.sns.read(what, SETTINGS)


# fetch_certificate against a real server that misbehaves


def _slowly(handler: BaseHTTPRequestHandler, _: Request) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)
    except OSError:
        return


def test_a_certificate_is_fetched() -> None:
    with listening(plain(200, sns_signer.certificate())) as (address, got):
        assert fetch_certificate(f"{address}/a.pem", seconds=600) == sns_signer.certificate()
    assert [each.method for each in got] == ["GET"]


@pytest.mark.parametrize(
    ("answer", "retriable"),
    [
        (plain(302, Location="http://127.0.0.1:9/"), False),
        (plain(404), False),
        (plain(200, bytes(65 << 10)), False),
        (plain(500), True),
        (plain(503), True),
        (plain(429), True),
        (_slowly, True),
    ],
    ids=["redirect", "missing", "huge", "500", "503", "429", "slow"],
)
def test_a_server_that_misbehaves(answer: Answer, *, retriable: bool) -> None:
    begin = time.monotonic()
    with listening(answer) as (address, _), pytest.raises(WebhookRefused) as refused:
        fetch_certificate(f"{address}/a.pem", seconds=0.5 if answer is _slowly else 600)
    assert refused.value.retriable == retriable
    assert time.monotonic() - begin < 240


def test_a_server_that_is_away_is_asked_again_later() -> None:
    world = World()

    def away(_: str) -> bytes:
        return fetch_certificate("http://127.0.0.1:9/a.pem")

    with pytest.raises(WebhookUnchecked) as refused:
        Sns(fetch=away).verify(request(signed(message(BODY))), SETTINGS)
    assert refused.value.retriable
    assert world.hints(request(signed(message(BODY))))


# moto: real messages, a real API


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, and patience: a machine may stand still for longer than SNS waits."""
    for name, value in aws.KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("linkspan.webhooks.providers.sns.SECONDS", 600)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.Aws]:
    server = aws.start(tmp_path_factory.mktemp("moto"))
    try:
        yield server
    finally:
        server.child.stop()


@pytest.mark.slow
def test_what_is_put_into_a_bucket_arrives_by_http(moto: aws.Aws) -> None:
    """S3 → SNS → HTTP, with moto's own signature and certificate."""
    bucket, topic = moto.bucket(), moto.topic()
    settings = SETTINGS.model_copy(update={"topic": topic, "container": bucket})

    def fetch(url: str) -> bytes:
        assert is_certificate_url(url, topic_of(settings))
        return moto.certificate(url)

    sns = Sns(fetch=fetch)
    with listening(plain(200)) as (address, got):
        endpoint = f"{address}/hooks/models?code={sns_signer.SECRET.replace(' ', '%20')}"
        moto.client("sns").subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint)
        moto.tell(bucket, **aws.to_topic(topic))
        moto.put(bucket, "digits/v1/größe und maß.onnx")
        moto.put(bucket, "digits/v1/model.json")
        moto.put(bucket, "elsewhere/v1/model.json")
    for each in got:
        sns.verify(each, settings)
    told = [hint.text for each in got for hint in sns.read(each, settings).hints]
    assert told == [f"s3://{bucket}/digits/v1/größe und maß.onnx", f"s3://{bucket}/digits/v1/model.json"]
    # S3's own test event came too, and the one of another folder.
    assert len(got) == 4
    with pytest.raises(WebhookRefused):
        sns.verify(got[-1], settings.model_copy(update={"topic": topic + "2"}))


@pytest.mark.slow
@pytest.mark.usefixtures("keys")
def test_a_subscription_is_confirmed_at_aws(moto: aws.Aws) -> None:
    topic = moto.topic()
    confirm_subscription(Topic(topic, "aws", aws.REGION), "token", endpoint_url=moto.endpoint)
    with pytest.raises(WebhookRefused, match="NotFound") as refused:
        confirm_subscription(Topic(topic + "-gone", "aws", aws.REGION), "token", endpoint_url=moto.endpoint)
    assert not refused.value.retriable


@pytest.mark.usefixtures("keys")
def test_the_confirmation_is_one_that_strangers_cannot_undo() -> None:
    yes = b"<ConfirmSubscriptionResponse><ConfirmSubscriptionResult/></ConfirmSubscriptionResponse>"
    with listening(plain(200, yes)) as (address, got):
        confirm_subscription(topic_of(SETTINGS), "to&ken", endpoint_url=address)
    body = got[0].body.decode()
    assert "Action=ConfirmSubscription" in body
    assert "Token=to%26ken" in body
    assert "AuthenticateOnUnsubscribe=true" in body


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.usefixtures("keys")
def test_a_confirmation_that_fails_for_now_is_asked_again(status: int) -> None:
    with listening(plain(status)) as (address, _), pytest.raises(WebhookUnchecked):
        confirm_subscription(topic_of(SETTINGS), "token", endpoint_url=address)
    with pytest.raises(WebhookUnchecked):
        confirm_subscription(topic_of(SETTINGS), "t", endpoint_url="http://127.0.0.1:9")


def test_without_credentials_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*aws.KEYS, "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with listening(plain(200)) as (address, got), pytest.raises(WebhookUnchecked, match="NoCredentials"):
        confirm_subscription(topic_of(SETTINGS), "token", endpoint_url=address)
    assert not got


def test_it_may_be_asked_from_several_threads() -> None:
    world = World()
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(20):
                assert world.hints(request(signed(message(BODY))))
        except BaseException as error:  # noqa: BLE001 - it is what the test looks at
            wrong.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
    assert 1 <= len(world.fetched) <= 4

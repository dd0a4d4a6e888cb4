"""The providers of stores and model registries, described for the conformance suite."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from functools import partial

from linkspan.webhooks.base import Request, WebhookSettings
from linkspan.webhooks.providers.proofs import secret_of
from linkspan.webhooks.providers.sns import Sns
from tests.webhooks import aws, sns_signer
from tests.webhooks.samples import (
    NOW,
    OTHER_SECRET,
    SECRET,
    Headers,
    Sample,
    changed,
    payload,
    post,
    settings,
    with_header,
)

JSON = {"content-type": "application/json; charset=utf-8"}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"content-type": "application/cloudevents-batch+json; charset=utf-8"}
NOTIFICATION = JSON | {
    "aeg-event-type": "Notification",
    "aeg-subscription-name": "MODELS",
    "aeg-delivery-count": "0",
    "aeg-data-version": "",
    "aeg-metadata-version": "1",
}
BINARY = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-type": "Microsoft.Storage.BlobCreated",
    "ce-source": "/subscriptions/5b4b/providers/Microsoft.Storage/storageAccounts/harbourmodels",
    "ce-subject": "/blobServices/default/containers/models/blobs/vision/digits/v12/model.json",
    "ce-id": "4f1d2c80-401e-0046-1a5c-d9b0f7069631",
    "ce-time": "2026-11-22T20:20:28.9584103Z",
}

Make = Callable[[bytes, WebhookSettings], Request]


def in_query(headers: Headers, name: str = "code") -> Make:
    """Who shows the secret in the URL."""
    return lambda body, settings: post(body, headers, [(name, secret_of(settings))])


def in_header(headers: Headers) -> Make:
    """Who adds a header with the secret."""
    return lambda body, settings: post(body, {**headers, "x-linkspan-secret": secret_of(settings)})


def basic(body: bytes, settings: WebhookSettings) -> Request:
    pair = base64.b64encode(f"{settings.username}:{secret_of(settings)}".encode()).decode()
    return post(body, {**JSON, "authorization": f"Basic {pair}"})


def other_secrets(_: bytes) -> Sequence[str]:
    """What is near the secret, and is not it."""
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    return [
        digest,
        SECRET.upper(),
        SECRET[:-1],
        f"{SECRET} ",
        f" {SECRET}",
        f"{SECRET},{SECRET}",
        f"code={SECRET}",
    ]


def other_basics(_: bytes) -> Sequence[str]:
    pairs = [
        "linkspan:",
        f":{SECRET}",
        f"Linkspan:{SECRET}",
        f"linkspan:{SECRET}x",
        SECRET,
        f"linkspan:{SECRET}:",
    ]
    encoded = [base64.b64encode(pair.encode()).decode() for pair in pairs]
    right = base64.b64encode(f"linkspan:{SECRET}".encode()).decode()
    wrong = [f"Bearer {right}", right, f"Basic linkspan:{SECRET}", f"Basic {right},", "Basic", "Digest x"]
    return [*(f"Basic {each}" for each in encoded), *wrong]


def sns(body: bytes, settings: WebhookSettings, version: str = "2") -> Request:
    """The body as SNS's message; the secret goes into the URL, and the signature into the envelope."""
    document = sns_signer.message(
        body.decode(errors="replace"), Timestamp="2026-11-22T20:20:29.000Z", SignatureVersion=version
    )
    return sns_signer.request(sns_signer.signed(document), secret=secret_of(settings), received=NOW)


def spoiled(**changes: str) -> Request:
    """SNS's message with something changed after it was signed."""
    document = json.loads(sns(RECORDS, sns_source).body) | changes
    return sns_signer.request(document, received=NOW)


def mlflow(body: bytes, settings: WebhookSettings, delivery: str = "5e1c", age: int = 0) -> Request:
    """As mlflow/webhooks/delivery.py signs."""
    timestamp = str(int(NOW.timestamp()) - age)
    mac = hmac.new(
        secret_of(settings).encode(), f"{delivery}.{timestamp}.".encode() + body, "sha256"
    ).digest()
    headers = {
        "content-type": "application/json",
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": timestamp,
        "x-mlflow-signature": "v1," + base64.b64encode(mac).decode(),
    }
    return post(body, headers)


def other_mlflows(body: bytes) -> Sequence[str]:
    key, signed = SECRET.encode(), f"5e1c.{int(NOW.timestamp())}.".encode() + body
    right = base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
    return [
        "v1," + base64.b64encode(hmac.new(key, signed, "sha1").digest()).decode(),
        "v1," + base64.b64encode(hmac.new(key, body, "sha256").digest()).decode(),
        "v1," + hmac.new(key, signed, "sha256").hexdigest(),
        "v2," + right,
        "v1=" + right,
        right,
        "v1,",
        SECRET,
    ]


def blobs(body: bytes, *at: int) -> dict[str, bytes]:
    """Events of Azure, in either schema, that do not count."""
    schema, kind = ("topic", "eventType") if at and b"eventType" in body else ("source", "type")
    subject = "/blobServices/default/containers"
    account = (
        "/subscriptions/5b4b/resourceGroups/ml/providers/Microsoft.Storage/storageAccounts/harbourmodels2"
    )
    return {
        "other container": changed(body, *at, "subject", to=f"{subject}/datasets/blobs/vision/digits/v1/a"),
        "other prefix": changed(body, *at, "subject", to=f"{subject}/models/blobs/vision/digits2/v1/a"),
        "container in other case": changed(
            body, *at, "subject", to=f"{subject}/Models/blobs/vision/digits/v1/a"
        ),
        "other account": changed(body, *at, schema, to=account),
        "no account": changed(body, *at, schema, to=""),
        "removed": changed(body, *at, kind, to="Microsoft.Storage.BlobDeleted"),
        "begun, not written": changed(body, *at, "data", "api", to="CreateFile"),
    }


event_grid = settings("event-grid", container="harbourmodels/models", prefix="vision/digits")
event_bridge = settings("event-bridge", container="models", prefix="vision/digits")
sns_source = settings("sns", container="models", prefix="digits", topic=sns_signer.TOPIC)
mlflow_source = settings("mlflow", container="digits")

BLOB, CLOUD = payload("event_grid_blob_created.json"), payload("cloud_event_blob_created.json")
BATCHED = b"[" + CLOUD.strip() + b"]"
DATA = json.dumps(json.loads(CLOUD)["data"]).encode() + b"\n"
BRIDGE, VERSION = payload("event_bridge_object_created.json"), payload("mlflow_model_version_created.json")
RECORDS = aws.text_of(aws.record()).encode()

_other_write = {
    "eTag": '"0x8DE29F6B3C0A1F3"',
    "sequencer": "00000000000000000000000000013A9D0000000000028964",
}
_bridge_elsewhere = {
    "other bucket": changed(BRIDGE, "detail", "bucket", "name", to="models2"),
    "other prefix": changed(BRIDGE, "detail", "object", "key", to="vision/digits-old/v1/model.json"),
    "removed": changed(BRIDGE, "detail-type", to="Object Deleted"),
    "of another service": changed(BRIDGE, "source", to="my.app"),
}
_sns_spoiled = {
    "other secret": sns(RECORDS, settings("sns", secret=OTHER_SECRET)),
    "missing proof": sns_signer.request(
        sns_signer.message(RECORDS.decode(), Timestamp="2026-11-22T20:20:29.000Z"), received=NOW
    ),
    "empty proof": spoiled(Signature=""),
    "other algorithm": spoiled(SignatureVersion="1"),
    "duplicated proof": Request(
        **vars(sns(RECORDS, sns_source)) | {"query": (("code", SECRET), ("code", SECRET))}
    ),
}

SAMPLES = [
    Sample(
        name="event-grid",
        settings=event_grid,
        body=BLOB,
        make=in_query(NOTIFICATION),
        proof="?code",
        other_proofs=other_secrets,
        elsewhere=blobs(BLOB, 0),
        retold={
            "tried again": with_header(in_query(NOTIFICATION)(BLOB, event_grid), "aeg-delivery-count", "3"),
            "by another subscription": in_query(NOTIFICATION)(
                changed(BLOB, 0, "id", to="c0ffee"), event_grid
            ),
            "in the other schema": in_query(STRUCTURED)(CLOUD, event_grid),
        },
        news={
            "the next write": in_query(NOTIFICATION)(
                changed(BLOB, 0, "data", to=json.loads(DATA) | _other_write), event_grid
            )
        },
        signs=False,
        unsigned_headers=["aeg-subscription-name", "aeg-event-type"],
    ),
    Sample(
        name="event-grid-header",
        settings=event_grid,
        body=BLOB,
        make=in_header(NOTIFICATION),
        proof="x-linkspan-secret",
        other_proofs=other_secrets,
        elsewhere=blobs(BLOB, 0),
        signs=False,
    ),
    Sample(
        name="cloud-event",
        settings=event_grid,
        body=CLOUD,
        make=in_query(STRUCTURED, "token"),
        proof="?token",
        other_proofs=other_secrets,
        elsewhere=blobs(CLOUD),
        signs=False,
    ),
    Sample(
        name="cloud-event-batch",
        settings=event_grid,
        body=BATCHED,
        make=in_query(BATCH),
        proof="?code",
        other_proofs=other_secrets,
        elsewhere=blobs(BATCHED, 0),
        retold={"alone": in_query(STRUCTURED)(CLOUD, event_grid)},
        signs=False,
    ),
    Sample(
        name="cloud-event-binary",
        settings=event_grid,
        body=DATA,
        make=in_query(BINARY),
        proof="?code",
        other_proofs=other_secrets,
        elsewhere={"begun, not written": changed(DATA, "api", to="SftpCreate")},
        retold={"structured": in_query(STRUCTURED)(CLOUD, event_grid)},
        signs=False,
    ),
    Sample(
        name="event-bridge",
        settings=event_bridge,
        body=BRIDGE,
        make=in_header(JSON),
        proof="x-linkspan-secret",
        other_proofs=other_secrets,
        elsewhere=_bridge_elsewhere,
        news={
            "the next write": in_header(JSON)(
                changed(BRIDGE, "detail", "object", "sequencer", to="00674F6F9A4C0D2E62"), event_bridge
            )
        },
        signs=False,
    ),
    Sample(
        name="event-bridge-basic",
        settings=event_bridge,
        body=BRIDGE,
        make=basic,
        proof="authorization",
        other_proofs=other_basics,
        elsewhere=_bridge_elsewhere,
        signs=False,
    ),
    *(
        Sample(
            name=f"sns-{version}",
            settings=sns_source,
            body=RECORDS,
            make=partial(sns, version=version),
            proof="",
            other_proofs=lambda _: [],
            elsewhere={
                "other bucket": aws.text_of(aws.record("models2")).encode(),
                "other prefix": aws.text_of(aws.record(key="digits2/v1/model.json")).encode(),
                "removed": aws.text_of(aws.record(eventName="ObjectRemoved:Delete")).encode(),
                "a test": b'{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"models"}',
            },
            news={"another file": sns(aws.text_of(aws.record(key="digits/v12/b")).encode(), sns_source)},
            spoiled=_sns_spoiled,
            unsigned_headers=["x-amz-sns-message-id", "x-amz-sns-topic-arn", "x-amz-sns-message-type"],
            # A topic's delivery policy may name it.
            other_types=["application/json"],
            rules=Sns(fetch=lambda _: sns_signer.certificate()),
        )
        for version in ("1", "2")
    ),
    Sample(
        name="mlflow",
        settings=mlflow_source,
        body=VERSION,
        make=mlflow,
        proof="x-mlflow-signature",
        other_proofs=other_mlflows,
        elsewhere={
            "other model": changed(VERSION, "data", "name", to="letters"),
            "model in other case": changed(VERSION, "data", "name", to="Digits"),
            "a test": changed(VERSION, "data", "name", to="example_model"),
            "other event": changed(VERSION, "entity", to="registered_model"),
            "removed": changed(VERSION, "action", to="deleted"),
        },
        retold={"tried again": mlflow(VERSION, mlflow_source, age=200)},
        news={"another delivery": mlflow(VERSION, mlflow_source, delivery="5e1d")},
    ),
]

"""Stores and model registries: handshakes, what counts as written, and where a secret may be shown."""

import json
from dataclasses import replace
from typing import Any

import pytest

from linkspan.errors import ConfigError, WebhookRefused
from linkspan.webhooks.base import Provider, Reading, Request, WebhookSettings
from linkspan.webhooks.providers import event_bridge, event_grid, mlflow, s3_events
from linkspan.webhooks.providers.register import PROVIDERS, provider
from linkspan.webhooks.providers.written import key_of
from tests.webhooks import aws
from tests.webhooks.providers import store_samples
from tests.webhooks.providers.listener import listening, plain
from tests.webhooks.providers.store_samples import (
    BATCH,
    BLOB,
    BRIDGE,
    CLOUD,
    JSON,
    NOTIFICATION,
    STRUCTURED,
    VERSION,
    in_header,
    in_query,
)
from tests.webhooks.samples import OTHER_SECRET, SECRET, changed, payload, post, settings, with_header

GRID = store_samples.event_grid
VALIDATION = payload("event_grid_validation.json")
VALIDATING = JSON | {"aeg-event-type": "SubscriptionValidation", "aeg-delivery-count": "0"}


def accepted(rules: Provider, request: Request, source: WebhookSettings) -> Reading:
    rules.verify(request, source)
    return rules.read(request, source)


def grid(body: bytes, source: WebhookSettings = GRID) -> Reading:
    headers = NOTIFICATION if body.lstrip().startswith(b"[") else STRUCTURED
    return accepted(event_grid, in_query(headers)(body, source), source)


# Handshakes


def test_event_grids_code_goes_back_and_its_url_is_not_called() -> None:
    with listening(plain(200)) as (address, got):
        body = changed(VALIDATION, 0, "data", "validationUrl", to=f"{address}/validate?id=1")
        reading = accepted(event_grid, in_query(VALIDATING)(body, GRID), GRID)
        assert not got
    assert reading.reply == {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}
    assert not reading.hints
    assert reading.ignored


@pytest.mark.parametrize("query", [[], [("code", "")], [("code", OTHER_SECRET)], [("code", SECRET)] * 2])
def test_a_handshake_without_the_secret_is_refused(query: list[tuple[str, str]]) -> None:
    with pytest.raises(WebhookRefused):
        event_grid.verify(post(VALIDATION, VALIDATING, query), GRID)
    with pytest.raises(WebhookRefused):
        event_grid.verify(asking(query), GRID)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + VALIDATION.strip()[1:-1] + b"," + VALIDATION.strip()[1:-1] + b"]",
        b"[" + VALIDATION.strip()[1:-1] + b"," + BLOB.strip()[1:-1] + b"]",
        b"[]",
        BLOB,
        changed(VALIDATION, 0, "data", "validationCode", to=""),
        changed(VALIDATION, 0, "data", "validationCode", to="x" * 201),
        changed(VALIDATION, 0, "data", "validationCode", to=7),
        changed(VALIDATION, 0, "data", to=None),
    ],
)
def test_a_handshake_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        accepted(event_grid, in_query(VALIDATING)(body, GRID), GRID)


def test_a_handshake_is_known_by_its_event_too() -> None:
    assert grid(VALIDATION).reply


def asking(query: list[tuple[str, str]], **headers: str) -> Request:
    """CloudEvents' request for leave to send, as Event Grid makes it."""
    usual = {
        "webhook-request-origin": "eventgrid.azure.net",
        "webhook-request-rate": "120",
        "webhook-request-callback": "https://rp-westeurope.eventgrid.azure.net:553/validate?id=1",
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {name: value for name, value in (usual | named).items() if value}
    return replace(post(b"", given, query), method="OPTIONS")


def test_cloud_events_are_given_leave() -> None:
    reading = accepted(event_grid, asking([("code", SECRET)]), GRID)
    assert dict(reading.reply_headers) == {
        "WebHook-Allowed-Origin": "eventgrid.azure.net",
        "WebHook-Allowed-Rate": "120",
        "Allow": "POST, OPTIONS",
    }
    assert reading.reply == {}
    assert not reading.hints


def test_who_asks_for_no_rate_may_send_at_any() -> None:
    for rate in ("", "*", "1\r\nX: y", "many"):
        reading = accepted(event_grid, asking([("code", SECRET)], webhook_request_rate=rate), GRID)
        assert reading.reply_headers["WebHook-Allowed-Rate"] == "*"


@pytest.mark.parametrize(
    "origin", ["", "*", "a b", "a\r\nSet-Cookie: x", "é.example", "https://x", "x" * 300]
)
def test_leave_is_given_to_a_name_only(origin: str) -> None:
    with pytest.raises(WebhookRefused):
        accepted(event_grid, asking([("code", SECRET)], webhook_request_origin=origin), GRID)


# Event Grid


@pytest.mark.parametrize("api", ["PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose", "SftpCommit"])
def test_whatever_finishes_a_blob_counts(api: str) -> None:
    assert grid(changed(BLOB, 0, "data", "api", to=api)).hints


@pytest.mark.parametrize("api", ["CreateFile", "SftpCreate"])
def test_whatever_only_begins_one_does_not(api: str) -> None:
    reading = grid(changed(BLOB, 0, "data", "api", to=api))
    assert not reading.hints
    assert "follows" in reading.ignored


def moved(path: str, kind: str = "Directory") -> bytes:
    event = json.loads(CLOUD)
    place = "https://harbourmodels.dfs.core.windows.net/models"
    event["type"] = f"Microsoft.Storage.{kind}Renamed"
    event["subject"] = f"/blobServices/default/containers/models/blobs/{path}"
    event["data"] = {
        "api": "RenameDirectory",
        "destinationUrl": f"{place}/{path}",
        "sourceUrl": f"{place}/tmp",
        "sequencer": "00000000000000000000000000013A9D0000000000028963",
    }
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (moved("vision/digits/v12"), True),
        (moved("vision/digits"), True),
        (moved("vision"), True),
        (moved("vision/digits2"), False),
        (moved("vis"), False),
        (moved("vision/digits/v12/model.json", "Blob"), True),
        (moved("vision/digits", "Blob"), False),
    ],
)
def test_what_is_moved_to_its_place_counts(body: bytes, *, counts: bool) -> None:
    assert bool(grid(body).hints) == counts


@pytest.mark.parametrize(
    ("container", "counts"),
    [
        ("harbourmodels/models", True),
        ("HarbourModels/models", True),
        ("models", True),
        ("harbourmodels/", True),
        ("", True),
        ("harbour/models", False),
        ("harbourmodels/model", False),
        ("harbourmodels", False),
        ("models/harbourmodels", False),
    ],
)
def test_the_container_of_a_source(container: str, *, counts: bool) -> None:
    source = GRID.model_copy(update={"container": container})
    assert bool(grid(BLOB, source).hints) == counts


@pytest.mark.parametrize(
    ("prefix", "counts"),
    [
        ("", True),
        ("/", True),
        ("vision", True),
        ("/vision/digits/", True),
        ("vision/digits/v12", True),
        ("vision/dig", False),
        ("digits", False),
        ("Vision", False),
        ("vision/digits/v12/model.json", False),
    ],
)
def test_the_prefix_of_a_source_is_a_folder(prefix: str, *, counts: bool) -> None:
    assert bool(grid(BLOB, GRID.model_copy(update={"prefix": prefix})).hints) == counts


def test_a_batch_has_a_hint_for_each_blob() -> None:
    event = json.loads(BLOB)[0]
    numbered = []
    for number in range(5):
        one = json.loads(json.dumps(event))
        one["subject"] = one["subject"].replace("v12", f"v{number}")
        numbered.append(one)
    reading = grid(json.dumps([*numbered, numbered[0]]).encode())
    assert [hint.text for hint in reading.hints[:2]] == [
        "azure://harbourmodels/models/vision/digits/v0/model.json",
        "azure://harbourmodels/models/vision/digits/v1/model.json",
    ]
    assert len(reading.hints) == 6
    assert len({hint.key for hint in reading.hints}) == 5
    assert reading.hints[0].at is not None
    assert reading.hints[0].at.isoformat() == "2026-11-22T20:20:28.958410+00:00"


def test_a_write_is_known_by_its_etag_and_sequencer_else_by_the_events_id() -> None:
    bare = json.loads(CLOUD)
    del bare["data"]["eTag"], bare["data"]["sequencer"]
    other = bare | {"id": "another"}
    first, second = (grid(json.dumps(each).encode()).hints[0].key for each in (bare, other))
    assert first != second
    assert first == grid(json.dumps(bare).encode()).hints[0].key
    assert grid(CLOUD).hints[0].key == grid(changed(CLOUD, "id", to="another")).hints[0].key
    assert grid(CLOUD).hints[0].key != grid(changed(CLOUD, "data", "eTag", to="x")).hints[0].key


def test_cloud_events_headers_are_percent_encoded() -> None:
    headers = store_samples.BINARY | {
        "ce-subject": "/blobServices/default/containers/models/blobs/vision/digits/gr%C3%B6%C3%9Fe.onnx"
    }
    reading = accepted(event_grid, in_query(headers)(store_samples.DATA, GRID), GRID)
    assert reading.hints[0].text.endswith("vision/digits/größe.onnx")


@pytest.mark.parametrize("missing", ["ce-id", "ce-type", "ce-source", "ce-subject"])
def test_a_binary_event_that_lacks_something_is_refused(missing: str) -> None:
    headers = {name: value for name, value in store_samples.BINARY.items() if name != missing}
    with pytest.raises(WebhookRefused):
        accepted(event_grid, in_query(headers)(store_samples.DATA, GRID), GRID)


@pytest.mark.parametrize("body", [changed(CLOUD, "specversion", to="0.3"), BLOB, b"[]"])
def test_what_is_no_cloud_event_1_0_is_refused(body: bytes) -> None:
    for headers in (STRUCTURED, BATCH):
        if (headers, body) != (BATCH, b"[]"):
            with pytest.raises(WebhookRefused):
                accepted(event_grid, in_query(headers)(body, GRID), GRID)


# Where a secret may be shown


def shown(**places: str) -> Request:
    request = post(BRIDGE, JSON, [(name, places[name]) for name in ("code", "token") if name in places])
    return with_header(request, "x-linkspan-secret", places["header"]) if "header" in places else request


@pytest.mark.parametrize(
    "places",
    [
        {"code": SECRET, "header": OTHER_SECRET},
        {"code": OTHER_SECRET, "header": SECRET},
        {"code": SECRET, "token": OTHER_SECRET},
        {"code": OTHER_SECRET},
        {},
    ],
)
def test_every_secret_that_is_shown_must_be_right(places: dict[str, str]) -> None:
    for rules in (event_grid, event_bridge):
        with pytest.raises(WebhookRefused) as refused:
            rules.verify(shown(**places), GRID)
        assert SECRET not in str(refused.value)
        assert OTHER_SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "places", [{"code": SECRET}, {"token": SECRET}, {"header": SECRET}, {"code": SECRET, "header": SECRET}]
)
def test_one_right_secret_is_enough(places: dict[str, str]) -> None:
    event_grid.verify(shown(**places), GRID)
    event_bridge.verify(shown(**places), GRID)


def test_a_right_password_does_not_make_up_for_a_wrong_secret() -> None:
    source = store_samples.event_bridge
    request = store_samples.basic(BRIDGE, source)
    event_bridge.verify(request, source)
    for name in ("x-linkspan-secret",):
        with pytest.raises(WebhookRefused):
            event_bridge.verify(with_header(request, name, OTHER_SECRET), source)
    with pytest.raises(WebhookRefused):
        event_bridge.verify(with_header(in_header(JSON)(BRIDGE, source), "authorization", "Basic x"), source)
    # Event Grid sends no Authorization of ours.
    with pytest.raises(WebhookRefused):
        event_grid.verify(request, source)


# S3


S3 = settings("sqs", container="models", prefix="digits")


def test_keys_are_url_encoded_in_notifications_and_not_in_event_bridge() -> None:
    encoded = aws.record(key="digits/a+b%2Bc%20d/gr%C3%B6%C3%9Fe.onnx")
    assert s3_events.read_records(encoded, S3).hints[0].text == "s3://models/digits/a b+c d/größe.onnx"
    event = json.loads(changed(BRIDGE, "detail", "object", "key", to="digits/a+b%2Bc.onnx"))
    assert s3_events.read_event(event, S3).hints[0].text == "s3://models/digits/a+b%2Bc.onnx"


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(WebhookRefused, match="URL-encoded"):
        s3_events.read_records(aws.record(key="digits/%ff"), S3)


@pytest.mark.parametrize(
    "name",
    [
        "ObjectCreated:Put",
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectCreated:Copy",
        "s3:ObjectCreated:Put",  # MinIO
    ],
)
def test_whatever_makes_an_object_counts(name: str) -> None:
    assert s3_events.read_records(aws.record(eventName=name), S3).hints


@pytest.mark.parametrize(
    "name",
    [
        "ObjectRemoved:Delete",
        "ObjectTagging:Put",
        "LifecycleTransition",
        "ObjectRestore:Completed",
        "Created",
    ],
)
def test_whatever_else_happens_to_one_does_not(name: str) -> None:
    reading = s3_events.read_records(aws.record(eventName=name), S3)
    assert not reading.hints
    assert reading.ignored


@pytest.mark.parametrize(
    "changes", [{"eventSource": "aws:sqs"}, {"eventVersion": "3.0"}, {"eventVersion": "two"}, {"s3": {}}]
)
def test_records_of_an_unknown_form_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WebhookRefused):
        s3_events.read_records(aws.record(**changes), S3)


def test_minio_and_ceph_speak_it_too() -> None:
    for source in ("minio:s3", "ceph:s3"):
        assert s3_events.read_records(aws.record(eventSource=source), S3).hints


def test_a_write_is_known_again_and_another_one_is_not() -> None:
    def key(**changes: Any) -> str:
        document = aws.record()
        document["Records"][0]["s3"]["object"] |= changes
        return s3_events.read_records(document, S3).hints[0].key

    assert key() == key()
    assert (
        len({key(), key(sequencer="01"), key(eTag="0"), key(versionId="3/L4kqtJl"), key(key="digits/b")}) == 5
    )
    # Without a sequencer the same bytes again are told from a message told again by when it happened.
    bare = {"sequencer": None, "eTag": None}
    again = aws.record(eventTime="2026-11-22T10:11:13.345Z")
    again["Records"][0]["s3"]["object"] |= bare
    assert key(**bare) != s3_events.read_records(again, S3).hints[0].key


def test_where_one_part_of_a_key_ends_is_part_of_it() -> None:
    assert (
        len({key_of("s3", *parts) for parts in (["ab", "c"], ["a", "bc"], ["a,b", "c"], ["a", "b,c"])}) == 4
    )
    assert key_of("s3", "a", "") != key_of("s3", "a")


def test_a_name_that_a_terminal_would_obey_is_made_plain() -> None:
    reading = s3_events.read_records(aws.record(key="digits/%1b%5b31m%0a%e2%80%aered" + "x" * 900), S3)
    text = reading.hints[0].text
    assert text.startswith("s3://models/digits/ redxxx")
    assert len(text) <= 300


# MLflow


REGISTRY = store_samples.mlflow_source


@pytest.mark.parametrize(
    ("event", "data", "said"),
    [
        ("model_version.created", {"version": "12", "source": "s"}, "digits version 12 registered"),
        (
            "model_version_alias.created",
            {"version": "12", "alias": "champion"},
            "digits version 12 is now champion",
        ),
        (
            "model_version_tag.set",
            {"version": "12", "key": "ok", "value": "yes"},
            "digits version 12 tagged ok=yes",
        ),
    ],
)
def test_what_mlflow_says_counts(event: str, data: dict[str, str], said: str) -> None:
    assert event in mlflow.EVENTS
    entity, _, action = event.partition(".")
    document = json.loads(VERSION) | {"entity": entity, "action": action, "data": {"name": "digits"} | data}
    request = store_samples.mlflow(json.dumps(document).encode(), REGISTRY)
    assert [hint.text for hint in accepted(mlflow, request, REGISTRY).hints] == [said]


@pytest.mark.parametrize(
    "event",
    ["registered_model.created", "model_version_tag.deleted", "prompt.created", "prompt_version.created"],
)
def test_what_makes_no_model_newer_does_not(event: str) -> None:
    entity, _, action = event.partition(".")
    document = json.loads(VERSION) | {"entity": entity, "action": action}
    reading = accepted(mlflow, store_samples.mlflow(json.dumps(document).encode(), REGISTRY), REGISTRY)
    assert not reading.hints
    assert event in reading.ignored


def test_a_workspace_may_be_named() -> None:
    body = json.dumps(json.loads(VERSION) | {"workspace": "vision"}).encode()
    assert accepted(mlflow, store_samples.mlflow(body, REGISTRY), REGISTRY).hints


def test_mlflows_test_is_a_test_unless_the_model_is_really_called_so() -> None:
    body = changed(VERSION, "data", "name", to="example_model")
    for container, hints in (("", 0), ("digits", 0), ("example_model", 1)):
        source = REGISTRY.model_copy(update={"container": container})
        assert len(accepted(mlflow, store_samples.mlflow(body, source), source).hints) == hints


@pytest.mark.parametrize("age", [301, -301, 86_400, -86_400])
def test_a_replay_after_five_minutes_is_refused(age: int) -> None:
    with pytest.raises(WebhookRefused, match="clocks"):
        mlflow.verify(store_samples.mlflow(VERSION, REGISTRY, age=age), REGISTRY)


def test_another_delivery_or_time_is_not_signed() -> None:
    request = store_samples.mlflow(VERSION, REGISTRY)
    for name, value in {"x-mlflow-delivery-id": "5e1d", "x-mlflow-timestamp": "1795378829"}.items():
        with pytest.raises(WebhookRefused):
            mlflow.verify(with_header(request, name, value), REGISTRY)


# The table


def test_every_provider_of_stores_is_there_by_its_name() -> None:
    assert {"event-grid", "event-bridge", "sns", "mlflow"} <= set(PROVIDERS)
    with pytest.raises(ConfigError, match="event-grid"):
        provider("azure")

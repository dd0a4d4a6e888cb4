"""Events of stores through the receiver as it is served: what is put into a bucket is in the inbox."""

from collections.abc import Iterator

import httpx
import pytest

from linkspan.webhooks.base import Provider, WebhookSettings
from linkspan.webhooks.http.receiver import create_app
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import recent
from linkspan.webhooks.providers.register import provider
from linkspan.webhooks.providers.sns import Sns
from linkspan.webhooks.queues.readers import Queues
from tests.waiting import until
from tests.webhooks import aws, sns_signer
from tests.webhooks.providers import store_samples
from tests.webhooks.samples import SECRET, changed, payload
from tests.webhooks.serving import served
from tests.webhooks.stage import FixedRoutes, patient

URL_SECRET = {"code": SECRET}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.Aws]:
    server = aws.start(tmp_path_factory.mktemp("moto"))
    try:
        yield server
    finally:
        server.child.stop()


def texts(inbox: Inbox) -> set[str]:
    return {each.text for each in recent(inbox.folder, 1000)}


def test_event_grid_subscribes_and_tells(inbox: Inbox) -> None:
    app = create_app(FixedRoutes(models=store_samples.event_grid), inbox, patient())
    with (
        served(app) as port,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", params=URL_SECRET, timeout=600, trust_env=False
        ) as http,
    ):

        def post(body: bytes, **headers: str) -> httpx.Response:
            named = {"content-type": "application/json; charset=utf-8"} | headers
            return http.post("/hooks/models", content=body, headers=named)

        handshake = post(
            payload("event_grid_validation.json"), **{"aeg-event-type": "SubscriptionValidation"}
        )
        assert handshake.status_code == 200
        assert handshake.json() == {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}

        leave = http.options("/hooks/models", headers={"WebHook-Request-Origin": "eventgrid.azure.net"})
        assert leave.status_code == 200
        assert leave.headers["webhook-allowed-origin"] == "eventgrid.azure.net"

        for _ in range(3):
            assert post(store_samples.BLOB).status_code == 202
        cloud = changed(store_samples.CLOUD, "data", "sequencer", to="01")
        assert post(cloud, **{"content-type": "application/cloudevents+json"}).status_code == 202
        http.params = httpx.QueryParams({"code": "another"})
        assert post(payload("event_grid_validation.json")).status_code == 401
        assert http.options("/hooks/models", headers={"WebHook-Request-Origin": "x"}).status_code == 401
    assert len(recent(inbox.folder, 100)) == 2
    assert texts(inbox) == {"azure://harbourmodels/models/vision/digits/v12/model.json"}


@pytest.mark.slow
def test_s3_through_sns(moto: aws.Aws, inbox: Inbox) -> None:
    bucket, topic = moto.bucket(), moto.topic()
    source = sns_signer.SETTINGS.model_copy(update={"topic": topic, "container": bucket})
    sns = Sns(fetch=moto.certificate)

    def rules(name: str) -> Provider:
        return sns if name == "sns" else provider(name)

    app = create_app(FixedRoutes(models=source), inbox, patient(), providers=rules)
    with served(app) as port:
        endpoint = str(httpx.URL(f"http://127.0.0.1:{port}/hooks/models", params=URL_SECRET))
        moto.client("sns").subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint)
        moto.tell(bucket, **aws.to_topic(topic))
        for number in range(3):
            moto.put(bucket, f"digits/v{number}/model.json")
        moto.put(bucket, "elsewhere/v1/model.json")
    assert texts(inbox) == {f"s3://{bucket}/digits/v{number}/model.json" for number in range(3)}


@pytest.mark.slow
def test_s3_through_a_queue(moto: aws.Aws, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.KEYS.items():
        monkeypatch.setenv(name, value)
    bucket, (url, arn) = moto.bucket(), moto.queue()
    moto.tell(bucket, **aws.to_queue(arn))
    source = WebhookSettings.model_validate(
        {
            "provider": "sqs",
            "secret": SECRET,
            "start": ["model-stream/digits"],
            "container": bucket,
            "prefix": "digits",
            "queue": url,
        }
    )
    said: list[str] = []
    queues = Queues(inbox, said.append)
    queues.follow({"models": source})
    try:
        for number in range(12):
            moto.put(bucket, f"digits/v{number}/model.json")
        until(lambda: len(texts(inbox)) == 12 and moto.in_queue(url) == 0)
    finally:
        queues.stop()
    assert len(said) == 12

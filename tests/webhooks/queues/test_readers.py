"""Sources that cannot call: their queues are read while there is a route, and every hint starts once."""

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from linkspan.webhooks.base import Hint, WebhookSettings
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import recent
from linkspan.webhooks.queues import readers
from linkspan.webhooks.queues.readers import Queues
from tests.waiting import until
from tests.webhooks import aws
from tests.webhooks.prefect_fake import prefect_fake
from tests.webhooks.process import environment, routes_file, serving
from tests.webhooks.serving import SECRET, route


def queue(url: str, *, container: str = "models", start: str = "model-stream/digits") -> WebhookSettings:
    return WebhookSettings.model_validate(
        {"provider": "sqs", "secret": SECRET, "start": [start], "queue": url, "container": container}
    )


class Consumers:
    """In the place of `consume`: who reads which queue."""

    def __init__(self) -> None:
        self.reading: list[str] = []
        self.accept: dict[str, Callable[[Sequence[Hint]], None]] = {}
        self.mistakes = 0

    def __call__(
        self,
        settings: WebhookSettings,
        accept: Callable[[Sequence[Hint]], None],
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        if self.mistakes:
            self.mistakes -= 1
            raise KeyError("a mistake of ours")
        self.reading.append(settings.queue)
        self.accept[settings.queue] = accept
        stop.wait()
        self.reading.remove(settings.queue)


@pytest.fixture
def consumers(monkeypatch: pytest.MonkeyPatch) -> Consumers:
    consumers = Consumers()
    monkeypatch.setattr(readers, "consume", consumers)
    return consumers


def test_the_queues_of_the_routes_are_read_and_no_others(inbox: Inbox, consumers: Consumers) -> None:
    reader = Queues(inbox, logging.info)
    reader.follow({"git": route(), "a": queue("https://a"), "b": queue("https://b")})
    until(lambda: sorted(consumers.reading) == ["https://a", "https://b"])
    reader.follow({"a": queue("https://a"), "c": queue("https://c")})
    until(lambda: sorted(consumers.reading) == ["https://a", "https://c"])
    reader.follow({"a": queue("https://other")})
    until(lambda: consumers.reading == ["https://other"])
    reader.stop()
    until(lambda: consumers.reading == [])


def test_a_message_is_kept_when_accept_returns(inbox: Inbox, consumers: Consumers) -> None:
    said: list[str] = []
    reader = Queues(inbox, said.append)
    reader.follow({"models": queue("https://a")})
    until(lambda: "https://a" in consumers.accept)
    for _ in range(2):
        consumers.accept["https://a"]([Hint(key="k", text="s3://models/v1")])
    [arrival] = recent(inbox.folder)
    assert (arrival.source, arrival.text) == ("models", "s3://models/v1")
    assert said == ["accepted models from its queue: s3://models/v1 → model-stream/digits"]
    reader.stop()


def test_a_mistake_of_ours_does_not_end_the_reading(
    inbox: Inbox, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "AGAIN_SECONDS", 0.05)
    consumers.mistakes = 2
    said: list[str] = []
    reader = Queues(inbox, said.append)
    reader.follow({"models": queue("https://a")})
    until(lambda: consumers.reading == ["https://a"])
    assert len(said) == 2
    assert "a mistake in Linkspan" in said[0]
    reader.stop()


def test_what_is_no_queue_is_said(inbox: Inbox) -> None:
    said: list[str] = []
    reader = Queues(inbox, said.append)
    reader.follow({"models": queue("nonsense")})
    until(lambda: said)
    assert "'nonsense' is no queue's URL" in said[0]
    reader.stop()


@pytest.mark.calm
def test_from_a_bucket_to_a_run_through_a_kill(tmp_path: Path) -> None:
    """moto's S3 tells its SQS; the receiver is killed, and what came meanwhile is read by the next."""
    moto = aws.start(tmp_path)
    try:
        bucket, (url, arn) = moto.bucket(), moto.queue(VisibilityTimeout="1")
        moto.tell(bucket, **aws.to_queue(arn))
        with prefect_fake() as fake:
            env = environment(tmp_path, fake.api_url) | aws.KEYS | {"NO_PROXY": "127.0.0.1"}
            settings = queue(url, container=bucket).model_dump() | {"secret": SECRET}
            file = routes_file(tmp_path, {"models": settings})
            with serving(tmp_path, env, file) as receiver:
                for number in range(10):
                    moto.put(bucket, f"digits/v{number}/model.json")
                until(lambda: len(recent(receiver.inbox)) == 10)
                assert receiver.child
                receiver.child.kill()
                for number in range(10, 15):
                    moto.put(bucket, f"digits/v{number}/model.json")
                receiver.start()
                until(lambda: len(recent(receiver.inbox)) == 15)
                until(lambda: receiver.states() == ["started"])
                receiver.child._popen.send_signal(signal.SIGTERM)
                assert receiver.child._popen.wait(240) == 0
                texts = [each.text for each in recent(receiver.inbox)]
        assert len(set(texts)) == 15
        assert sum(fake.started().values()) == len({key for _, key in fake.runs}) <= 15
    finally:
        moto.child.stop()

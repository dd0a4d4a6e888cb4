"""Reading a queue: nothing goes before it is kept, nothing unreadable is lost or looped, it stops at once."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from linkspan.errors import ConfigError, QueueUnavailable, WebhookRefused
from linkspan.processes import free_port
from linkspan.webhooks.base import Hint, WebhookSettings
from linkspan.webhooks.queues import consumer
from linkspan.webhooks.queues.consumer import consume, hints_in
from linkspan.webhooks.queues.sqs import Message, SqsQueue
from tests.waiting import until
from tests.webhooks import aws, sns_signer


def settings(bucket: str = "models", topic: str = "", url: str = "") -> WebhookSettings:
    return sns_signer.SETTINGS.model_copy(
        update={"provider": "sqs", "container": bucket, "prefix": "digits", "topic": topic, "queue": url}
    )


class Kept:
    """An inbox: hints in the order in which they were kept; `broken` makes it fail so often first."""

    def __init__(self, broken: int = 0) -> None:
        self.hints: list[Hint] = []
        self.broken = broken
        self.calls = 0

    def __call__(self, hints: Sequence[Hint]) -> None:
        self.calls += 1
        if self.calls <= self.broken:
            raise OSError("No space left on device")
        self.hints += hints

    @property
    def texts(self) -> list[str]:
        return [hint.text for hint in self.hints]


class Scripted:
    """A queue that answers what a test says, then waits like a real one."""

    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/events"

    def __init__(self, *answers: list[Message] | Exception) -> None:
        self._answers = list(answers)
        self.deleted: list[str] = []
        self.back: list[str] = []
        self.received = 0
        self.release = threading.Event()
        self.waits = threading.Event()
        self.late: list[Message] = []

    def receive(self) -> Sequence[Message]:
        self.received += 1
        if not self._answers:
            self.waits.set()
            self.release.wait()
            return self.late
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def delete(self, messages: Sequence[Message]) -> None:
        self.deleted += [each.id for each in messages]

    def put_back(self, messages: Sequence[Message]) -> None:
        self.back += [each.id for each in messages]


def told(number: int, **changes: Any) -> Message:
    body = aws.text_of(aws.record(key=f"digits/v{number}/model.json", **changes))
    return Message(id=f"m{number}", handle=f"h{number}", body=body)


@contextmanager
def consuming(
    queue: Any, accept: Callable[[Sequence[Hint]], None], bucket: str = "models", url: str = ""
) -> Iterator[list[str]]:
    """A consumer in a thread, and what it says; at its end it waits for no answer of the queue."""
    stop, said = threading.Event(), list[str]()
    thread = threading.Thread(
        target=consume,
        args=(settings(bucket, url=url), accept, stop, said.append),
        kwargs={"queue": queue},
        daemon=True,
    )
    thread.start()
    try:
        yield said
    finally:
        stop.set()
        thread.join(240)
        assert not thread.is_alive()  # and a scripted queue would wait for ever
        if queue:
            queue.release.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(consumer, "_LONGEST_PAUSE", 0.1)


@pytest.mark.usefixtures("quick")
def test_a_message_goes_when_its_hints_are_kept() -> None:
    queue = Scripted([told(1), told(2)], [], [told(3)])
    kept = Kept()
    with consuming(queue, kept) as said:
        until(queue.waits.is_set)
    assert kept.texts == [f"s3://models/digits/v{number}/model.json" for number in (1, 2, 3)]
    assert queue.deleted == ["m1", "m2", "m3"]
    assert kept.calls == 2
    assert not said


@pytest.mark.usefixtures("quick")
def test_what_is_not_for_us_goes_and_starts_nothing() -> None:
    test = Message(id="test", handle="h", body='{"Service": "Amazon S3", "Event": "s3:TestEvent"}')
    removed = told(4, eventName="ObjectRemoved:Delete")
    elsewhere = Message(id="e", handle="h", body=aws.text_of(aws.record(bucket="others")))
    queue = Scripted([test, removed, elsewhere])
    kept = Kept()
    with consuming(queue, kept):
        until(queue.waits.is_set)
    assert queue.deleted == ["test", "m4", "e"]
    assert not kept.calls


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_read_stays_and_is_said_once() -> None:
    broken = Message(id="broken", handle="h", body='{"hello": \x1b[31m"world"}')
    queue = Scripted([told(1), broken], [broken], [broken, told(2)])
    kept = Kept()
    with consuming(queue, kept) as said:
        until(queue.waits.is_set)
    assert queue.deleted == ["m1", "m2"]
    assert len(kept.texts) == 2
    assert len(said) == 1
    assert "cannot be read and stays there" in said[0]
    assert "\x1b" not in said[0]


def test_what_cannot_be_read_is_not_asked_for_in_a_hot_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_FIRST_PAUSE", 0.3)
    broken = Message(id="broken", handle="h", body="?")
    queue = Scripted(*[[broken] for _ in range(1000)])
    begin = time.monotonic()
    with consuming(queue, Kept()):
        time.sleep(1)  # how much happens in a time is what is tested
    assert queue.received <= 2 + (time.monotonic() - begin) / 0.3


@pytest.mark.usefixtures("quick")
def test_an_inbox_that_fails_holds_the_message_and_receives_nothing_more() -> None:
    queue = Scripted([told(1)])
    kept = Kept(broken=5)
    with consuming(queue, kept) as said:
        until(lambda: bool(queue.deleted))
        # Received once: the queue counts, and gives a message up that was received too often.
        until(queue.waits.is_set)
    assert kept.texts == ["s3://models/digits/v1/model.json"]
    assert kept.calls == 6
    assert queue.received == 2
    assert len(said) == 2
    assert "No space left on device" in said[0]


@pytest.mark.usefixtures("quick")
def test_an_inbox_that_stays_broken_does_not_keep_it_from_stopping() -> None:
    queue = Scripted([told(1)])
    kept = Kept(broken=10**9)
    with consuming(queue, kept):
        until(lambda: kept.calls > 3)
    assert not queue.deleted


@pytest.mark.usefixtures("quick")
def test_a_queue_that_is_away_is_asked_again_and_the_log_hears_it_once() -> None:
    away = QueueUnavailable("the queue cannot be reached")
    queue = Scripted(*[away] * 5, QueueUnavailable("denied"), away, [told(1)])
    kept = Kept()
    with consuming(queue, kept) as said:
        until(queue.waits.is_set)
    assert kept.texts == ["s3://models/digits/v1/model.json"]
    assert [line.partition(";")[0] for line in said] == [
        "the queue cannot be reached",
        "denied",
        "the queue cannot be reached",
        f"{queue.url} is there again",
    ]


def test_pauses_grow_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            paused.append(timeout or 0)
            return False

    patience = consumer._Patience(Clock(), lambda _: None)
    for _ in range(9):
        patience.wait("away")
    assert 0.75 <= paused[0] <= 1
    assert 45 <= paused[-1] <= 60
    assert all(each <= 60 for each in paused)
    patience.over("back")
    patience.wait("away")
    assert paused[-1] <= 1


@pytest.mark.usefixtures("quick")
def test_what_arrives_after_the_end_is_put_back() -> None:
    queue = Scripted()
    queue.late = [told(1)]
    with consuming(queue, Kept()):
        until(queue.waits.is_set)
    queue.release.set()
    until(lambda: queue.back == ["m1"])
    assert not queue.deleted


def test_what_arrives_at_the_very_end_is_put_back() -> None:
    queue = Scripted()
    queue.late = [told(1)]
    others = set(threading.enumerate())

    class Stop(threading.Event):
        """Set just after the last answer came and found nobody gone yet."""

        def is_set(self) -> bool:
            if not queue.waits.is_set():
                return False
            queue.release.set()
            until(lambda: not set(threading.enumerate()) - others)
            return True

    consume(settings(), Kept(), Stop(), print, queue=queue)
    assert queue.back == ["m1"]
    assert not queue.deleted


@pytest.mark.parametrize("url", ["", "events", "https://sqs.eu-central-1.amazonaws.com/", "ftp://a/b/c"])
def test_a_url_that_is_none_of_a_queue(url: str) -> None:
    with pytest.raises(ConfigError, match="no queue's URL"):
        consume(settings(url=url), Kept(), threading.Event(), print)


def test_a_message_through_sns_is_read_for_the_sources_topic_only() -> None:
    body = aws.text_of(sns_signer.message(aws.text_of(aws.record())))
    assert hints_in(body, settings()).hints
    assert hints_in(body, settings(topic=sns_signer.TOPIC)).hints
    other = hints_in(body, settings(topic=sns_signer.TOPIC + "2"))
    assert not other.hints
    assert "another topic" in other.ignored


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "\ud800",
        "[" * 100_000,
        '{"Type": "Notification"}',
        '{"Records": [1]}',
        '{"Records": 7}',
    ],
)
def test_hostile_messages_are_only_refused(body: str) -> None:
    with pytest.raises(WebhookRefused):
        hints_in(body, settings())


# moto


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.Aws]:
    server = aws.start(tmp_path_factory.mktemp("moto"))
    try:
        yield server
    finally:
        server.child.stop()


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_s3_tells_a_queue_and_the_queue_is_empty_after_it(moto: aws.Aws) -> None:
    bucket, (url, arn) = moto.bucket(), moto.queue()
    moto.tell(bucket, **aws.to_queue(arn))
    kept = Kept()
    with consuming(None, kept, bucket, url) as said:
        for number in range(25):
            moto.put(bucket, f"digits/v{number}/model.json")
        moto.put(bucket, "elsewhere/model.json")
        moto.put(bucket, "digits/v9/größe.onnx", b"twice")
        until(lambda: len(kept.hints) == 26 and moto.in_queue(url) == 0)
    assert f"s3://{bucket}/digits/v9/größe.onnx" in kept.texts
    assert len({hint.key for hint in kept.hints}) == 26
    assert not said


@pytest.mark.slow
def test_s3_through_sns_and_s3_through_event_bridge(moto: aws.Aws) -> None:
    bucket, (url, arn), topic = moto.bucket(), moto.queue(), moto.topic()
    moto.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    moto.client("events").put_rule(Name=bucket, EventPattern='{"source": ["aws.s3"]}')
    moto.client("events").put_targets(Rule=bucket, Targets=[{"Id": "queue", "Arn": arn}])
    moto.tell(bucket, **aws.to_topic(topic), EventBridgeConfiguration={})
    kept = Kept()
    with consuming(None, kept, bucket, url) as said:
        moto.put(bucket, "digits/v1/model +1.json")
        until(lambda: len(kept.hints) == 2 and moto.in_queue(url) == 0)
    assert kept.texts == [f"s3://{bucket}/digits/v1/model +1.json"] * 2
    assert not said


@pytest.mark.slow
def test_an_unreadable_message_goes_where_the_redrive_policy_says(
    moto: aws.Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linkspan.webhooks.queues.sqs._HIDDEN_SECONDS", 1)
    dead, dead_arn = moto.queue()
    policy = aws.text_of({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
    url, _ = moto.queue(RedrivePolicy=policy)
    moto.client("sqs").send_message(QueueUrl=url, MessageBody="not for us")
    moto.client("sqs").send_message(QueueUrl=url, MessageBody=aws.text_of(aws.record()))
    kept = Kept()
    with consuming(None, kept, "models", url) as said:
        until(lambda: moto.in_queue(dead) == 1 and moto.in_queue(url) == 0)
    assert len(kept.hints) == 1
    assert len(said) == 1


@pytest.mark.slow
def test_a_consumer_that_is_stopped_hides_nothing_from_the_next(moto: aws.Aws) -> None:
    url, _ = moto.queue(VisibilityTimeout="43200")  # what is hidden stays so for longer than anybody waits
    first, second = Kept(), Kept()
    with consuming(None, first, "models", url):
        time.sleep(0.5)  # it waits at the queue
    # Its last request still waits at the server, and is answered by this.
    moto.client("sqs").send_message(QueueUrl=url, MessageBody=aws.text_of(aws.record()))
    with consuming(None, second, "models", url):
        until(lambda: len(second.hints) == 1)
    assert not first.hints


@pytest.mark.slow
def test_a_queue_that_dies_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    server = aws.start(tmp_path, port)
    kept = Kept()
    try:
        url, _ = server.queue()
        name = url.rpartition("/")[2]
        with consuming(None, kept, "models", url) as said:
            server.client("sqs").send_message(QueueUrl=url, MessageBody=aws.text_of(aws.record()))
            until(lambda: len(kept.hints) == 1)
            server.child.kill()
            until(lambda: said)
            server.child.stop()
            server = aws.start(tmp_path, port)
            # A new moto knows nothing: first there is no such queue, then there is one.
            until(lambda: any("NonExistentQueue" in line for line in said))
            server.client("sqs").create_queue(QueueName=name)
            body = aws.text_of(aws.record(key="digits/v13/model.json"))
            server.client("sqs").send_message(QueueUrl=url, MessageBody=body)
            until(lambda: len(kept.hints) == 2)
        assert "is there again" in said[-1]
    finally:
        server.child.stop()


def test_the_region_is_in_the_url_of_aws() -> None:
    queue = SqsQueue("https://sqs.ap-southeast-2.amazonaws.com/123456789012/events")
    assert queue._client.meta.region_name == "ap-southeast-2"
    assert queue._client.meta.endpoint_url == "https://sqs.ap-southeast-2.amazonaws.com"

"""Amazon SQS: a queue that a bucket fills cannot call us, so it is read.

Who may write to the queue is AWS's to decide, by the queue's policy; there is no signature to check. A
message is deleted only after its hints are durable, so one that was in hand when we were killed comes again.
What cannot be read is left alone: after a few times the queue's redrive policy moves it to where a person
looks.

Sources: Amazon SQS API reference; S3 user guide, "Event notifications"; SNS developer guide, "Fanout to SQS".
"""

import random
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from linkspan.errors import QueueUnavailable, WebhookRefused
from linkspan.webhooks.base import Hint, Reading, WebhookSettings
from linkspan.webhooks.providers import s3_events
from linkspan.webhooks.providers.payload import brief, decode, mapping, text
from linkspan.webhooks.providers.sns import NOTIFICATION, read_message
from linkspan.webhooks.queues.sqs import Message, Queue, SqsQueue

Accept = Callable[[Sequence[Hint]], None]
Say = Callable[[str], None]

# How soon a request to stop is seen while the queue is being waited for.
_GLANCE = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# The log hears of an unreadable message once; this many are remembered.
_REMEMBERED = 1000


class _Patience:
    """Longer and longer pauses while something fails, and one line in the log for each new reason."""

    def __init__(self, stop: threading.Event, say: Say) -> None:
        self._stop = stop
        self._say = say
        self._pause = 0.0
        self._reason = ""

    def wait(self, reason: str) -> None:
        if reason != self._reason:
            self._say(f"{reason}; it is tried again until it works")
        self._reason = reason
        self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
        self._stop.wait(self._pause * random.uniform(0.75, 1.0))  # noqa: S311 - no secret

    def over(self, relief: str) -> None:
        if self._reason:
            self._say(relief)
        self._pause, self._reason = 0.0, ""


def consume(
    settings: WebhookSettings,
    accept: Accept,
    stop: threading.Event,
    say: Say,
    *,
    queue: Queue | None = None,
) -> None:
    """Hand the hints of the settings' queue to `accept` until `stop` is set; then return within a second.

    `accept` returns once the hints are durable; it may be handed the same hint twice. While the queue is
    away, or `accept` raises, it is tried again after 1 s, then up to 60 s. `say` gets a line for the log.
    Raises ConfigError if the URL is none of a queue.
    """
    source = queue or SqsQueue(settings.queue)
    patience = _Patience(stop, say)
    known: dict[str, None] = {}
    while not stop.is_set():
        try:
            messages = _receive(source, stop)
            understood, hints = _understand(source, messages, settings, say, known)
            if hints and not _keep(hints, accept, stop, say):
                return
            source.delete(understood)
            patience.over(f"{source.url} is there again")
        except QueueUnavailable as error:
            patience.wait(str(error))
            continue
        if len(understood) < len(messages):
            # They are hidden for a while; a queue that hides nothing would give them back at once, for ever.
            stop.wait(_FIRST_PAUSE)


def hints_in(body: str, settings: WebhookSettings) -> Reading:
    """The hints in a message: from S3 itself, through EventBridge, or in the envelope of SNS.

    Raises WebhookRefused if it cannot be read.
    """
    document = mapping(decode(body.encode(errors="backslashreplace")))
    if document.get("Type") != NOTIFICATION:
        return s3_events.read_any(document, settings)
    if settings.topic and text(document, "TopicArn") != settings.topic:
        return Reading(ignored=f"another topic: {brief(text(document, 'TopicArn'), 150)}")
    return read_message(document, settings)


def _understand(
    queue: Queue,
    messages: Sequence[Message],
    settings: WebhookSettings,
    say: Say,
    known: dict[str, None],
) -> tuple[list[Message], list[Hint]]:
    """Which of the messages can be read, and what they say; of each other one the log hears once."""
    understood: list[Message] = []
    hints: list[Hint] = []
    for message in messages:
        try:
            hints += hints_in(message.body, settings).hints
            understood.append(message)
        except WebhookRefused as error:
            if message.id not in known:
                known[message.id] = None
                say(f"a message of {queue.url} cannot be read and stays there: {error}")
    while len(known) > _REMEMBERED:
        del known[next(iter(known))]
    return understood, hints


def _keep(hints: Sequence[Hint], accept: Accept, stop: threading.Event, say: Say) -> bool:
    """Have the hints made durable, however long that takes; False if `stop` was set first.

    Meanwhile nothing more is received: the queue counts how often a message was, and gives it up after a few
    times, which must not happen because a disk here is full.
    """
    patience = _Patience(stop, say)
    while True:
        try:
            accept(hints)
        except Exception as error:  # noqa: BLE001 - whatever it was, the messages must stay in the queue
            patience.wait(f"hints of the queue cannot be kept: {error}")
            if stop.is_set():
                return False
        else:
            patience.over("hints of the queue can be kept again")
            return True


def _receive(queue: Queue, stop: threading.Event) -> Sequence[Message]:
    """Wait for messages, up to 20 s; nothing as soon as `stop` is set.

    A request that waits cannot be called back. It goes on in a thread of its own, and what it still brings is
    put back, so that another consumer has it at once.
    """
    answers: SimpleQueue[Any] = SimpleQueue()
    abandoned = threading.Event()

    def ask() -> None:
        try:
            found = queue.receive()
        except QueueUnavailable as error:
            answers.put(error)
            return
        answers.put(found)
        if abandoned.is_set():
            queue.put_back(found)

    threading.Thread(target=ask, name="sqs-receive", daemon=True).start()
    while True:
        try:
            answer = answers.get(timeout=_GLANCE)
        except Empty:
            if not stop.is_set():
                continue
            abandoned.set()
            # It may have answered just before, and then did not see that nobody waits.
            answer = answers.get_nowait() if not answers.empty() else ()
            if not isinstance(answer, QueueUnavailable):
                queue.put_back(answer)
            return ()
        if isinstance(answer, QueueUnavailable):
            raise answer
        found: Sequence[Message] = answer
        return found

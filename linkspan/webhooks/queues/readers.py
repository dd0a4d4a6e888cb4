"""Sources that cannot call us: a thread for each queue that is read."""

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from linkspan.errors import LinkspanError
from linkspan.webhooks.base import Hint, WebhookSettings
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.providers.register import QUEUES
from linkspan.webhooks.queues.consumer import consume

STOP_SECONDS = 5.0
DISK_SECONDS = 30.0
AGAIN_SECONDS = 30.0


@dataclass(frozen=True)
class _Reader:
    settings: WebhookSettings
    stop: threading.Event
    thread: threading.Thread


class Queues:
    """Reads the queues of the routes it was last told of, into the inbox."""

    def __init__(self, inbox: Inbox, say: Callable[[str], None]) -> None:
        self._inbox = inbox
        self._say = say
        self._readers: dict[str, _Reader] = {}
        self._lock = threading.Lock()

    def follow(self, routes: Mapping[str, WebhookSettings]) -> None:
        """Read the queues among these routes from now on, and no others."""
        wanted = {name: each for name, each in routes.items() if each.provider in QUEUES}
        with self._lock:
            for name, reader in list(self._readers.items()):
                if wanted.get(name) != reader.settings:
                    del self._readers[name]
                    reader.stop.set()
                    reader.thread.join(STOP_SECONDS)
            for name, settings in wanted.items():
                if name not in self._readers:
                    self._readers[name] = self._begin(name, settings)

    def stop(self) -> None:
        """Read no more; what was in hand comes again."""
        self.follow({})

    def _begin(self, name: str, settings: WebhookSettings) -> _Reader:
        stop = threading.Event()
        thread = threading.Thread(
            target=self._read, args=(name, settings, stop), name=f"queue-{name}", daemon=True
        )
        thread.start()
        return _Reader(settings, stop, thread)

    def _read(self, name: str, settings: WebhookSettings, stop: threading.Event) -> None:
        def accept(hints: Sequence[Hint]) -> None:
            new = self._inbox.put(name, settings.start, hints, datetime.now(UTC)).result(DISK_SECONDS)
            for hint in new:
                self._say(f"accepted {name} from its queue: {hint.text} → {', '.join(settings.start)}")

        def say(line: str) -> None:
            self._say(f"{name}: {line}")

        while not stop.is_set():
            try:
                consume(settings, accept, stop, say)
            except LinkspanError as error:
                say(f"its queue is not read: {error}")
                return  # until its settings change
            except Exception:  # noqa: BLE001 - a thread that ended here would leave the queue unread, unseen
                say(f"a mistake in Linkspan; its queue is read again soon\n{traceback.format_exc()}")
                stop.wait(AGAIN_SECONDS)

"""Amazon EventBridge: an object was written, told by an API destination.

EventBridge signs nothing. Its connection adds the secret: an API key under the header name
X-Linkspan-Secret, or Basic authentication. It waits 5 s for an answer and tries again for up to 24 hours; a
retry is the same event.

Source: EventBridge user guide, "API destinations" and "Connections".
"""

from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers import s3_events
from linkspan.webhooks.providers.payload import parse
from linkspan.webhooks.providers.proofs import check_shown


def verify(request: Request, settings: WebhookSettings) -> None:
    """Raises WebhookRefused unless the request shows the secret."""
    check_shown(request, settings, basic=True)


def read(request: Request, settings: WebhookSettings) -> Reading:
    """The hint in an event. Raises WebhookRefused."""
    return s3_events.read_event(parse(request), settings)

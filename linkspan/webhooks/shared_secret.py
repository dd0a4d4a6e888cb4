"""A secret that a sender shows with each request, because it can sign nothing.

It proves who sent, not what was sent, nor when: whoever sees one such request can send others. So these rules
want HTTPS in front, and what a hint can do is small: a run starts and looks for itself.
"""

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Request, WebhookSettings
from linkspan.webhooks.signatures import check_basic, check_token

HEADER = "x-linkspan-secret"
# `code` is what Azure's own webhooks call it, `token` what people try next.
PARAMETERS = ("code", "token")


def check_shown(request: Request, settings: WebhookSettings, *, basic: bool = False) -> None:
    """Raises WebhookRefused unless the request shows the source's secret, in exactly one place.

    The places: the header X-Linkspan-Secret, the query (`?code=` or `?token=`) and, with `basic`, HTTP Basic
    authentication. Two of them are ambiguous: a proxy in front may have looked at the other one.
    """
    shown = {f"the header {HEADER}": request.header(HEADER)}
    shown |= {f"the query's {name}": request.parameter(name) for name in PARAMETERS}
    given = {where: value for where, value in shown.items() if value}
    authorized = basic and bool(request.header("authorization"))
    if len(given) + authorized > 1:
        raise WebhookRefused("the secret is shown in several places", expected="one of them")
    if authorized:
        check_basic(request, settings)
    else:
        where, found = next(iter(given.items()), (f"the header {HEADER} or the query's code", ""))
        check_token(settings, found, where)

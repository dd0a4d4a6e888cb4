"""A secret that a sender shows with each request, because it can sign nothing.

It proves who sent, not what was sent, nor when: whoever sees one such request can send others. So these rules
want HTTPS in front, and what a hint can do is small: a run starts and looks for itself.
"""

from linkspan.webhooks.base import Request, WebhookSettings
from linkspan.webhooks.providers.signatures import check_basic, check_token

HEADER = "x-linkspan-secret"
# `code` is what Azure's own webhooks call it, `token` what people try next.
PARAMETERS = ("code", "token")


def check_shown(request: Request, settings: WebhookSettings, *, basic: bool = False) -> None:
    """Raises WebhookRefused unless the request shows the source's secret, and no other.

    The places: the header X-Linkspan-Secret, the query (`?code=` or `?token=`) and, with `basic`, HTTP Basic
    authentication. Each may be there once.
    """
    shown = {f"the header {HEADER}": request.header(HEADER)}
    shown |= {f"the query's {name}": request.parameter(name) for name in PARAMETERS}
    given = {where: found for where, found in shown.items() if found}
    if basic and request.header("authorization"):
        check_basic(request, settings)
    elif not given:
        check_token(settings, "", f"the header {HEADER} or the query's {PARAMETERS[0]}")
    for where, found in given.items():
        check_token(settings, found, where)

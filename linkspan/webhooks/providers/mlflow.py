"""The model registry of MLflow (3 and later): a version was registered, or marked as one to use.

`container` of the source is the name of the registered model; `prefix` is not looked at. Of MLflow's events
those in `EVENTS` count, because a team may publish by any of them; subscribe to the one that is yours.

MLflow's server sends to public HTTPS addresses only; MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true and
MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https in its environment allow others.

Sources: MLflow documentation "Webhooks"; mlflow/webhooks/{delivery,types}.py of 3.x.
"""

from linkspan.webhooks.base import Hint, Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import brief, mapping, moment, parse, text
from linkspan.webhooks.providers.proofs import check_standard, secret_of
from linkspan.webhooks.providers.written import key_of

EVENTS = ["model_version.created", "model_version_alias.created", "model_version_tag.set"]
_CREATED, _NAMED, _ = EVENTS
_HEADERS = ("x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature")
# What MLflow's "test webhook" button talks about.
_EXAMPLE = "example_model"


def verify(request: Request, settings: WebhookSettings) -> None:
    """X-MLflow-Signature: `v1,` and the HMAC-SHA256, in base64, of ID, timestamp and raw body joined by dots.

    That is Standard Webhooks under other headers' names, five minutes of tolerance included.
    """
    check_standard(request, secret_of(settings).encode(), _HEADERS)


def read(request: Request, settings: WebhookSettings) -> Reading:
    """The hint in an event of the registry. Raises WebhookRefused."""
    document = parse(request)
    entity, action = text(document, "entity"), text(document, "action")
    data = mapping(document, "data")
    said = _said(f"{entity}.{action}", data)
    if not said:
        return Reading(ignored=f"{brief(f'{entity}.{action}', 80)} makes no model newer")
    name = text(data, "name")
    if settings.container and name != settings.container:
        return Reading(ignored=f"another model: {brief(name, 120)}")
    if not settings.container and name == _EXAMPLE:
        return Reading(ignored="MLflow tested whether its webhook arrives, and it does")
    # The delivery's ID is signed, and a retry has the same one.
    key = key_of("mlflow", request.header("x-mlflow-delivery-id"))
    return Reading(hints=(Hint(key=key, text=brief(said, 280), at=moment(document, "timestamp")),))


def _said(event: str, data: object) -> str:
    """What happened, in words; nothing if it does not count."""
    if event not in EVENTS:
        return ""
    version = f"{text(data, 'name')} version {text(data, 'version')}"
    if event == _CREATED:
        return f"{version} registered"
    if event == _NAMED:
        return f"{version} is now {text(data, 'alias')}"
    return f"{version} tagged {text(data, 'key')}={text(data, 'value', default='')}"

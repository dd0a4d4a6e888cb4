"""The service's addresses."""

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from scoring import errors, inputs
from scoring.errors import BadInput
from scoring.loader import Loader
from scoring.metrics import Metrics
from scoring.page import Page
from scoring.settings import Settings

DISCARDED = 64 * 1024 * 1024
"""Bytes of a too large body that are read, and thrown away, so that its sender gets to see the 413."""


def blueprint(settings: Settings, loader: Loader, metrics: Metrics, page: Page) -> Blueprint:
    """All routes, over the parts they need."""
    routes = Blueprint("scoring", __name__)

    @routes.get("/")
    def index() -> ResponseReturnValue:
        return Response(page.html, headers=page.headers)

    @routes.post("/score")
    def score() -> ResponseReturnValue:
        model = loader.model
        rows = inputs.read_request(_json_body(settings.max_body), most=settings.max_images)
        predictions = [_prediction(model.labels, row.tolist()) for row in model.score(rows)]
        for prediction in predictions:
            metrics.predicted(str(prediction["label"]))
        return jsonify(predictions=predictions, **settings.release())

    @routes.get("/version")
    def version() -> ResponseReturnValue:
        return jsonify(settings.release())

    @routes.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return jsonify(status="alive")

    @routes.get("/readyz")
    def readyz() -> ResponseReturnValue:
        try:
            model = loader.model
        except errors.ModelNotReady as reason:
            return jsonify(status="not ready", reason=str(reason)), 503
        return jsonify(status="ready", classes=len(model.labels), **settings.release())

    @routes.get("/metrics")
    def metrics_page() -> ResponseReturnValue:
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return routes


def _json_body(largest: int) -> object:
    try:
        raw = request.get_data()
        if request.content_length is None and len(raw) >= largest:
            raise RequestEntityTooLarge  # werkzeug cuts a chunked body off at the limit and says nothing
    except RequestEntityTooLarge:
        # A connection closed while the client still sends is reset, and the client never reads the answer.
        stream, left = request.environ["wsgi.input"], DISCARDED
        while left > 0 and (passed := stream.read(65536)):
            left -= len(passed)
        raise
    try:
        # force, because clients of the reference app send no content type.
        return request.get_json(force=True) if raw else None
    except BadRequest:
        raise BadInput(f"the body is not JSON; {inputs.FORMS}") from None


def _prediction(labels: list[str], probabilities: list[float]) -> dict[str, object]:
    best = max(range(len(labels)), key=probabilities.__getitem__)
    rounded = {label: round(value, 6) for label, value in zip(labels, probabilities, strict=True)}
    return {"label": labels[best], "probability": rounded[labels[best]], "probabilities": rounded}
